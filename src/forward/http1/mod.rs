//! HTTP/1.1 with the resource (RFC 9112): a connection that carries one request at a time.
//!
//! Written here and not taken from a library because it is the bytes' way: nobody stands between a caller and its resource
//! but the task that answers it, and what comes together goes on together.

mod content;
mod duplex;
mod head;
mod sending;

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::unconstrained;
use tokio::time::Instant;

use super::link::Link;
use super::upload::{RequestBody, UploadError};
use crate::alarm::Alarm;
use crate::http1::encoding::WrongLength;
use crate::http1::lines::Unclear;
use crate::http1::outgoing::Outgoing;

pub(super) use content::Content;
pub(super) use head::RequestHead;
use head::{Extent, Head};
use sending::Sending;

/// A connection that carries a request, or waits for one.
#[derive(Debug)]
pub(super) struct Wire {
    link: Link,
    /// What has come and was not taken yet.
    inbound: BytesMut,
    /// How much of it is known to hold no end of a head.
    scanned: usize,
    outgoing: Outgoing,
    /// Whether the resource takes nothing any more. It may have said why: it answers early and closes, and that must not keep
    /// its answer from being read.
    is_deaf: bool,
    /// Whether a byte has come since the last request was sent.
    heard: bool,
    /// For whoever waits for what comes next.
    alarm: Alarm,
}

/// A response whose head has come.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response<()>,
    extent: Extent,
    keeps_alive: bool,
    /// What was not sent before the resource answered.
    sending: Sending,
}

/// Why a connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the connection was closed before a response came")]
    Closed,
    #[error("the connection was closed within the response")]
    Short,
    #[error("the connection broke")]
    Connection(#[source] io::Error),
    #[error("{0}")]
    Malformed(&'static str),
    #[error("the request's content broke off")]
    Upload(#[source] UploadError),
    #[error("the request's content: {0}")]
    Length(#[from] WrongLength),
}

impl From<Unclear> for Error {
    fn from(Unclear(problem): Unclear) -> Self {
        Self::Malformed(problem)
    }
}

impl Wire {
    pub(super) fn new(link: Link) -> Self {
        let (inbound, outgoing) = (BytesMut::new(), Outgoing::default());
        Self { link, inbound, scanned: 0, outgoing, is_deaf: false, heard: false, alarm: Alarm::default() }
    }

    /// Whether a byte of a response has come since the last request was sent.
    pub(super) fn has_been_heard(&self) -> bool {
        self.heard
    }

    /// Whether it may carry another request: the resource has neither ended it nor said what it was not asked.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        // However much the task has done before: not to have looked would count as quiet.
        let look =
            pin!(unconstrained(poll_fn(|cx| Poll::Ready(self.link.poll_append(cx, &mut self.inbound).is_pending()))));
        let is_silent = matches!(look.poll(&mut cx), Poll::Ready(true));
        is_silent && self.inbound.is_empty() && !self.is_deaf
    }

    /// Sends a request, and returns once the head of the response is there. `interim` hears of what comes before it; the
    /// word that content is wanted is heard here. Gives up for the reason of `overdue` once what `deadline` says has passed,
    /// which may change meanwhile.
    pub(super) async fn send<E>(
        &mut self,
        request: RequestHead<'_>,
        body: RequestBody,
        mut interim: impl FnMut(StatusCode, &HeaderMap),
        deadline: impl Fn() -> Instant,
        overdue: impl Fn() -> E,
    ) -> Result<Result<Answer, Error>, E> {
        self.heard = false;
        let coding = head::coding(&body.size_hint());
        head::write(&mut self.outgoing, request, coding);
        let mut sending = Sending::new(body, coding);
        let asked = poll_fn(|cx| match self.poll_exchange(cx, request.method, &mut sending, &mut interim) {
            Poll::Ready(head) => Poll::Ready(Ok(head)),
            Poll::Pending => self.alarm.poll_until(cx, deadline()).map(|()| Err(overdue())),
        });
        let head = asked.await?;
        Ok(head.map(|Head { response, extent, keeps_alive }| Answer { response, extent, keeps_alive, sending }))
    }

    /// Sends what is there, until the head of the response is.
    fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
        sending: &mut Sending,
        interim: &mut impl FnMut(StatusCode, &HeaderMap),
    ) -> Poll<Result<Head, Error>> {
        loop {
            if let Poll::Ready(Err(error)) = sending.poll(self, cx) {
                return Poll::Ready(Err(error));
            }
            let head = ready!(self.poll_head(cx, method))?;
            match head.response.status() {
                StatusCode::CONTINUE => sending.permit(),
                status if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS => {
                    interim(status, head.response.headers());
                }
                _ => return Poll::Ready(Ok(head)),
            }
        }
    }

    /// What is spoken after a switch to another protocol.
    pub(super) fn into_switched(self) -> Switched {
        Switched { ahead: self.inbound, link: self.link }
    }

    /// The next head.
    fn poll_head(&mut self, cx: &mut Context<'_>, method: &Method) -> Poll<Result<Head, Error>> {
        loop {
            if let Some(head) = head::take(&mut self.inbound, &mut self.scanned, method)? {
                return Poll::Ready(Ok(head));
            }
            match ready!(self.link.poll_append(cx, &mut self.inbound)) {
                Ok(0) => return Poll::Ready(Err(if self.heard { Error::Short } else { Error::Closed })),
                Ok(_) => self.heard = true,
                Err(error) => return Poll::Ready(Err(Error::Connection(error))),
            }
        }
    }

    /// Writes what was gathered. Whether a resource that takes nothing has ended the connection, its answer tells.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let written = match ready!(self.outgoing.poll_write(&mut self.link, cx)) {
            // TLS may hold some of it back.
            Ok(()) => ready!(Pin::new(&mut self.link).poll_flush(cx)),
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                self.is_deaf = true;
                self.outgoing = Outgoing::default();
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(Error::Connection(error))),
        }
    }
}

/// A connection that speaks another protocol by now.
#[derive(Debug)]
pub(super) struct Switched {
    /// What has come of it already.
    ahead: BytesMut,
    link: Link,
}

impl AsyncRead for Switched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.link).poll_read(cx, buffer);
        }
        let length = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.ahead.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Switched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.link).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.link).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.link).poll_shutdown(cx)
    }
}
