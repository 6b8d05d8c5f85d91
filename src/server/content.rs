//! A request's content, by whichever version of HTTP it comes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::http1::{self, Interim};
use super::{Remote, Switch};

/// What comes from a caller behind the head of its request, as it is read: whoever does not read does not let the caller go
/// on. With it goes what is known of its connection.
#[derive(Debug)]
pub struct Content {
    kind: Kind,
    is_remote: bool,
    interim: Option<Interim>,
    switch: Option<Switch>,
}

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
    pub(crate) fn nothing() -> Self {
        Self::of_http1(None, None)
    }

    /// The same, from another machine.
    #[cfg(test)]
    pub(crate) fn nothing_from_afar() -> Self {
        Self::of_http1(None, Some(Remote))
    }

    pub(super) fn of_http1(content: Option<http1::Content>, remote: Option<Remote>) -> Self {
        let kind = content.map_or(Kind::Nothing, Kind::Http1);
        Self { kind, is_remote: remote.is_some(), interim: None, switch: None }
    }

    pub(super) fn of_http2(incoming: Incoming, remote: Option<Remote>) -> Self {
        Self { kind: Kind::Http2(incoming), is_remote: remote.is_some(), interim: None, switch: None }
    }

    /// The caller understands interim responses, and gets them by `interim`.
    pub(super) fn tells_by(&mut self, interim: Interim) {
        self.interim = Some(interim);
    }

    /// The connection can switch to another protocol by `switch`.
    pub(super) fn may_switch(&mut self, switch: Switch) {
        self.switch = Some(switch);
    }

    /// Whether the request comes from another machine.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.is_remote
    }

    /// Where interim responses go, if the caller takes any.
    #[must_use]
    pub fn take_interim(&mut self) -> Option<Interim> {
        self.interim.take()
    }

    /// What becomes of the connection if the response is a 101, if the request asks to switch to another protocol and can.
    #[must_use]
    pub fn take_switch(&mut self) -> Option<Switch> {
        self.switch.take()
    }

    /// Whether the caller waits for a word that its content is wanted: the first time that it is asked for gives that
    /// word.
    #[must_use]
    pub fn is_held_back(&self) -> bool {
        match &self.kind {
            Kind::Nothing | Kind::Http2(_) => false,
            Kind::Http1(content) => content.is_held_back(),
        }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = ContentError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ContentError>>> {
        match &mut self.get_mut().kind {
            Kind::Nothing => Poll::Ready(None),
            Kind::Http1(content) => Pin::new(content).poll_frame(cx),
            Kind::Http2(incoming) => match Pin::new(&mut *incoming).poll_frame(cx) {
                // The library takes a stream that was reset without an error for one that has ended.
                Poll::Ready(None) if !incoming.is_end_stream() => Poll::Ready(Some(Err(ContentError::Short))),
                frame => frame.map_err(ContentError::Http2),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Nothing => true,
            Kind::Http1(content) => content.is_end_stream(),
            Kind::Http2(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Nothing => SizeHint::with_exact(0),
            Kind::Http1(content) => content.size_hint(),
            Kind::Http2(incoming) => incoming.size_hint(),
        }
    }
}
