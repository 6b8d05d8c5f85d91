//! What has happened since the start, and in the last minutes: counted in memory that does not grow, for `/status` and
//! whoever watches it.

mod fresh;
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
use crate::workers::PerWorker;

use fresh::Fresh;
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
    /// What belongs to the slot that is under way and was not brought there yet. Whoever has one of these does not wait for
    /// `state`.
    fresh: PerWorker<Mutex<Fresh>>,
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
        let slots = Slots::new(Instant::now(), clock.now());
        let fresh = PerWorker::new(|| Mutex::new(Fresh::new(slots.end())));
        let state = State { slots, uses: Uses::default(), mishaps: Mishaps::default(), requests: 0, errors: 0 };
        Self { clock, state: Mutex::new(state), fresh }
    }

    /// The newest `slots`, or all if there are not so many.
    #[must_use]
    pub fn reading(&self, slots: usize) -> Reading {
        // Unlike the clock of the slots, the wall's knows how long the machine has slept.
        let state = self.all_at(Moment { runs: Instant::now(), wall: self.clock.now() });
        let (copies, names) = (state.slots.newest(slots), state.uses.names());
        drop(state);
        Reading::of(&copies, &names)
    }

    /// Everything since the start.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let state = self.all_at(Moment { runs: Instant::now(), wall: self.clock.now() });
        Totals {
            requests: state.requests,
            errors: state.errors,
            usage: state.uses.all().to_vec(),
            mishaps: state.mishaps.all(),
        }
    }

    /// This worker's, with the slot that it is time for.
    fn at(&self, at: Moment) -> MutexGuard<'_, Fresh> {
        let fresh = open(self.fresh.own());
        if at.runs < fresh.until {
            return fresh;
        }
        drop(fresh);
        drop(self.all_at(at));
        open(self.fresh.own())
    }

    /// Everything, with the slot that it is time for.
    fn all_at(&self, at: Moment) -> MutexGuard<'_, State> {
        let mut state = open(&self.state);
        for fresh in self.fresh.all() {
            let State { slots, uses, .. } = &mut *state;
            let (requests, errors) = open(fresh).bring(slots, uses);
            state.requests += requests;
            state.errors += errors;
        }
        state.slots.look(at.runs, at.wall);
        self.fresh.all().for_each(|fresh| open(fresh).until = state.slots.end());
        state
    }
}

/// A panic elsewhere leaves nothing half done in here that matters.
fn open<T>(counts: &Mutex<T>) -> MutexGuard<'_, T> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Observer for History {
    fn finished(&self, request: &Finished<'_>) {
        let is_traffic = request.route != Route::Own;
        let went_wrong = request.went_wrong();
        if !is_traffic && !went_wrong {
            return;
        }
        if is_traffic {
            self.at(request.ended).count(went_wrong, request.waited());
        }
        if went_wrong {
            let mishap = Mishap::of(request, request.ended.wall);
            open(&self.state).mishaps.add(mishap);
        }
    }

    fn spent(&self, spent: &Spent<'_>) {
        self.at(spent.at).spend(spent);
    }

    fn misfit(&self, status: StatusCode, report: &ErrorReport) {
        let mishap = Mishap::misfit(status, report, self.clock.now());
        open(&self.state).mishaps.add(mishap);
    }
}

#[cfg(test)]
mod tests;
