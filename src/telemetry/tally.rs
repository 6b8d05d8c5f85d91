//! What callers cause, counted by kind, and told in the log no more often than somebody reads it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::clock::SharedClock;

/// The same is not told more often.
const SPACING: Duration = Duration::from_secs(60);

/// Counts of one process, by kind `K`, each with a note about the last that was counted.
#[derive(Debug)]
pub(super) struct Tally<K, N> {
    clock: SharedClock,
    seen: Mutex<BTreeMap<K, Counted<N>>>,
}

/// What was counted of one kind.
#[derive(Debug, Clone)]
pub struct Counted<N> {
    /// How many there were.
    pub count: u64,
    /// When the last one came.
    pub last_at: SystemTime,
    /// What is to be said of the last one.
    pub note: N,
    told_at: SystemTime,
}

impl<K: Ord + Clone, N: Clone> Tally<K, N> {
    /// Nothing has been counted yet.
    pub(super) fn new(clock: SharedClock) -> Self {
        Self { clock, seen: Mutex::new(BTreeMap::new()) }
    }

    /// Counts one of `kind`, which may depend on what there is already. Whether it is to be told: callers decide how many
    /// there are.
    pub(super) fn count(&self, kind: impl FnOnce(&BTreeMap<K, Counted<N>>) -> K, note: N) -> bool {
        let now = self.clock.now();
        let mut seen = self.open();
        let kind = kind(&seen);
        let known = seen.get(&kind);
        // A time in the future is one before the clock was set back.
        let since = |known: &Counted<N>| now.duration_since(known.told_at).map_or(SPACING, |past| past);
        let is_news = known.is_none_or(|known| since(known) >= SPACING);
        let told_at = known.filter(|_| !is_news).map_or(now, |known| known.told_at);
        let count = known.map_or(0, |known| known.count) + 1;
        seen.insert(kind, Counted { count, last_at: now, note, told_at });
        is_news
    }

    /// Everything so far.
    pub(super) fn seen(&self) -> BTreeMap<K, Counted<N>> {
        self.open().clone()
    }

    /// A panic elsewhere leaves nothing half done in here.
    fn open(&self) -> MutexGuard<'_, BTreeMap<K, Counted<N>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn the_same_is_told_once_a_minute_and_always_counted() {
        let clock = Arc::new(ManualClock::stopped());
        let tally = Tally::new(clock.clone());
        let count = |kind: &'static str| tally.count(|_| kind, ());
        assert_eq!([count("a"), count("a"), count("b")], [true, false, true]);
        clock.advance(SPACING / 2);
        assert!(!count("a"));
        clock.advance(SPACING / 2);
        assert_eq!([count("a"), count("a")], [true, false]);
        assert_eq!((tally.seen()["a"].count, tally.seen()["b"].count), (5, 1));
    }
}
