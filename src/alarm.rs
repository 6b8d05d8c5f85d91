//! A deadline that moves with every request or byte, and a timer that does not.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer for a deadline that moves on and on: it goes off when it was first set for, finds that there is time left, and is
/// set anew. To set a timer costs far more than to look at one, and most of these never matter.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready from `end` on.
    pub(crate) fn poll_until(&mut self, cx: &mut Context<'_>, end: Instant) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(end)));
        if timer.deadline() > end {
            // Timers go off a little late, those that are late already too.
            if Instant::now() >= end {
                return Poll::Ready(());
            }
            timer.as_mut().reset(end);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= end {
                return Poll::Ready(());
            }
            timer.as_mut().reset(end);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_deadline_may_move_either_way() {
        let (now, hour) = (Instant::now(), Duration::from_secs(3600));
        let mut alarm = Alarm::default();
        let mut look = async |end| poll_fn(|cx| Poll::Ready(alarm.poll_until(cx, end))).await;
        assert!(look(now + hour).await.is_pending());
        assert!(look(now + 2 * hour).await.is_pending());
        assert!(look(now).await.is_ready(), "it has come nearer than the timer");
        assert!(look(now + hour).await.is_pending(), "it has moved on since the timer went off");
        assert!(look(now).await.is_ready());
    }
}
