//! The thread that writes: what came within a second at once, and again later what could not be written.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::error::FileError;
use super::rows::Rows;
use super::store::Store;
use super::{Counting, HOUR, hour};
use crate::error::Causes;

/// How long is waited for more to write with it: what a `kill -9` can cost.
const TOGETHER: Duration = Duration::from_secs(1);
/// How long at most until the next try, after one that failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// What is dropped is not told more often, and what is too old not looked for.
const SPACING: Duration = Duration::from_secs(60);
const BETWEEN_PURGES: Duration = Duration::from_secs(60 * 60);
/// By how many seconds time may go on from one time to the next: more than an hour, for machines that sleep.
const STEP: i64 = 24 * HOUR;

#[derive(Debug)]
pub(super) struct Writer {
    counting: Arc<Counting>,
    store: Store,
    retention: Option<Duration>,
    /// What could not be written yet.
    waiting: Rows,
    /// Until the next try; longer after each that failed.
    pause: Duration,
    /// Whether the last try failed.
    is_failing: bool,
    purged: Option<Instant>,
    /// The hour that is taken for the last one when it is said what is too old, once there is one.
    reached: Option<i64>,
    /// When it was told how much was dropped, and how much was since.
    told: Option<Instant>,
    untold: u64,
}

impl Writer {
    pub(super) fn new(counting: Arc<Counting>, store: Store, retention: Option<Duration>) -> Self {
        Self {
            counting,
            // Told already, if not.
            is_failing: !store.is_open(),
            store,
            retention,
            waiting: Rows::default(),
            pause: TOGETHER,
            purged: None,
            reached: None,
            told: None,
            untold: 0,
        }
    }

    /// Writes until the end has begun, and then once more.
    pub(super) fn run(mut self) {
        self.purge();
        loop {
            let (rows, is_ending) = self.counting.next(!self.waiting.is_empty(), self.pause);
            self.waiting.merge(rows);
            self.write();
            self.tell_dropped(is_ending);
            if is_ending {
                break;
            }
            self.purge();
        }
        let lost = self.waiting.responses();
        if lost > 0 {
            tracing::error!(
                responses = lost,
                "what these have cost is not in the usage ledger: it could not be written"
            );
        }
        let counting = self.counting;
        // Whoever is last to close the file puts everything into it.
        drop(self.store);
        counting.is_over();
    }

    fn write(&mut self) {
        if self.waiting.responses() == 0 {
            return;
        }
        match self.store.write(&self.waiting) {
            Ok(()) => {
                self.waiting.clear();
                self.pause = TOGETHER;
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("the usage ledger is written again, with all that waited");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(error = %Causes(&error), "the usage ledger cannot be written; counts wait in memory");
                }
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            }
        }
        self.counting.waiting.store(self.waiting.responses(), Ordering::Relaxed);
        self.counting.is_failing.store(self.is_failing, Ordering::Relaxed);
    }

    fn tell_dropped(&mut self, is_ending: bool) {
        let dropped = self.waiting.take_dropped();
        let in_all = self.counting.dropped.fetch_add(dropped, Ordering::Relaxed) + dropped;
        self.untold += dropped;
        let is_due = is_ending || self.told.is_none_or(|told| told.elapsed() >= SPACING);
        if self.untold > 0 && is_due {
            let dropped = std::mem::take(&mut self.untold);
            self.told = Some(Instant::now());
            tracing::warn!(
                dropped,
                in_all,
                "responses were left out of the usage ledger: too much waits to be written"
            );
        }
    }

    /// Forgets what is too old, once in an hour.
    fn purge(&mut self) {
        let Some(retention) = self.retention else { return };
        if self.is_failing || self.purged.is_some_and(|purged| purged.elapsed() < BETWEEN_PURGES) {
            return;
        }
        match self.forget(retention) {
            Ok(rows) => {
                self.purged = Some(Instant::now());
                tracing::debug!(rows, "what usage.retention does not keep is gone from the usage ledger");
            }
            Err(error) => self.not_purged(&error),
        }
    }

    /// Time goes on from what was written last, and by no more than a step at once: a clock that is years ahead for a moment
    /// must not cost all that was counted.
    fn forget(&mut self, retention: Duration) -> Result<usize, FileError> {
        let reached = match self.reached {
            Some(reached) => Some(reached),
            None => self.store.newest()?,
        };
        let Some(reached) = reached else { return Ok(0) };
        let reached = hour(self.counting.clock.now()).min(reached.saturating_add(STEP));
        let kept = i64::try_from(retention.as_secs()).unwrap_or(i64::MAX);
        let forgotten = self.store.forget_before(reached.saturating_sub(kept) / HOUR * HOUR)?;
        self.reached = Some(reached);
        Ok(forgotten)
    }

    /// It is tried again with the next rows that are written.
    fn not_purged(&self, error: &FileError) {
        tracing::debug!(error = %Causes(error), path = %self.store.path().display(), "what is too old stays in the usage ledger");
    }
}
