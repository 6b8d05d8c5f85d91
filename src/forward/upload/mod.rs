//! A caller's content on its way to the resource: passed on as it comes, and the beginning of it held by reference, so
//! that it can be sent once more if a kept connection turns out to be dead.

mod source;

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use crate::alarm::Alarm;
use crate::apps::models::Screening;
use crate::error::{ProxyError, RequestPart};
use crate::server::Content;
use crate::telemetry::asked::Watch;
use crate::telemetry::meter::Sent;

pub(super) use source::UploadError;
use source::{Arrival, Source, open};

/// Whoever waits for a request sees its deadline first, and answers with it.
const AFTER_DEADLINE: Duration = Duration::from_secs(1);
/// How long the resource's word is waited for that content is wanted which its caller holds back (RFC 9110 §10.1.1): not all
/// servers know the expectation, and whoever expects must not wait forever.
const PATIENCE: Duration = Duration::from_secs(1);

/// The content of one request, over all attempts to send it.
#[derive(Debug)]
pub(super) struct Upload {
    /// [`None`]: there is no content.
    source: Option<Arc<Mutex<Source>>>,
    length: SizeHint,
    begun: Instant,
}

/// Who keeps content from moving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stall {
    /// The caller sends nothing.
    Caller,
    /// The resource takes nothing.
    Resource,
}

/// Who sees content as it comes, and keeps nothing from going on.
#[derive(Debug, Default)]
pub(super) struct Onlookers {
    /// Counts it.
    pub(super) sent: Option<Sent>,
    /// Looks for what is to be told.
    pub(super) watch: Option<Watch>,
}

impl Upload {
    /// Content of at most `most` bytes, which may stand still for `longest`.
    ///
    /// # Errors
    ///
    /// Content that is longer.
    pub(super) fn new(
        incoming: Content,
        most: u64,
        longest: Duration,
        Onlookers { sent, watch }: Onlookers,
    ) -> Result<Self, ProxyError> {
        let (length, begun) = (incoming.size_hint(), Instant::now());
        if length.lower() > most {
            return Err(ProxyError::BodyTooLarge { most });
        }
        if incoming.is_end_stream() {
            return Ok(Self { source: None, length, begun });
        }
        let source = Source {
            incoming,
            held: Vec::new(),
            held_bytes: 0,
            complete: true,
            arrival: Arrival::Coming,
            received: 0,
            sent,
            watch,
            most,
            attempt: 0,
            taken: None,
            moved: begun,
            awaited: false,
            longest: longest + AFTER_DEADLINE,
            alarm: Alarm::default(),
            screening: None,
        };
        Ok(Self { source: Some(Arc::new(Mutex::new(source))), length, begun })
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
        self.begun = Instant::now();
        let Some(source) = &self.source else {
            return Some(RequestBody { reading: None, length: self.length, awaits_word: false, patience: None });
        };
        let mut open = open(source);
        if !open.complete {
            return None;
        }
        open.attempt += 1;
        open.moved = self.begun;
        // An earlier attempt has said that it will take no more, perhaps: that says nothing of this one.
        open.taken = (!matches!(open.arrival, Arrival::Coming)).then_some(self.begun);
        let has_ended = open.held.is_empty() && open.incoming.is_end_stream();
        let reading = Reading { source: source.clone(), attempt: open.attempt, next: 0, has_ended };
        let awaits_word = open.incoming.is_held_back();
        Some(RequestBody { reading: Some(reading), length: self.length, awaits_word, patience: None })
    }

    /// Whether there is no content.
    pub(super) fn is_empty(&self) -> bool {
        self.source.is_none()
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

    /// Until when there must be a response: `response` after all content was taken, and meanwhile it may not stand still for
    /// `longest`. Moves with what is taken of the content: whoever takes that asks again then.
    pub(super) fn deadline(&self, longest: Duration, response: Duration) -> Instant {
        let Some(source) = &self.source else { return self.begun + response };
        let source = open(source);
        source.taken.map_or_else(|| source.moved + longest, |taken| taken + response)
    }

    /// Who keeps content from moving; nobody if all was taken.
    pub(super) fn stall(&self) -> Option<Stall> {
        let source = open(self.source.as_ref()?);
        let who = if source.awaited { Stall::Caller } else { Stall::Resource };
        source.taken.is_none().then_some(who)
    }
}

/// The content of one attempt.
#[derive(Debug)]
pub(super) struct RequestBody {
    reading: Option<Reading>,
    length: SizeHint,
    /// Whether the caller holds it back until it is told that it is wanted.
    awaits_word: bool,
    /// Until when the resource's word is waited for that the content is wanted.
    patience: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
struct Reading {
    source: Arc<Mutex<Source>>,
    attempt: u32,
    /// How many of the held pieces this attempt has sent.
    next: usize,
    /// Whether nothing more comes, as it was known with what came last.
    has_ended: bool,
}

impl RequestBody {
    /// Whether the caller holds it back until it is told that it is wanted: the first time that it is asked for tells it.
    pub(super) fn awaits_word(&self) -> bool {
        self.awaits_word
    }

    /// Nothing is read before it is permitted, or that was waited for long enough.
    pub(super) fn hold_back(&mut self) {
        self.patience = Some(Box::pin(sleep(PATIENCE)));
    }

    /// Whether permission is waited for.
    pub(super) fn is_held_back(&self) -> bool {
        self.patience.is_some()
    }

    /// The resource wants the content.
    pub(super) fn permit(&mut self) {
        self.patience = None;
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let Self { reading: Some(reading), patience, length, .. } = &mut *self else { return Poll::Ready(None) };
        if let Some(unsure) = patience {
            ready!(unsure.as_mut().poll(cx));
            *patience = None;
        }
        let mut source = open(&reading.source);
        if source.attempt != reading.attempt {
            return Poll::Ready(Some(Err(UploadError::Superseded)));
        }
        let frame = match source.held.get(reading.next) {
            Some(held) => Poll::Ready(Some(Ok(Frame::data(held.clone())))),
            None => source.poll_next(cx),
        };
        if frame.is_ready() {
            reading.next += 1;
            reading.has_ended = reading.next >= source.held.len() && source.incoming.is_end_stream();
            *length = SizeHint::default();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.reading.as_ref().is_none_or(|reading| reading.has_ended)
    }

    /// The caller's own `Content-Length` before anything was read, afterwards unknown: it is asked for once, at the start.
    fn size_hint(&self) -> SizeHint {
        self.length
    }
}

impl Drop for Reading {
    /// A connection that lets go of content will take no more of it.
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let mut source = open(&self.source);
        if source.attempt == self.attempt {
            source.taken.get_or_insert_with(Instant::now);
        }
    }
}
