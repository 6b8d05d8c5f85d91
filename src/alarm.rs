//! A deadline that moves with every request or byte, and a timer that does not.

use std::future::Future as _;
use std::pin::Pin;
use std::ptr;
use std::task::{Context, Poll, Waker};

use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer for a deadline that moves on and on: it goes off when it was first set for, finds that there is time left, and is
/// set anew. To set a timer costs far more than to look at one, and most of these never matter.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    timer: Option<Pin<Box<Sleep>>>,
    /// Whom the timer wakes: it need not be told twice.
    wakes: Option<Id>,
}

/// Tells a task from another one while somebody holds its waker. The timer does until it has gone off, so that there is no need to
/// hold it here: to hold one is to write to the task's memory.
#[derive(Debug, PartialEq, Eq)]
struct Id([usize; 2]);

impl Id {
    fn of(waker: &Waker) -> Self {
        Self([waker.data().addr(), ptr::from_ref(waker.vtable()).addr()])
    }
}

impl Alarm {
    /// Ready from `end` on.
    pub(crate) fn poll_until(&mut self, cx: &mut Context<'_>, end: Instant) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
        if timer.deadline() > end {
            // Timers go off a little late, those that are late already too.
            if Instant::now() >= end {
                return Poll::Ready(());
            }
            timer.as_mut().reset(end);
            self.wakes = None;
        }
        let asks = Id::of(cx.waker());
        if self.wakes.as_ref() == Some(&asks) && !timer.is_elapsed() {
            return Poll::Pending;
        }
        self.wakes = None;
        loop {
            // A task that has had its turn is woken for that, and not by the timer.
            let is_told = has_budget_remaining();
            if timer.as_mut().poll(cx).is_pending() {
                self.wakes = is_told.then_some(asks);
                return Poll::Pending;
            }
            if Instant::now() >= end {
                return Poll::Ready(());
            }
            timer.as_mut().reset(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::time::Duration;

    use futures_util::FutureExt;
    use futures_util::stream::{FuturesUnordered, StreamExt};
    use tokio::task::coop::consume_budget;
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(5);
    /// Nobody waits for this but in vain.
    const LATE: Duration = Duration::from_secs(20);

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

    #[tokio::test]
    async fn a_task_that_has_had_its_turn_is_woken_all_the_same() {
        let (end, mut alarm, mut is_first) = (Instant::now() + SOON, Alarm::default(), true);
        let rings = poll_fn(|cx| {
            // Its first turn ends before the timer is asked.
            if std::mem::take(&mut is_first) {
                while has_budget_remaining() {
                    assert!(pin!(consume_budget()).poll(cx).is_ready());
                }
            }
            alarm.poll_until(cx, end)
        });
        assert!(timeout(LATE, rings).await.is_ok());
    }

    #[tokio::test]
    async fn it_is_the_last_to_ask_who_is_woken() {
        let (end, mut alarm) = (Instant::now() + SOON, Alarm::default());
        // Each has a waker of its own.
        for _ in 0..2 {
            let asked = async { poll_fn(|cx| Poll::Ready(alarm.poll_until(cx, end))).await };
            let mut one = FuturesUnordered::from_iter([asked.boxed_local()]);
            assert!(one.next().await.is_some_and(|state| state.is_pending()));
        }
        let mut last = FuturesUnordered::from_iter([poll_fn(|cx| alarm.poll_until(cx, end)).boxed_local()]);
        assert!(timeout(LATE, last.next()).await.is_ok());
    }
}
