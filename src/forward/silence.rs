//! A deadline that starts anew whenever something moves.

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::alarm::Alarm;

/// Fires once nothing has arrived for `longest`. Costs nothing until the first wait, and one clock reading a frame.
#[derive(Debug)]
pub(super) struct Silence {
    longest: Duration,
    last: Instant,
    alarm: Alarm,
}

impl Silence {
    pub(super) fn new(longest: Duration) -> Self {
        Self { longest, last: Instant::now(), alarm: Alarm::default() }
    }

    /// Something moved.
    pub(super) fn broken(&mut self) {
        self.last = Instant::now();
    }

    /// Ready once nothing has moved for too long.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.alarm.poll_until(cx, self.last + self.longest)
    }
}
