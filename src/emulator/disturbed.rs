//! Bodies that go wrong on the way: held back until released, or cut off.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use http_body::{Body as _, Frame, SizeHint};

use super::control::Control;
use super::listen::Connection;

/// How long the last bytes before a cut have to leave: what is still in a buffer when a connection closes is lost.
const LEAVE: Duration = Duration::from_millis(50);

/// Pauses after some frames. Every event of the emulator's streams is one frame.
pub(super) struct Held {
    inner: Body,
    left: u64,
    pause: Option<BoxFuture<'static, ()>>,
    control: Arc<Control>,
}

impl Held {
    pub(super) fn body(inner: Body, after_events: u64, control: Arc<Control>) -> Body {
        let pause = (after_events == 0).then(|| released(control.clone()));
        Body::new(Self { inner, left: after_events, pause, control })
    }
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.poll_unpin(context));
            self.pause = None;
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        if self.left > 0 {
            self.left -= 1;
            self.pause = (self.left == 0).then(|| released(self.control.clone()));
        }
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Completes with the next release; counts as a held stream until then.
fn released(control: Arc<Control>) -> BoxFuture<'static, ()> {
    async move {
        let mut releases = control.releases();
        releases.mark_unchanged();
        let _held = HeldCount::new(&control);
        // An error would mean that the control is gone, and with it whoever could release.
        let _ = releases.changed().await;
    }
    .boxed()
}

struct HeldCount<'a>(&'a Control);

impl<'a> HeldCount<'a> {
    fn new(control: &'a Control) -> Self {
        control.journal.change(|state| state.streams_held += 1);
        Self(control)
    }
}

impl Drop for HeldCount<'_> {
    fn drop(&mut self) {
        self.0.journal.change(|state| state.streams_held -= 1);
    }
}

/// Ends the connection after some bytes.
pub(super) struct CutOff {
    inner: Body,
    left: u64,
    end: Option<BoxFuture<'static, ()>>,
    connection: Connection,
}

impl CutOff {
    pub(super) fn body(inner: Body, after_bytes: u64, connection: Connection) -> Body {
        let most = inner.size_hint().exact().map_or(u64::MAX, |length| length.saturating_sub(1));
        Body::new(Self { inner, left: after_bytes.min(most), end: None, connection })
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let connection = &self.connection;
        let end = self.end.get_or_insert_with(|| {
            let connection = connection.clone();
            async move {
                tokio::time::sleep(LEAVE).await;
                connection.cut();
                std::future::pending::<()>().await;
            }
            .boxed()
        });
        end.poll_unpin(context).map(|()| None)
    }
}

impl http_body::Body for CutOff {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.left == 0 {
            return self.poll_end(context);
        }
        let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(context)).transpose()? else {
            self.left = 0;
            return self.poll_end(context);
        };
        let Ok(mut data) = frame.into_data() else { return self.poll_end(context) };
        data.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= u64::try_from(data.len()).unwrap_or(self.left);
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
