//! Responses that may be given up before their end.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

/// Among the extensions of a response whose content nobody misses: once this completes, the rest of it is given up, even if the
/// caller takes nothing and the content is asked for nothing.
#[derive(Clone)]
pub struct Expendable(Shared<BoxFuture<'static, ()>>);

impl Expendable {
    /// Until `end` completes, it is like any other response.
    #[must_use]
    pub fn until(end: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(end.boxed().shared())
    }
}

impl Future for Expendable {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_unpin(cx)
    }
}

impl fmt::Debug for Expendable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Expendable")
    }
}
