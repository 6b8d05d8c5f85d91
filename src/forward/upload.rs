//! A caller's content on its way to the resource: passed on as it comes, and the beginning of it held by reference, so
//! that it can be sent once more if a kept connection turns out to be dead.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::fields;
use super::permission::{Permission, Waiting};
use super::silence::Silence;
use crate::apps::models::Screening;
use crate::error::{Causes, ProxyError, RequestPart};
use crate::server::{Content, ContentError};
use crate::telemetry::meter::Sent;

/// Whoever waits for a request sees its deadline first, and answers with it.
const AFTER_DEADLINE: Duration = Duration::from_secs(1);

/// Content up to this size is held; longer content cannot be sent again.
const LONGEST_HELD: usize = 1 << 20;
/// Nor can content in more pieces: each costs memory, however small it is.
const MOST_PIECES: usize = 16 * 1024;

/// How much content is read before its turn, to learn which model it asks for: requests that are refused because of that
/// never reach the resource…
const LONGEST_LOOK: usize = 64 * 1024;
/// …nor in more pieces.
const MOST_LOOKED_AT: usize = 1024;

/// The content of one request, over all attempts to send it.
#[derive(Debug)]
pub(super) struct Upload {
    /// [`None`]: there is no content.
    source: Option<Arc<Mutex<Source>>>,
    length: SizeHint,
    taken: Option<oneshot::Receiver<()>>,
}

/// Who keeps content from moving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stall {
    /// The caller sends nothing.
    Caller,
    /// The resource takes nothing.
    Resource,
}

/// How much of the content there is to come.
#[derive(Debug)]
enum Arrival {
    Coming,
    Ended,
    /// It cannot be had, and that is the caller's doing.
    Broken(ProxyError),
}

#[derive(Debug)]
struct Source {
    incoming: Content,
    /// What has come so far, or nothing once that was too much.
    held: Vec<Bytes>,
    held_bytes: usize,
    complete: bool,
    arrival: Arrival,
    received: u64,
    sent: Option<Sent>,
    /// The most that may come.
    most: u64,
    /// Which attempt may read: a connection that failed may still hold the body of an earlier one.
    attempt: u32,
    taken: Option<oneshot::Sender<()>>,
    /// When content last moved, and whether it is the caller that is waited for since.
    moved: Instant,
    awaited: bool,
    /// For a caller that stops after it was answered early: nobody waits for its request then.
    silence: Silence,
    /// Looks at what the content asks for before it goes on.
    screening: Option<Screening>,
}

impl Upload {
    /// Content of at most `most` bytes, which may stand still for `longest`.
    ///
    /// # Errors
    ///
    /// Content that is longer.
    pub(super) fn new(incoming: Content, most: u64, longest: Duration) -> Result<Self, ProxyError> {
        let length = incoming.size_hint();
        if length.lower() > most {
            return Err(ProxyError::BodyTooLarge { most });
        }
        if incoming.is_end_stream() {
            return Ok(Self { source: None, length, taken: None });
        }
        let (taken, was_taken) = oneshot::channel();
        let source = Source {
            incoming,
            held: Vec::new(),
            held_bytes: 0,
            complete: true,
            arrival: Arrival::Coming,
            received: 0,
            sent: None,
            most,
            attempt: 0,
            taken: Some(taken),
            moved: Instant::now(),
            awaited: false,
            silence: Silence::new(longest + AFTER_DEADLINE),
            screening: None,
        };
        Ok(Self { source: Some(Arc::new(Mutex::new(source))), length, taken: Some(was_taken) })
    }

    /// Has the content looked at by `screening`: its beginning now, and the rest on its way.
    ///
    /// # Errors
    ///
    /// What is wrong with the beginning.
    pub(super) async fn screen(&mut self, screening: Screening, longest: Duration) -> Result<(), ProxyError> {
        let Some(source) = &self.source else { return Ok(()) };
        open(source).screening = Some(screening);
        poll_fn(|cx| {
            let mut source = open(source);
            while source.wants_a_look() {
                match ready!(source.poll_next(cx)) {
                    Some(Ok(_)) => {}
                    None => break,
                    Some(Err(_)) => {
                        let (part, seconds) = (RequestPart::Content, longest.as_secs());
                        let silent = ProxyError::RequestTimeout { part, seconds };
                        return Poll::Ready(Err(source.fault().cloned().unwrap_or(silent)));
                    }
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// The content from its beginning, for one attempt, if all that was taken so far is still held. Bodies of earlier
    /// attempts fail from now on.
    pub(super) fn attempt(&mut self) -> Option<RequestBody> {
        let Some(source) = &self.source else {
            return Some(RequestBody { reading: None, length: self.length, waiting: None });
        };
        let mut open = open(source);
        if !open.complete {
            return None;
        }
        open.attempt += 1;
        open.moved = Instant::now();
        // An earlier attempt has said that it will take no more, perhaps, and not that everything has come.
        if matches!(open.arrival, Arrival::Coming) && open.taken.is_none() {
            let (taken, was_taken) = oneshot::channel();
            open.taken = Some(taken);
            self.taken = Some(was_taken);
        }
        let reading = Reading { source: source.clone(), attempt: open.attempt, next: 0 };
        Some(RequestBody { reading: Some(reading), length: self.length, waiting: None })
    }

    /// From now on, what comes is counted.
    pub(super) fn count(&self, sent: Sent) {
        if let Some(source) = &self.source {
            open(source).sent = Some(sent);
        }
    }

    /// Whether there is no content.
    pub(super) fn is_empty(&self) -> bool {
        self.source.is_none()
    }

    /// Whether the caller holds the content back until it is told that it is wanted.
    pub(super) fn is_held_back(&self) -> bool {
        self.source.as_ref().is_some_and(|source| open(source).incoming.is_held_back())
    }

    /// Whether the content can be sent once more.
    pub(super) fn can_be_sent_again(&self) -> bool {
        self.source.as_ref().is_none_or(|source| {
            let open = open(source);
            open.complete && !matches!(open.arrival, Arrival::Broken(_))
        })
    }

    /// What has come so far, if all of that is still held.
    pub(super) fn held(&self) -> Option<Vec<Bytes>> {
        let open = open(self.source.as_ref()?);
        open.complete.then(|| open.held.clone())
    }

    /// What the caller has done wrong, if the content cannot be had because of that.
    pub(super) fn fault(&self) -> Option<ProxyError> {
        open(self.source.as_ref()?).fault().cloned()
    }

    /// Completes once all content was taken, or with whoever has kept it from moving for `longest`.
    pub(super) async fn taken(&mut self, longest: Duration) -> Result<(), Stall> {
        let (Some(taken), Some(source)) = (&mut self.taken, &self.source) else { return Ok(()) };
        loop {
            let end = open(source).moved + longest;
            tokio::select! {
                // An error means that the content was given up: the sending side ends with its own.
                _ = &mut *taken => break,
                () = sleep_until(end) => {}
            }
            let source = open(source);
            if Instant::now() >= source.moved + longest {
                return Err(if source.awaited { Stall::Caller } else { Stall::Resource });
            }
        }
        self.taken = None;
        Ok(())
    }
}

/// The content of one attempt.
#[derive(Debug)]
pub(super) struct RequestBody {
    reading: Option<Reading>,
    length: SizeHint,
    /// For the resource's word that the content is wanted.
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Reading {
    source: Arc<Mutex<Source>>,
    attempt: u32,
    /// How many of the held pieces this attempt has sent.
    next: usize,
}

/// Why content broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    #[error("the caller broke off")]
    Caller(#[source] ContentError),
    #[error("the caller was silent")]
    Silent,
    #[error("the request's content is too long")]
    TooLong,
    #[error("the request's content asks for what it may not")]
    Denied,
    #[error("the resource answered instead of asking for the content")]
    Unwanted,
    #[error("the request is being sent on another connection")]
    Superseded,
}

impl RequestBody {
    /// Nothing is read before `permission` is given.
    pub(super) fn wait_for(&mut self, permission: &Permission) {
        self.waiting = Some(permission.waiting());
    }
}

impl Source {
    /// Whether it is not yet known which model is asked for, and may be from what comes next.
    fn wants_a_look(&self) -> bool {
        matches!(self.arrival, Arrival::Coming)
            && self.held_bytes < LONGEST_LOOK
            && self.held.len() < MOST_LOOKED_AT
            && self.screening.as_ref().is_some_and(|screening| !screening.has_seen())
    }

    fn fault(&self) -> Option<&ProxyError> {
        match &self.arrival {
            Arrival::Broken(error) => Some(error),
            Arrival::Coming | Arrival::Ended => None,
        }
    }

    /// Looks at what has come, before anybody takes it.
    fn look(&mut self, data: Option<&Bytes>, is_end: bool) -> Result<(), UploadError> {
        let Some(screening) = &mut self.screening else { return Ok(()) };
        let looked = data.map_or(Ok(()), |data| screening.read(data));
        looked.and_then(|()| if is_end { screening.end() } else { Ok(()) }).map_err(|error| {
            self.arrival = Arrival::Broken(error);
            self.end();
            UploadError::Denied
        })
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let frame = Pin::new(&mut self.incoming).poll_frame(cx);
        self.awaited = frame.is_pending();
        let Poll::Ready(frame) = frame else {
            ready!(self.silence.poll(cx));
            self.end();
            return Poll::Ready(Some(Err(UploadError::Silent)));
        };
        self.moved = Instant::now();
        self.silence.broken();
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

    fn end(&mut self) {
        // Nobody listens any more if the response came first.
        let _ = self.taken.take().map(|taken| taken.send(()));
    }

    fn hold(&mut self, frame: &Frame<Bytes>) {
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

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let Self { reading: Some(reading), waiting, length } = &mut *self else { return Poll::Ready(None) };
        if let Some(unsure) = waiting {
            if !ready!(unsure.poll(cx)) {
                return Poll::Ready(Some(Err(UploadError::Unwanted)));
            }
            *waiting = None;
        }
        let mut source = open(&reading.source);
        if source.attempt != reading.attempt {
            return Poll::Ready(Some(Err(UploadError::Superseded)));
        }
        let frame = match source.held.get(reading.next) {
            Some(held) => Poll::Ready(Some(Ok(Frame::data(held.clone())))),
            None => source.poll_next(cx),
        };
        drop(source);
        if frame.is_ready() {
            reading.next += 1;
            *length = SizeHint::default();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.reading.as_ref().is_none_or(|reading| {
            let source = open(&reading.source);
            reading.next >= source.held.len() && source.incoming.is_end_stream()
        })
    }

    /// The caller's own `Content-Length` before anything was read, afterwards unknown: it is asked for once, at the start.
    fn size_hint(&self) -> SizeHint {
        self.length
    }
}

impl Drop for Reading {
    /// A connection that lets go of content will take no more of it.
    fn drop(&mut self) {
        let mut source = open(&self.source);
        if source.attempt == self.attempt {
            source.end();
        }
    }
}

/// A panic elsewhere leaves nothing half done in here.
fn open(source: &Mutex<Source>) -> MutexGuard<'_, Source> {
    source.lock().unwrap_or_else(PoisonError::into_inner)
}
