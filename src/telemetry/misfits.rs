//! What callers send that is no request: told in the log by kind.

use super::tally::Tally;
use crate::clock::SharedClock;
use crate::error::ErrorReport;

/// What has come that was no request.
#[derive(Debug)]
pub struct Misfits(Tally<&'static str, ()>);

impl Misfits {
    /// Nothing has come yet.
    #[must_use]
    pub fn new(clock: SharedClock) -> Self {
        Self(Tally::new(clock))
    }

    /// Tells of one; loudly, unless its like was told a moment ago: each costs its caller a line of text, or less.
    pub fn record(&self, ErrorReport { code, message }: &ErrorReport, app: &str, status: u16, id: &str) {
        if self.0.count(|_| code, ()) {
            tracing::warn!(code, error = message, app, status, id, "what came was no request");
        } else {
            tracing::debug!(code, error = message, app, status, id, "what came was no request");
        }
    }
}
