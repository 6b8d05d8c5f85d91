//! What became of the requests: counts of what was explained, words about what was not.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

/// Of more violations only the number is told.
const MOST_TOLD: usize = 20;
/// So much is told of each, in characters.
const LONGEST: usize = 400;

/// Counts and complaints of one round.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// By what was asked and what came of it.
    outcomes: BTreeMap<(&'static str, &'static str), u64>,
    violations: Vec<String>,
    more: u64,
}

impl Tally {
    /// A request of this kind had this outcome, or one that nothing explains.
    pub(crate) fn note(&self, kind: &'static str, outcome: Result<&'static str, String>) {
        let name = *outcome.as_ref().unwrap_or(&"VIOLATION");
        *self.open().outcomes.entry((kind, name)).or_default() += 1;
        if let Err(violation) = outcome {
            self.violation(&format!("{kind}: {violation}"));
        }
    }

    /// Something is not as it should be.
    pub(crate) fn violation(&self, violation: &str) {
        let mut counts = self.open();
        if counts.violations.len() < MOST_TOLD {
            counts.violations.push(violation.chars().take(LONGEST).collect());
        } else {
            counts.more += 1;
        }
    }

    /// All that was not as it should be.
    pub(crate) fn violations(&self) -> Vec<String> {
        let counts = self.open();
        let more = (counts.more > 0).then(|| format!("and {} more", counts.more));
        counts.violations.iter().cloned().chain(more).collect()
    }

    fn open(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.open();
        for ((kind, outcome), count) in &counts.outcomes {
            writeln!(f, "{kind:<34} {outcome:<28} {count:>9}")?;
        }
        let all: u64 = counts.outcomes.values().sum();
        write!(f, "{:<63} {all:>9}", "all requests")
    }
}

/// Median, 99th percentile and maximum of durations, in milliseconds.
pub(crate) struct Latency(Histogram<u64>);

impl Latency {
    pub(crate) fn new() -> Self {
        Self(Histogram::new(3).expect("three digits"))
    }

    pub(crate) fn record(&mut self, took: Duration) {
        self.0.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX)).expect("it resizes");
    }

    pub(crate) fn at(&self, share: f64) -> Duration {
        Duration::from_micros(self.0.value_at_quantile(share))
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (median, p99, most) = (self.at(0.5), self.at(0.99), self.at(1.0));
        write!(f, "{} times: median {median:.2?}, p99 {p99:.2?}, at most {most:.2?}", self.0.len())
    }
}
