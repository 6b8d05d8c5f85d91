//! What responses have cost, written down: by hour (UTC), app and model, in a SQLite file.
//!
//! Whoever carries a request adds to a few sums in memory, and is done. A thread of its own writes these down, all that came
//! within a second in one transaction. While the file cannot be written to, they wait, up to a bound, and nobody waits for
//! them: what is counted is counted once, whenever the file can be written again.

mod error;
mod file;
mod read;
mod rows;
mod store;
mod writer;

use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use error::FileError;
pub use read::{Entry, ReadError, read};

use rows::{Key, Rows};
use store::Store;
use writer::Writer;

use crate::clock::SharedClock;
use crate::config;
pub use crate::telemetry::counts::Counts;
use crate::telemetry::recorder::{Observer, Spent};
use crate::workers::PerWorker;

/// What is counted together.
const HOUR: i64 = 60 * 60;
/// How long the end of the program waits for what is still to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// For as long as a file may be locked, and some more.
    Usual,
    /// For what nothing is in the way of.
    None,
}

/// The ledger of one process: when this is dropped, what is left is written, unless that takes too long.
#[derive(Debug)]
pub struct Ledger {
    counting: Arc<Counting>,
    /// Until the thread has it.
    idle: Option<Writer>,
    path: PathBuf,
    patience: Patience,
}

/// What is being counted, by whoever carries requests.
#[derive(Debug)]
struct Counting {
    clock: SharedClock,
    /// What each worker has counted: to count in one place, they would wait for each other.
    rows: PerWorker<Mutex<Rows>>,
    stage: Mutex<Stage>,
    /// There is something to write, or the end has begun, or come.
    news: Condvar,
    dropped: AtomicU64,
    /// Responses that should be in the file, and are not, for now.
    waiting: AtomicU64,
    is_failing: AtomicBool,
}

/// How a ledger does, for whoever tells it.
#[derive(Debug, Clone)]
pub struct Condition(Arc<Counting>);

impl Condition {
    /// How many responses were never written down, because too many kinds of them waited to be.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// How many wait, because the file cannot be written to.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// Whether it could not be written to when it was tried last.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.0.is_failing.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
struct Stage {
    /// There is something to write, or was when this was looked at last.
    has_rows: bool,
    is_ending: bool,
    is_over: bool,
}

impl Ledger {
    /// Opens the file, and makes it if it is not there.
    ///
    /// # Errors
    ///
    /// If it is none that can be written to, now or later.
    pub fn open(settings: &config::Ledger, clock: SharedClock) -> Result<Self, FileError> {
        let store = Store::open(&settings.database)?;
        let counting = Arc::new(Counting {
            clock,
            rows: PerWorker::default(),
            stage: Mutex::default(),
            news: Condvar::new(),
            dropped: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            is_failing: AtomicBool::new(false),
        });
        let path = store.path().to_owned();
        Ok(Self {
            idle: Some(Writer::new(counting.clone(), store, settings.retention)),
            counting,
            path,
            patience: Patience::Usual,
        })
    }

    /// The directory in which files are made, written to and removed.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// Begins to write, in a thread that has the rights of this one: not before those were given up that are not needed.
    ///
    /// # Errors
    ///
    /// If there can be no such thread.
    pub fn begin(&mut self) -> io::Result<()> {
        let Some(writer) = self.idle.take() else { return Ok(()) };
        thread::Builder::new().name("ledger".to_owned()).spawn(move || writer.run()).map(|_| ())
    }

    /// Writes what is left, unless that takes too long.
    pub fn close(mut self, patience: Patience) {
        self.patience = patience;
    }

    /// Hears of what is to be counted.
    #[must_use]
    pub fn observer(&self) -> Arc<dyn Observer> {
        self.counting.clone()
    }

    /// Knows how it does.
    #[must_use]
    pub fn condition(&self) -> Condition {
        Condition(self.counting.clone())
    }
}

impl Patience {
    fn time(self) -> Duration {
        match self {
            Self::Usual => Duration::from_secs(3),
            Self::None => Duration::from_millis(200),
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if self.idle.is_some() {
            // Nothing was served.
            return;
        }
        let mut stage = open(&self.counting.stage);
        stage.is_ending = true;
        self.counting.news.notify_all();
        let waited = self.counting.news.wait_timeout_while(stage, self.patience.time(), |stage| !stage.is_over);
        if waited.is_ok_and(|(_, waited)| waited.timed_out()) {
            tracing::warn!("the usage ledger took too long to be written; the last counts may be lost");
        }
    }
}

impl Observer for Counting {
    fn spent(&self, spent: &Spent<'_>) {
        let key = Key { hour: hour(spent.at.wall), app: spent.app, model: spent.model };
        let mut rows = open(self.rows.own());
        let is_first = rows.is_empty();
        rows.add(key, Counts::one(spent.usage));
        drop(rows);
        if is_first {
            open(&self.stage).has_rows = true;
            self.news.notify_all();
        }
    }
}

impl Counting {
    /// Waits until there is something to write, unless there `is_some` already, and then for more of it, but no longer than
    /// `pause`. All that there is, and whether the end has begun.
    fn next(&self, is_some: bool, pause: Duration) -> (Rows, bool) {
        let mut stage = open(&self.stage);
        while !is_some && !stage.has_rows && !stage.is_ending {
            stage = self.news.wait(stage).unwrap_or_else(PoisonError::into_inner);
        }
        let waited = self.news.wait_timeout_while(stage, pause, |stage| !stage.is_ending);
        let (mut stage, _) = waited.unwrap_or_else(PoisonError::into_inner);
        // First: whoever begins anew behind our back says so.
        stage.has_rows = false;
        let is_ending = stage.is_ending;
        drop(stage);
        let mut all = Rows::default();
        self.rows.all().for_each(|rows| all.merge(mem::take(&mut open(rows))));
        (all, is_ending)
    }

    fn is_over(&self) {
        open(&self.stage).is_over = true;
        self.news.notify_all();
    }
}

/// A panic elsewhere leaves nothing half done in here.
fn open<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The second with which the hour of this time began.
#[must_use]
pub fn hour(time: SystemTime) -> i64 {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(seconds).unwrap_or_default() / HOUR * HOUR
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::clock::{Clock, ManualClock};
    use crate::inspect::usage::Usage;
    use crate::telemetry::names::Label;
    use crate::telemetry::operation::Operation;
    use crate::telemetry::recorder::Moment;
    use crate::workers::on;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    /// What is spent now by an app with a name of one letter.
    fn one<'a>(clock: &ManualClock, app: &'a str) -> Spent<'a> {
        let usage = Usage { input: 10, cached: 4, output: 5, reasoning: 1 };
        let at = Moment { runs: Instant::now(), wall: clock.now() };
        let label = |name: &'a str| Label { name, number: name.as_bytes()[0].into() };
        Spent { at, operation: Operation::unknown(), app: label(app), model: label("m"), usage: Some(usage) }
    }

    /// A ledger of some days, kept from its begin to its end.
    fn keep(settings: &config::Ledger, clock: &Arc<ManualClock>, count: impl FnOnce(&dyn Observer)) {
        let mut ledger = Ledger::open(settings, clock.clone()).unwrap();
        ledger.begin().unwrap();
        count(&*ledger.observer());
    }

    #[test]
    fn what_is_counted_belongs_to_its_hour_and_is_forgotten_in_time() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("usage.db");
        let settings = config::Ledger { database, retention: Some(90 * DAY) };
        let clock = Arc::new(ManualClock::new(UNIX_EPOCH + 20_000 * DAY));
        keep(&settings, &clock, |observer| {
            observer.spent(&one(&clock, "a"));
            clock.advance(Duration::from_secs(3599));
            on(1, || observer.spent(&one(&clock, "a")));
            clock.advance(Duration::from_secs(1));
            observer.spent(&one(&clock, "b"));
            observer.spent(&Spent { usage: None, ..one(&clock, "b") });
        });
        let shown = |since| -> Vec<_> {
            let entries = read(&settings.database, since).unwrap();
            entries.into_iter().map(|entry| (entry.app, entry.counts)).collect()
        };
        let both = Counts { responses: 2, unknown: 0, input: 20, cached: 8, output: 10, reasoning: 2 };
        let mut other = Counts::one(one(&clock, "b").usage);
        other += Counts::one(None);
        assert_eq!(shown(0), [("a".to_owned(), both), ("b".to_owned(), other)]);
        assert_eq!(shown(20_000 * 86_400 + 3600), [("b".to_owned(), other)]);

        clock.advance(90 * DAY);
        keep(&settings, &clock, |observer| observer.spent(&one(&clock, "c")));
        assert_eq!(shown(0).len(), 3, "nothing says yet that so much time has passed");
        keep(&settings, &clock, |_| ());
        assert_eq!(shown(0), [("b".to_owned(), other), ("c".to_owned(), Counts::one(one(&clock, "c").usage))]);
        clock.advance(Duration::from_secs(3600));
        keep(&config::Ledger { retention: None, ..settings.clone() }, &clock, |_| ());
        assert_eq!(shown(0).len(), 2, "for ever");
    }

    /// As that of a virtual machine that resumes, or of one whose battery is empty. That nothing was counted for years is no
    /// reason to forget what was before.
    #[test]
    fn a_clock_that_was_wrong_for_a_moment_costs_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("usage.db");
        let settings = config::Ledger { database, retention: Some(400 * DAY) };
        let clock = Arc::new(ManualClock::new(UNIX_EPOCH + 20_000 * DAY));
        keep(&settings, &clock, |observer| observer.spent(&one(&clock, "a")));
        clock.advance(5000 * DAY);
        keep(&settings, &clock, |observer| observer.spent(&one(&clock, "b")));
        clock.set_back(5000 * DAY);
        keep(&settings, &clock, |_| ());
        assert_eq!(read(&settings.database, 0).unwrap().len(), 2);
    }
}
