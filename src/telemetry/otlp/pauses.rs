//! How long to wait before the next attempt: longer each time, whatever the collector asks for, and never without end.

use std::time::Duration;

/// The pause before the second attempt; each further one is twice as long.
const FIRST: Duration = Duration::from_secs(1);
/// They grow no longer than this.
const LONGEST: Duration = Duration::from_secs(30);
/// The most that a collector is believed. What is to be sent has long been given up by then, unless its time is long too.
const LONGEST_ASKED: Duration = Duration::from_secs(300);

/// The pauses between the attempts to deliver one message.
#[derive(Debug)]
pub(super) struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Pauses {
    /// The next one, given what the collector `asked` for: it can ask for more, not for less.
    pub(super) fn next(&mut self, asked: Option<Duration>) -> Duration {
        // Not in step with others that wait for the same collector.
        let jittered = self.next.mul_f64(0.5 + fastrand::f64());
        self.next = self.next.saturating_mul(2).min(LONGEST);
        jittered.max(asked.unwrap_or_default().min(LONGEST_ASKED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_grow_and_then_stay() {
        for asked in [None, Some(Duration::ZERO)] {
            let mut pauses = Pauses::default();
            for seconds in [1, 2, 4, 8, 16].into_iter().chain([30; 1000]) {
                let expected = Duration::from_secs(seconds);
                let pause = pauses.next(asked);
                assert!(expected / 2 <= pause && pause <= expected * 3 / 2, "{pause:?} {expected:?}");
            }
        }
    }

    #[test]
    fn a_collector_may_ask_for_more() {
        for (asked, expected) in [(20, 20), (300, 300), (301, 300), (u64::MAX, 300)] {
            let pause = Pauses::default().next(Some(Duration::from_secs(asked)));
            assert_eq!(pause, Duration::from_secs(expected));
        }
    }
}
