//! A response's content by whichever version of HTTP it comes, and the connection that it holds.

use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{http1, http2};
use crate::alarm::Alarm;

/// Content that comes from the resource. Dropped before its end, it cancels the request.
#[derive(Debug)]
pub(super) enum Incoming {
    Http1(http1::Content),
    Http2(http2::Content),
    /// Nothing more: it was given up.
    Nothing(Alarm),
}

/// Why content, or a whole response, did not come.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Http1(#[from] http1::Error),
    #[error(transparent)]
    Http2(#[from] http2::Error),
}

impl Incoming {
    /// None at all.
    pub(super) fn nothing() -> Self {
        Self::Nothing(Alarm::default())
    }

    /// For whoever waits for what comes next.
    pub(super) fn alarm(&mut self) -> &mut Alarm {
        match self {
            Self::Http1(content) => content.alarm(),
            Self::Http2(content) => &mut content.alarm,
            Self::Nothing(alarm) => alarm,
        }
    }

    /// Cancels the request.
    pub(super) fn give_up(&mut self) {
        *self = Self::nothing();
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self {
            Self::Http1(content) => content.poll_frame(cx).map_err(Error::Http1),
            Self::Http2(content) => content.poll_frame(cx).map_err(Error::Http2),
            Self::Nothing(_) => Poll::Ready(None),
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(content) => content.is_end_stream(),
            Self::Http2(content) => content.is_end_stream(),
            Self::Nothing(_) => true,
        }
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(content) => content.size_hint(),
            Self::Http2(content) => content.size_hint(),
            Self::Nothing(_) => SizeHint::with_exact(0),
        }
    }
}
