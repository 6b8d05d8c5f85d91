//! HTTP/2 with the resource (RFC 9113): a connection that many requests share.
//!
//! The library does the protocol. What is ours: each request is carried by the task that answers it, with no other task or
//! queue between; what many requests have to say leaves in one record of TLS; and what is another for each request, or
//! always long, is put on behind the library's back, which would write it in Huffman's code, bit by bit, for each request anew.

mod connection;
mod content;
mod frames;
mod outlet;
mod sending;
#[cfg(test)]
mod tests;

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::RecvStream;
use h2::client::{ResponseFuture, SendRequest};
use http::header::{CONTENT_LENGTH, Entry};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body::Body as _;

use super::fields::CLIENT_REQUEST_ID;
use super::link::Link;
use super::upload::{RequestBody, UploadError};
use connection::PATIENCE;
use frames::Own;
use outlet::Outlet;
use sending::Sending;

pub(super) use content::Content;

/// What an upstream allows that has not said so yet: it is not recommended to allow fewer (RFC 9113 §6.5.2).
const STREAMS_UNTOLD: usize = 100;

/// A connection that carries requests.
#[derive(Debug)]
pub(super) struct Session {
    sender: SendRequest<Bytes>,
    line: Arc<Line>,
}

/// What a connection is to whoever carries it and whoever uses it.
#[derive(Debug)]
pub(super) struct Line {
    /// How many requests are under way, and how many the upstream allows at once.
    carried: AtomicUsize,
    most: AtomicUsize,
    /// Whether it has come to its end because the resource answered no ping.
    was_silent: AtomicBool,
    /// Held while a request begins and while frames are written: no head must leave before it is known what belongs into it.
    gate: Mutex<()>,
    outlet: Outlet<Link>,
}

/// A request's place on a connection, until all of its response has come and nothing more of it is sent.
#[derive(Debug)]
struct Place {
    line: Arc<Line>,
    /// Held by all who share it, if several do.
    shared: Option<Arc<()>>,
}

/// A connection, for one request.
#[derive(Debug)]
pub(super) struct Turn {
    sender: SendRequest<Bytes>,
    place: Place,
}

/// A request that was sent, or is being sent, and has no response yet. Dropped, it is cancelled.
pub(super) struct Asking {
    response: ResponseFuture,
    /// Until all of the request was handed over.
    sending: Option<Sending>,
    place: Place,
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

    /// A place on the connection.
    pub(super) fn turn(&self) -> Turn {
        Turn { sender: self.sender.clone(), place: Place::on(&self.line) }
    }

    /// Whether this is the connection that others know as `line`.
    pub(super) fn is_on(&self, line: &Arc<Line>) -> bool {
        Arc::ptr_eq(&self.line, line)
    }

    /// Whether a request is under way.
    pub(super) fn is_used(&self) -> bool {
        self.line.carried.load(Ordering::Relaxed) > 0
    }

    /// Whether the upstream would take another one at once.
    pub(super) fn has_room(&self) -> bool {
        self.line.carried.load(Ordering::Relaxed) < self.line.most.load(Ordering::Relaxed)
    }

    /// Whether it carries no more requests than it does: it has ended, or the resource has said that it will.
    pub(super) fn is_over(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        matches!(self.sender.poll_ready(&mut nobody), Poll::Ready(Err(_)))
    }
}

impl Turn {
    /// The connection.
    pub(super) fn line(&self) -> &Arc<Line> {
        &self.place.line
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
        let own = Own { authorization, client_request_id: take_only(request.headers_mut(), &CLIENT_REQUEST_ID) };
        let line = &*self.place.line;
        let gate = open(&line.gate);
        let (response, stream) = self.sender.send_request(request, is_whole).map_err(|error| line.explain(error))?;
        line.outlet.add(stream.stream_id().as_u32(), own);
        drop(gate);
        let sending = (!is_whole).then(|| Sending::new(body, stream));
        Ok(Asking { response, sending, place: self.place })
    }
}

impl Place {
    fn on(line: &Arc<Line>) -> Self {
        line.carried.fetch_add(1, Ordering::Relaxed);
        Self { line: line.clone(), shared: None }
    }

    /// The same place, for somebody else: it is free when both have let go of it.
    fn share(&mut self) -> Self {
        let shared = self.shared.get_or_insert_default().clone();
        Self { line: self.line.clone(), shared: Some(shared) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.shared.take().is_none_or(|shared| Arc::into_inner(shared).is_some()) {
            self.line.carried.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Line {
    fn new(outlet: Outlet<Link>) -> Self {
        Self {
            carried: AtomicUsize::new(0),
            most: AtomicUsize::new(STREAMS_UNTOLD),
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
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub(super) async fn response(mut self) -> Result<Response<Content>, Error> {
        let (parts, stream) = poll_fn(|cx| self.poll(cx)).await?.into_parts();
        let rest = self.sending.map(|sending| sending.go_on(self.place.share()));
        let length = length(&parts.headers);
        Ok(Response::from_parts(parts, Content::new(stream, length, rest, self.place)))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<RecvStream>, Error>> {
        if let Some(sending) = &mut self.sending
            && let Poll::Ready(sent) = sending.poll(cx)
        {
            self.sending = None;
            sent?;
        }
        Pin::new(&mut self.response).poll(cx).map_err(|error| self.place.line.explain(error))
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

/// Takes this field out if it has one value.
fn take_only(fields: &mut HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let Entry::Occupied(entry) = fields.entry(name) else { return None };
    (entry.iter().nth(1).is_none()).then(|| entry.remove())
}

/// How long content is said to be: the library lets no other length pass.
fn length(fields: &HeaderMap) -> Option<u64> {
    fields.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A panic elsewhere leaves nothing half done in here.
fn open<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
