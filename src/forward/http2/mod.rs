//! HTTP/2 with the resource (RFC 9113): a connection that many requests share.
//!
//! The library does the protocol. What is ours: each request is carried by the task that answers it, with no other task or
//! queue between; what many requests have to say leaves in one record of TLS; and `Authorization` is put on behind the library's
//! back, which would write it in Huffman's code, bit by bit, for each request anew.

mod connection;
mod content;
mod frames;
mod outlet;
mod sending;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body::Body as _;

use super::link::Link;
use super::upload::{RequestBody, UploadError};
use crate::server::list;
use connection::PATIENCE;
use outlet::{Outlet, Unsent};
use sending::Sending;

pub(super) use content::Content;

/// What an upstream allows that has not said so yet: it is not recommended to allow fewer (RFC 9113 §6.5.2).
const STREAMS_UNTOLD: usize = 100;

/// A connection that carries requests.
#[derive(Debug)]
pub(super) struct Session {
    sender: SendRequest<Bytes>,
    pub(super) streams: Arc<Streams>,
}

/// The streams of a connection: one reference for the pool and one for each request under way.
#[derive(Debug)]
pub(super) struct Streams(Arc<Line>);

/// A connection, to whoever carries it and whoever uses it.
#[derive(Debug)]
struct Line {
    /// How many streams the upstream allows at once.
    most: AtomicUsize,
    /// Whether it has come to its end…
    is_over: AtomicBool,
    /// …because the resource answered no ping.
    was_silent: AtomicBool,
    /// Held while a request begins and while frames are written: no head must leave before it is known what belongs into it.
    gate: Mutex<()>,
    outlet: Outlet<Link>,
}

/// A request that was sent, or is being sent, and has no response yet. Dropped, it is cancelled.
#[derive(Debug)]
pub(super) struct Asking {
    response: ResponseFuture,
    /// Until all of the request was handed over.
    sending: Option<Sending>,
    streams: Arc<Streams>,
    /// Keeps `Authorization` until it is written.
    _unsent: Unsent<Link>,
}

/// Why a request has no response, or not all of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Protocol(#[from] h2::Error),
    #[error("the resource did not answer a ping")]
    Silent,
    #[error("the request's content broke off")]
    Upload(#[source] UploadError),
}

impl Session {
    /// Begins a connection over `link`, where both sides agreed on HTTP/2.
    ///
    /// # Errors
    ///
    /// What kept the first bytes from being written.
    pub(super) async fn begin(link: Link) -> Result<Self, Error> {
        connection::begin(link, PATIENCE).await.map_err(Error::Protocol)
    }

    /// Another handle to the same connection.
    pub(super) fn share(&self) -> Self {
        Self { sender: self.sender.clone(), streams: self.streams.clone() }
    }

    /// Whether it can carry no more requests.
    pub(super) fn is_over(&self) -> bool {
        self.streams.0.is_over.load(Ordering::Relaxed)
    }

    /// Begins a request: its head, what stands in `Authorization`, and the content.
    ///
    /// # Errors
    ///
    /// If the connection takes none.
    pub(super) fn ask(
        mut self,
        mut request: Request<()>,
        authorization: HeaderValue,
        body: RequestBody,
    ) -> Result<Asking, Error> {
        announce_length(&mut request, &body);
        let is_whole = body.is_end_stream();
        let line = &*self.streams.0;
        let gate = open(&line.gate);
        let (response, stream) = self.sender.send_request(request, is_whole).map_err(|error| line.explain(error))?;
        let unsent = line.outlet.authorize(stream.stream_id().as_u32(), authorization);
        drop(gate);
        let sending = (!is_whole).then(|| Sending::new(body, stream));
        Ok(Asking { response, sending, streams: self.streams, _unsent: unsent })
    }
}

impl Streams {
    /// Whether a request is under way.
    pub(super) fn any(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1
    }

    /// Whether the upstream would take another one at once.
    pub(super) fn have_room(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) <= self.0.most.load(Ordering::Relaxed)
    }
}

impl Line {
    fn new(outlet: Outlet<Link>) -> Self {
        Self {
            most: AtomicUsize::new(STREAMS_UNTOLD),
            is_over: AtomicBool::new(false),
            was_silent: AtomicBool::new(false),
            gate: Mutex::new(()),
            outlet,
        }
    }

    /// What the library calls an error, or what has caused it.
    fn explain(&self, error: h2::Error) -> Error {
        if self.was_silent.load(Ordering::Relaxed) { Error::Silent } else { Error::Protocol(error) }
    }
}

impl Asking {
    /// The response, once its head has come; the request's content goes on meanwhile, and afterwards.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<Content>, Error>> {
        if let Some(sending) = &mut self.sending
            && let Poll::Ready(sent) = sending.poll(cx)
        {
            self.sending = None;
            sent?;
        }
        let response = ready!(Pin::new(&mut self.response).poll(cx)).map_err(|error| self.streams.0.explain(error))?;
        let (parts, stream) = response.into_parts();
        let length = length(&parts.headers);
        let rest = self.sending.take().map(Sending::go_on);
        Poll::Ready(Ok(Response::from_parts(parts, Content::new(stream, length, rest, self.streams.clone()))))
    }
}

impl Error {
    /// Why the resource reset the request, if it did.
    pub(super) fn reset_by_resource(&self) -> Option<h2::Reason> {
        let Self::Protocol(error) = self else { return None };
        error.reason().filter(|_| error.is_reset() && error.is_remote())
    }
}

/// Says how long content is, if that is known and was not said.
fn announce_length(request: &mut Request<()>, body: &RequestBody) {
    let Some(length) = body.size_hint().exact() else { return };
    // Where content is expected, its absence is said too (RFC 9110 §8.6).
    let matters = length > 0 || matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    if matters && !request.headers().contains_key(CONTENT_LENGTH) {
        request.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
}

/// How long content is said to be, if that is said in one way.
fn length(fields: &HeaderMap) -> Option<u64> {
    let mut said = list::elements(fields, &CONTENT_LENGTH);
    let first = said.next()?;
    let digits = std::str::from_utf8(first).ok().filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))?;
    said.all(|other| other == first).then(|| digits.parse().ok()).flatten()
}

/// A panic elsewhere leaves nothing half done in here.
fn open<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
