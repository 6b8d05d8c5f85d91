//! A caller's content on its way to the resource: passed on as it comes, and the beginning of it held by reference, so
//! that it can be sent once more if a kept connection turns out to be dead.

mod source;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::permission::{Permission, Waiting};
use super::silence::Silence;
use crate::apps::models::Screening;
use crate::error::{ProxyError, RequestPart};
use crate::server::Content;
use crate::telemetry::asked::Watch;
use crate::telemetry::meter::Sent;

use source::{Arrival, Source, UploadError, open};

/// Whoever waits for a request sees its deadline first, and answers with it.
const AFTER_DEADLINE: Duration = Duration::from_secs(1);

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
            watch: None,
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

    /// From now on, what comes is looked at by `watch`, which keeps nothing from going on.
    pub(super) fn watch(&self, watch: Watch) {
        if let Some(source) = &self.source {
            open(source).watch = Some(watch);
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

impl RequestBody {
    /// Nothing is read before `permission` is given.
    pub(super) fn wait_for(&mut self, permission: &Permission) {
        self.waiting = Some(permission.waiting());
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
