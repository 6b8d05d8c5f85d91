//! What has happened since the start, and in the last minutes: counted in memory that does not grow, for `/status` and
//! whoever watches it.

pub mod mishaps;
pub mod reading;
mod slots;
pub mod usage;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::exchange::Route;
use super::recorder::{Finished, Moment, Observer, Spent};
use crate::clock::SharedClock;
use crate::error::ErrorReport;

use mishaps::{Mishap, Mishaps};
use reading::Reading;
use slots::Slots;
use usage::{Used, Uses};

/// How many slots there are: a quarter of an hour.
pub const SLOTS: usize = 180;
/// How long each is.
pub const STEP: Duration = Duration::from_secs(5);

/// The history of one process.
#[derive(Debug)]
pub struct History {
    clock: SharedClock,
    /// Held for moments: nobody who holds it waits, or makes anything of what is in there.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    slots: Slots,
    uses: Uses,
    mishaps: Mishaps,
    requests: u64,
    errors: u64,
}

/// What has happened since the start.
#[derive(Debug)]
pub struct Totals {
    /// Requests for Azure that are over.
    pub requests: u64,
    /// Of these, those that went wrong.
    pub errors: u64,
    /// What was used by whom.
    pub usage: Vec<Used>,
    /// What went wrong last, the newest first.
    pub mishaps: Vec<Mishap>,
}

impl History {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(clock: SharedClock) -> Self {
        let state = State {
            slots: Slots::new(Instant::now(), clock.now()),
            uses: Uses::default(),
            mishaps: Mishaps::default(),
            requests: 0,
            errors: 0,
        };
        Self { clock, state: Mutex::new(state) }
    }

    /// The newest `slots`, or all if there are not so many.
    #[must_use]
    pub fn reading(&self, slots: usize) -> Reading {
        let now = self.clock.now();
        let mut state = self.open();
        // Unlike the clock of the slots, this one knows how long the machine has slept.
        state.slots.look(Instant::now(), now);
        let (copies, names) = (state.slots.newest(slots), state.uses.names());
        drop(state);
        Reading::of(&copies, &names)
    }

    /// Everything since the start.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let state = self.open();
        Totals {
            requests: state.requests,
            errors: state.errors,
            usage: state.uses.all().to_vec(),
            mishaps: state.mishaps.all(),
        }
    }

    /// With the slot that it is time for.
    fn at(&self, at: Moment) -> MutexGuard<'_, State> {
        let mut state = self.open();
        if state.slots.are_over(at.runs) {
            state.slots.look(at.runs, at.wall);
        }
        state
    }

    /// A panic elsewhere leaves nothing half done in here that matters.
    fn open(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for History {
    fn finished(&self, request: &Finished<'_>) {
        let is_traffic = request.route != Route::Own;
        let went_wrong = request.went_wrong();
        if !is_traffic && !went_wrong {
            return;
        }
        let mishap = went_wrong.then(|| Mishap::of(request, request.ended.wall));
        let mut state = self.at(request.ended);
        if is_traffic {
            state.requests += 1;
            state.errors += u64::from(went_wrong);
            state.slots.count(went_wrong, request.waited());
        }
        if let Some(mishap) = mishap {
            state.mishaps.add(mishap);
        }
    }

    fn spent(&self, spent: &Spent<'_>) {
        let mut state = self.at(spent.at);
        let series = state.uses.add(spent);
        if let Some(usage) = spent.usage {
            state.slots.spend(series, usage.total());
        }
    }

    fn misfit(&self, status: StatusCode, report: &ErrorReport) {
        let mishap = Mishap::misfit(status, report, self.clock.now());
        self.open().mishaps.add(mishap);
    }
}

#[cfg(test)]
mod tests;
