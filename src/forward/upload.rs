//! A caller's content on its way to the resource: passed on as it comes, and the beginning of it held by reference, so
//! that it can be sent once more if a kept connection turns out to be dead.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::oneshot;

/// Content up to this size is held; longer content cannot be sent again.
const LONGEST_HELD: usize = 1 << 20;

/// The content of one request, over all attempts to send it.
#[derive(Debug)]
pub(super) struct Upload {
    source: Option<Arc<Mutex<Source>>>,
    length: SizeHint,
}

#[derive(Debug)]
struct Source {
    incoming: Incoming,
    /// What has come so far, or nothing once that was too much.
    held: Vec<Bytes>,
    held_bytes: usize,
    complete: bool,
    /// Which attempt may read: a connection that failed may still hold the body of an earlier one.
    attempt: u32,
    taken: Option<oneshot::Sender<()>>,
}

impl Upload {
    /// Content, and what completes once its last byte was taken (or given up). Empty content was taken from the start:
    /// [`None`].
    pub(super) fn new(incoming: Incoming) -> (Self, Option<oneshot::Receiver<()>>) {
        let length = incoming.size_hint();
        if incoming.is_end_stream() {
            return (Self { source: None, length }, None);
        }
        let (taken, was_taken) = oneshot::channel();
        let source =
            Source { incoming, held: Vec::new(), held_bytes: 0, complete: true, attempt: 0, taken: Some(taken) };
        (Self { source: Some(Arc::new(Mutex::new(source))), length }, Some(was_taken))
    }

    /// Whether all that was taken so far is still there.
    pub(super) fn can_be_sent_again(&self) -> bool {
        self.source.as_ref().is_none_or(|source| open(source).complete)
    }

    /// The content from its beginning, for one attempt. Bodies of earlier attempts fail from now on.
    pub(super) fn attempt(&self) -> RequestBody {
        let Some(source) = &self.source else {
            return RequestBody { reading: None, length: self.length };
        };
        let mut open = open(source);
        open.attempt += 1;
        let reading = Reading { source: source.clone(), attempt: open.attempt, next: 0 };
        RequestBody { reading: Some(reading), length: self.length }
    }
}

/// The content of one attempt.
#[derive(Debug)]
pub(super) struct RequestBody {
    reading: Option<Reading>,
    length: SizeHint,
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
    Caller(#[source] hyper::Error),
    #[error("the request is being sent on another connection")]
    Superseded,
}

impl Source {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        if self.incoming.is_end_stream() || !matches!(frame, Some(Ok(_))) {
            // Nobody listens any more if the response came first.
            let _ = self.taken.take().map(|taken| taken.send(()));
        }
        match &frame {
            Some(Ok(frame)) => self.hold(frame),
            Some(Err(_)) => self.let_go(),
            None => {}
        }
        Poll::Ready(frame.map(|frame| frame.map_err(UploadError::Caller)))
    }

    fn hold(&mut self, frame: &Frame<Bytes>) {
        match frame.data_ref() {
            Some(data) if self.complete && self.held_bytes + data.len() <= LONGEST_HELD => {
                self.held_bytes += data.len();
                self.held.push(data.clone());
            }
            // Too long, or trailers, which are too rare to be held.
            _ => self.let_go(),
        }
    }

    fn let_go(&mut self) {
        self.complete = false;
        self.held = Vec::new();
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
        let mut source = open(&reading.source);
        if source.attempt != reading.attempt {
            return Poll::Ready(Some(Err(UploadError::Superseded)));
        }
        let frame = match source.held.get(reading.next) {
            Some(held) => Some(Ok(Frame::data(held.clone()))),
            None => ready!(source.poll_next(cx)),
        };
        reading.next += 1;
        drop(source);
        self.length = SizeHint::default();
        Poll::Ready(frame)
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

/// A panic elsewhere leaves nothing half done in here.
fn open(source: &Mutex<Source>) -> MutexGuard<'_, Source> {
    source.lock().unwrap_or_else(PoisonError::into_inner)
}
