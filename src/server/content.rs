//! A request's content, by whichever version of HTTP it comes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::http1;

/// Content that comes from a caller as it is read: whoever does not read does not let the caller go on.
#[derive(Debug)]
pub struct Content(Kind);

#[derive(Debug)]
enum Kind {
    Nothing,
    Http1(http1::Content),
    Http2(Incoming),
}

/// Why content broke off.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The connection broke.
    #[error("the caller's connection broke")]
    Connection(#[source] io::Error),
    /// The connection ended before the content did.
    #[error("the caller ended the connection within the request's content")]
    Short,
    /// The conversation has ended, or gone on without it.
    #[error("the rest of the request's content was given up")]
    GivenUp,
    /// Nobody can tell where it ends.
    #[error("{0}")]
    Malformed(&'static str),
    /// It came over HTTP/2.
    #[error("the caller broke off the request's content")]
    Http2(#[source] hyper::Error),
}

impl Content {
    /// None at all.
    #[cfg(test)]
    pub(crate) fn nothing() -> Self {
        Self(Kind::Nothing)
    }

    pub(super) fn of_http1(content: Option<http1::Content>) -> Self {
        Self(content.map_or(Kind::Nothing, Kind::Http1))
    }

    pub(super) fn of_http2(incoming: Incoming) -> Self {
        Self(Kind::Http2(incoming))
    }

    /// Whether the caller waits for a word that its content is wanted: the first time that it is asked for gives that
    /// word.
    #[must_use]
    pub fn is_held_back(&self) -> bool {
        match &self.0 {
            Kind::Nothing | Kind::Http2(_) => false,
            Kind::Http1(content) => content.is_held_back(),
        }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = ContentError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ContentError>>> {
        match &mut self.get_mut().0 {
            Kind::Nothing => Poll::Ready(None),
            Kind::Http1(content) => Pin::new(content).poll_frame(cx),
            Kind::Http2(incoming) => Pin::new(incoming).poll_frame(cx).map_err(ContentError::Http2),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Nothing => true,
            Kind::Http1(content) => content.is_end_stream(),
            Kind::Http2(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Nothing => SizeHint::with_exact(0),
            Kind::Http1(content) => content.size_hint(),
            Kind::Http2(incoming) => incoming.size_hint(),
        }
    }
}
