//! A deadline that starts anew whenever something moves.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Fires once nothing has arrived for `longest`. Costs nothing until the first wait, and one clock reading a frame.
#[derive(Debug)]
pub(super) struct Silence {
    longest: Duration,
    last: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    pub(super) fn new(longest: Duration) -> Self {
        Self { longest, last: Instant::now(), timer: None }
    }

    /// How long nothing may move.
    pub(super) fn longest(&self) -> Duration {
        self.longest
    }

    /// Something moved.
    pub(super) fn broken(&mut self) {
        self.last = Instant::now();
    }

    /// Ready once nothing has moved for too long.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let end = self.last + self.longest;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= end {
                return Poll::Ready(());
            }
            // Something came since the timer was set: it goes off later.
            timer.as_mut().reset(end);
        }
        Poll::Pending
    }
}
