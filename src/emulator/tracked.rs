//! Bodies that count what becomes of them: uploads by their bytes, streamed answers by how they end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use super::control::Control;

/// Longer answers count as streamed even if their length is known.
const STREAMED_FROM: u64 = 64 * 1024;

/// Counts the bytes of a request body.
pub(super) struct Upload {
    inner: Body,
    control: Arc<Control>,
}

impl Upload {
    pub(super) fn body(inner: Body, control: Arc<Control>) -> Body {
        Body::new(Self { inner, control })
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        if let Some(Ok(data)) = frame.as_ref().map(|frame| frame.as_ref().map(Frame::data_ref)) {
            let length = data.map_or(0, |data| u64::try_from(data.len()).unwrap_or(u64::MAX));
            self.control.journal.change(|state| state.bytes_received += length);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Counts a streamed answer: open while this lives, then finished or aborted.
pub(super) struct Download {
    inner: Body,
    ended: bool,
    control: Arc<Control>,
}

impl Download {
    /// The same body, counted if it is a streamed one.
    pub(super) fn body(inner: Body, control: Arc<Control>) -> Body {
        if inner.size_hint().exact().is_some_and(|length| length <= STREAMED_FROM) {
            return inner;
        }
        control.journal.change(|state| state.streams_open += 1);
        Body::new(Self { inner, ended: false, control })
    }
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        self.ended |= frame.is_none();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // A body whose length is known is not asked for its end once all of it is there.
        let finished = self.ended || self.inner.is_end_stream();
        self.control.journal.change(|state| {
            state.streams_open -= 1;
            if finished {
                state.streams_finished += 1;
            } else {
                state.streams_aborted += 1;
            }
        });
    }
}
