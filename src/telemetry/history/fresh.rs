//! What one worker has counted since it was last brought to the rest: workers that counted in one place would wait for each
//! other.

use std::mem;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::slots::{Slots, micros, times};
use super::usage::Uses;
use crate::telemetry::recorder::Spent;

/// Counts of one worker.
#[derive(Debug)]
pub(super) struct Fresh {
    requests: u64,
    errors: u64,
    /// Microseconds until the first byte.
    first_bytes: Histogram<u32>,
    uses: Uses,
    /// When the slot is over that all this belongs to.
    pub(super) until: Instant,
}

impl Fresh {
    pub(super) fn new(until: Instant) -> Self {
        Self { requests: 0, errors: 0, first_bytes: times(), uses: Uses::default(), until }
    }

    /// A request is over.
    pub(super) fn count(&mut self, went_wrong: bool, first_byte: Option<Duration>) {
        self.requests += 1;
        self.errors += u64::from(went_wrong);
        if let Some(time) = first_byte {
            self.first_bytes.saturating_record(micros(time));
        }
    }

    /// A response has cost tokens.
    pub(super) fn spend(&mut self, spent: &Spent<'_>) {
        self.uses.add(spent);
    }

    /// Brings it to the rest, and begins anew. How many requests it were, and how many of them went wrong.
    pub(super) fn bring(&mut self, slots: &mut Slots, uses: &mut Uses) -> (u64, u64) {
        if self.requests > 0 {
            slots.count(self.requests, self.errors, &self.first_bytes);
            self.first_bytes.reset();
        }
        self.uses.bring(uses, |series, tokens| slots.spend(series, tokens));
        (mem::take(&mut self.requests), mem::take(&mut self.errors))
    }
}
