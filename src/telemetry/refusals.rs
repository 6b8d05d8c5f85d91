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

    /// Counts a refusal, and tells it unless that was done a moment ago.
    pub fn record(&self, cause: &'static str, hint: String) {
        let now = self.clock.now();
        let mut seen = self.open();
        let known = seen.get(cause);
        let told_at = known.filter(|known| known.hint == hint).map(|known| known.told_at);
        let is_news = told_at.is_none_or(|told| now.duration_since(told).is_ok_and(|past| past >= SPACING));
        if is_news {
            tracing::warn!(cause, hint, "the resource refuses requests");
        }
        let count = known.map_or(0, |known| known.count) + 1;
        let told_at = if is_news { now } else { told_at.unwrap_or(now) };
        seen.insert(cause, Refusal { count, last_at: now, hint, told_at });
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
