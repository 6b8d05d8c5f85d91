//! What the resource refused and the proxy can explain: told in the log, and kept for `/status`.
//!
//! Clients show an error's message and seldom more, so a hint in the content is not enough.

use std::collections::BTreeMap;

use super::tally::{Counted, Tally};
use crate::clock::SharedClock;

/// The refusals of one process by cause, each with what a person can do about it.
#[derive(Debug)]
pub struct Refusals(Tally<&'static str, String>);

impl Refusals {
    /// Nothing has been refused yet.
    #[must_use]
    pub fn new(clock: SharedClock) -> Self {
        Self(Tally::new(clock))
    }

    /// Counts a refusal, and tells it unless its like was told a moment ago.
    pub fn record(&self, cause: &'static str, hint: &str) {
        if self.0.count(|_| cause, hint.to_owned()) {
            tracing::warn!(cause, hint, "the resource refuses requests");
        }
    }

    /// What was refused so far.
    #[must_use]
    pub fn seen(&self) -> BTreeMap<&'static str, Counted<String>> {
        self.0.seen()
    }
}
