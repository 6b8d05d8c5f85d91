//! Where a request's content comes from: read once, looked at, counted, and its beginning held.

use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::Instant;

use super::super::fields;
use crate::alarm::Alarm;
use crate::apps::models::Screening;
use crate::error::{Causes, ProxyError};
use crate::server::{Content, ContentError};
use crate::telemetry::asked::Watch;
use crate::telemetry::meter::Sent;

/// Content up to this size is held; longer content cannot be sent again.
const LONGEST_HELD: usize = 1 << 20;
/// Nor can content in more pieces: each costs memory, however small it is.
const MOST_PIECES: usize = 16 * 1024;
/// How much content is read before its turn, to learn which model it asks for: requests that are refused because of that
/// never reach the resource…
const LONGEST_LOOK: usize = 64 * 1024;
/// …nor in more pieces.
const MOST_LOOKED_AT: usize = 1024;

/// How much of the content there is to come.
#[derive(Debug)]
pub(super) enum Arrival {
    Coming,
    Ended,
    /// It cannot be had, and that is the caller's doing.
    Broken(ProxyError),
}

#[derive(Debug)]
pub(super) struct Source {
    pub(super) incoming: Content,
    /// What has come so far, or nothing once that was too much.
    pub(super) held: Vec<Bytes>,
    pub(super) held_bytes: usize,
    pub(super) complete: bool,
    pub(super) arrival: Arrival,
    pub(super) received: u64,
    pub(super) sent: Option<Sent>,
    /// Looks for what is to be told, as long as there is something to find.
    pub(super) watch: Option<Watch>,
    /// The most that may come.
    pub(super) most: u64,
    /// Which attempt may read: a connection that failed may still hold the body of an earlier one.
    pub(super) attempt: u32,
    /// Since when nobody will take more of it.
    pub(super) taken: Option<Instant>,
    /// When content last moved, and whether it is the caller that is waited for since.
    pub(super) moved: Instant,
    pub(super) awaited: bool,
    /// For how long nothing may move, for a caller that stops after it was answered early: nobody waits for its request then.
    pub(super) longest: Duration,
    pub(super) alarm: Alarm,
    /// Looks at what the content asks for before it goes on.
    pub(super) screening: Option<Screening>,
}

/// Why content broke off.
#[derive(Debug, thiserror::Error)]
pub(in crate::forward) enum UploadError {
    #[error("the caller broke off")]
    Caller(#[source] ContentError),
    #[error("the caller was silent")]
    Silent,
    #[error("the request's content is too long")]
    TooLong,
    #[error("the request's content asks for what it may not")]
    Denied,
    #[error("the request is being sent on another connection")]
    Superseded,
}

impl Source {
    /// Whether it is not yet known which model is asked for, and may be from what comes next.
    pub(super) fn wants_a_look(&self) -> bool {
        matches!(self.arrival, Arrival::Coming)
            && self.held_bytes < LONGEST_LOOK
            && self.held.len() < MOST_LOOKED_AT
            && self.screening.as_ref().is_some_and(|screening| !screening.has_seen())
    }

    pub(super) fn fault(&self) -> Option<&ProxyError> {
        match &self.arrival {
            Arrival::Broken(error) => Some(error),
            Arrival::Coming | Arrival::Ended => None,
        }
    }

    /// Looks at what has come, before anybody takes it.
    pub(super) fn look(&mut self, data: Option<&Bytes>, is_end: bool) -> Result<(), UploadError> {
        let Some(screening) = &mut self.screening else { return Ok(()) };
        let looked = data.map_or(Ok(()), |data| screening.read(data));
        looked.and_then(|()| if is_end { screening.end() } else { Ok(()) }).map_err(|error| {
            self.arrival = Arrival::Broken(error);
            self.end();
            UploadError::Denied
        })
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let frame = Pin::new(&mut self.incoming).poll_frame(cx);
        self.awaited = frame.is_pending();
        let Poll::Ready(frame) = frame else {
            ready!(self.alarm.poll_until(cx, self.moved + self.longest));
            self.end();
            return Poll::Ready(Some(Err(UploadError::Silent)));
        };
        self.moved = Instant::now();
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                let problem = format!("the request's content broke off: {}", Causes(&error));
                self.arrival = Arrival::Broken(ProxyError::InvalidRequest(problem.into()));
                self.end();
                return Poll::Ready(Some(Err(UploadError::Caller(error))));
            }
            None => {
                if let Err(error) = self.look(None, true) {
                    return Poll::Ready(Some(Err(error)));
                }
                self.arrival = Arrival::Ended;
                self.end();
                return Poll::Ready(None);
            }
        };
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        self.received += length;
        if let Some(sent) = &self.sent {
            sent.add(length);
        }
        let seen = frame.data_ref().zip(self.watch.as_mut()).is_some_and(|(data, watch)| !watch.read(data));
        if seen {
            self.watch = None;
        }
        if self.received > self.most {
            self.arrival = Arrival::Broken(ProxyError::BodyTooLarge { most: self.most });
            self.end();
            return Poll::Ready(Some(Err(UploadError::TooLong)));
        }
        let is_end = self.incoming.is_end_stream();
        if let Err(error) = self.look(frame.data_ref(), is_end || frame.is_trailers()) {
            return Poll::Ready(Some(Err(error)));
        }
        if is_end {
            self.arrival = Arrival::Ended;
            self.end();
        }
        self.hold(&frame);
        Poll::Ready(Some(Ok(fields::clean_request_frame(frame))))
    }

    /// Nobody will take more of it than what came last.
    fn end(&mut self) {
        self.taken.get_or_insert(self.moved);
    }

    pub(super) fn hold(&mut self, frame: &Frame<Bytes>) {
        match frame.data_ref() {
            Some(data)
                if self.complete && self.held_bytes + data.len() <= LONGEST_HELD && self.held.len() < MOST_PIECES =>
            {
                self.held_bytes += data.len();
                self.held.push(data.clone());
            }
            // Too long, or trailers, which are too rare to be held.
            _ => {
                self.complete = false;
                self.held = Vec::new();
            }
        }
    }
}

/// A panic elsewhere leaves nothing half done in here.
pub(super) fn open(source: &Mutex<Source>) -> MutexGuard<'_, Source> {
    source.lock().unwrap_or_else(PoisonError::into_inner)
}
