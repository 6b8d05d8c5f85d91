//! Room for spans that wait for the collector, and how many never arrive: told in the log, seldom.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::delivery::{Signal, Undelivered};
use crate::clock::SharedClock;
use crate::telemetry::tally::Tally;

/// Spans that wait, and those that never arrive.
#[derive(Debug)]
pub(super) struct Backlog {
    most: usize,
    waiting: AtomicUsize,
    lost: AtomicU64,
    told: Tally<Loss, ()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Loss {
    NoRoom,
    Undelivered(Signal),
}

impl Backlog {
    /// With room for so many that wait, those under way among them.
    pub(super) fn new(most: usize, clock: SharedClock) -> Self {
        Self { most, waiting: AtomicUsize::new(0), lost: AtomicU64::new(0), told: Tally::new(clock) }
    }

    /// Takes room for one more, if there is any. How many wait then.
    pub(super) fn enter(&self) -> Option<usize> {
        let room = |waiting| (waiting < self.most).then_some(waiting + 1);
        let entered = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room);
        if entered.is_err() {
            let lost = self.lose(1);
            if self.told.count(|_| Loss::NoRoom, ()) {
                tracing::warn!(
                    lost,
                    "spans are dropped: the collector is slower than requests come (telemetry.otlp_endpoint)"
                );
            }
        }
        entered.ok().map(|waited| waited + 1)
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// So many wait no longer.
    pub(super) fn leave(&self, spans: usize) {
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
    }

    /// The collector does not have a message, in which were so many spans.
    pub(super) fn undelivered(&self, signal: Signal, error: &Undelivered, spans: u64) {
        let lost = self.lose(spans);
        if self.told.count(|_| Loss::Undelivered(signal), ()) {
            let (signal, error) = (signal.as_str(), error.to_string());
            tracing::warn!(
                signal,
                error,
                lost,
                "the collector does not take what is exported (telemetry.otlp_endpoint)"
            );
        }
    }

    /// Says at the end what was lost.
    pub(super) fn tell_sum(&self) {
        let lost = self.lost.load(Ordering::Relaxed) + self.waiting.load(Ordering::Relaxed) as u64;
        if lost > 0 {
            tracing::warn!(lost, "spans that no collector has, in all");
        }
    }

    fn lose(&self, spans: u64) -> u64 {
        self.lost.fetch_add(spans, Ordering::Relaxed) + spans
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn there_is_room_for_so_many_spans_and_the_rest_is_counted() {
        let backlog = Backlog::new(64, Arc::new(ManualClock::stopped()));
        let entered = (0..74).filter(|_| backlog.enter().is_some()).count();
        assert_eq!((entered, backlog.lost.load(Ordering::Relaxed)), (64, 10));
        backlog.leave(32);
        assert_eq!(backlog.enter(), Some(33));
        backlog.undelivered(Signal::Traces, &Undelivered::Over, 32);
        assert_eq!(backlog.lost.load(Ordering::Relaxed), 42);
    }
}
