//! What the resource refused and the proxy can explain: told in the log, and kept for `/status`.
//!
//! Clients show an error's message and seldom more, so a hint in the content is not enough.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::clock::SharedClock;

/// The same is not told more often.
const SPACING: Duration = Duration::from_secs(60);

/// The refusals of one process, by cause.
#[derive(Debug)]
pub struct Refusals {
    clock: SharedClock,
    seen: Mutex<BTreeMap<&'static str, Refusal>>,
}

/// Refusals for one cause.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// How many there were.
    pub count: u64,
    /// When the last one came.
    pub last_at: SystemTime,
    /// What a person can do about it.
    pub hint: String,
    told_at: SystemTime,
}

impl Refusals {
    /// Nothing has been refused yet.
    #[must_use]
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, seen: Mutex::default() }
    }

    /// Counts a refusal, and tells it unless its like was told a moment ago: callers decide how many there are.
    pub fn record(&self, cause: &'static str, hint: &str) {
        let now = self.clock.now();
        let is_news = {
            let mut seen = self.open();
            let known = seen.get(cause);
            // A time in the future is one before the clock was set back.
            let since = |known: &Refusal| now.duration_since(known.told_at).map_or(SPACING, |past| past);
            let is_news = known.is_none_or(|known| since(known) >= SPACING);
            let told_at = known.filter(|_| !is_news).map_or(now, |known| known.told_at);
            let count = known.map_or(0, |known| known.count) + 1;
            seen.insert(cause, Refusal { count, last_at: now, hint: hint.to_owned(), told_at });
            is_news
        };
        if is_news {
            tracing::warn!(cause, hint, "the resource refuses requests");
        }
    }

    /// What was refused so far.
    #[must_use]
    pub fn seen(&self) -> BTreeMap<&'static str, Refusal> {
        self.open().clone()
    }

    /// A panic elsewhere leaves nothing half done in here.
    fn open(&self) -> MutexGuard<'_, BTreeMap<&'static str, Refusal>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
