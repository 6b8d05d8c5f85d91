//! That an old list of models is served because no newer one comes: told in the log.

use std::time::SystemTime;

use super::tally::Tally;
use crate::clock::SharedClock;

/// How often an old list had to do.
#[derive(Debug)]
pub struct Outages {
    tally: Tally<(), ()>,
    clock: SharedClock,
}

impl Outages {
    /// None so far.
    #[must_use]
    pub fn new(clock: SharedClock) -> Self {
        Self { tally: Tally::new(clock.clone()), clock }
    }

    /// Tells that a list of then was served, and why, unless that was told a moment ago.
    pub fn record(&self, since: SystemTime, error: &str) {
        let age = self.clock.now().duration_since(since).unwrap_or_default().as_secs();
        if self.tally.count(|_| (), ()) {
            tracing::warn!(error, age, "an old list of the deployments is served: no newer one comes");
        }
    }
}
