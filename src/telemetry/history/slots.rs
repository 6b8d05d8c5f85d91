//! The last minutes in slots of a few seconds, without a gap whatever clocks do.
//!
//! Where a moment belongs is measured by a clock that only runs on, so that nothing is counted twice or lost. That clock
//! stands still while the machine sleeps, and the wall's is set to other times: where both differ, the wall is right. If it
//! is ahead, the time between has empty slots; if it is behind, all slots get other names.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::usage::Series;
use super::{SLOTS, STEP};

/// How many series have a place of their own in a slot.
const MOST_SERIES: usize = 12;
/// Further answers are taken for as slow as this.
const SLOWEST: Duration = Duration::from_secs(3600);
/// Digits that times are told apart by: within 1 %.
const DIGITS: u8 = 2;

/// All slots.
#[derive(Debug)]
pub(super) struct Slots {
    /// The oldest first. The last one is under way.
    all: VecDeque<Slot>,
    /// The number of the last one: how many steps from 1970 to its beginning.
    newest: u64,
    /// When the last one is over.
    ends: Instant,
    /// Microseconds until the first byte, in the last one. What becomes of a slot needs no more than two of them.
    first_bytes: Histogram<u32>,
    /// How often all slots got other names.
    renamed: u64,
}

/// What happened in one slot.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot {
    pub(super) requests: u32,
    pub(super) errors: u32,
    pub(super) first_byte: Quantiles,
    pub(super) tokens: Vec<(Series, u64)>,
    /// Of whatever had no place any more.
    pub(super) others: u64,
}

/// Microseconds until the first byte that half of all, and all but one in a hundred, took at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Quantiles {
    pub(super) p50: Option<u64>,
    pub(super) p99: Option<u64>,
}

/// Copies of the newest slots.
#[derive(Debug)]
pub(super) struct Copies {
    /// The oldest first.
    pub(super) slots: Vec<Slot>,
    /// The number of the last one.
    pub(super) newest: u64,
    pub(super) renamed: u64,
}

impl Slots {
    /// Nothing has happened in any of them.
    pub(super) fn new(now: Instant, wall: SystemTime) -> Self {
        let all = (0..SLOTS).map(|_| Slot::default()).collect();
        let (newest, left) = place(since_1970(wall));
        Self { all, newest, ends: now + left, first_bytes: times(), renamed: 0 }
    }

    /// When the last one is over, so that [`Slots::look`] is called for.
    pub(super) fn end(&self) -> Instant {
        self.ends
    }

    /// Begins the slots that it is time for.
    pub(super) fn look(&mut self, now: Instant, wall: SystemTime) {
        let wall = since_1970(wall);
        let end = STEP.saturating_mul(u32::try_from(self.newest + 1).unwrap_or(u32::MAX));
        let mut time = match now.checked_duration_since(self.ends) {
            Some(over) => end + over,
            None => end.saturating_sub(self.ends - now),
        };
        if wall >= time + STEP {
            time = wall;
        } else if let Some(ahead) = time.checked_sub(wall).filter(|ahead| *ahead >= STEP) {
            let steps = u32::try_from(steps(ahead)).unwrap_or(u32::MAX);
            self.newest = self.newest.saturating_sub(steps.into());
            self.renamed += 1;
            time = time.saturating_sub(STEP.saturating_mul(steps));
        }
        let (newest, left) = place(time);
        let turns = usize::try_from(newest.saturating_sub(self.newest)).unwrap_or(usize::MAX);
        (0..turns.min(SLOTS)).for_each(|_| self.turn());
        (self.newest, self.ends) = (newest.max(self.newest), now + left);
    }

    /// So many requests are over; of these, so many went wrong. Some have taken so long until the first byte.
    pub(super) fn count(&mut self, requests: u64, errors: u64, first_bytes: &Histogram<u32>) {
        if let Some(slot) = self.all.back_mut() {
            let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
            slot.requests = slot.requests.saturating_add(number(requests));
            slot.errors = slot.errors.saturating_add(number(errors));
        }
        // They have the same bounds.
        let _ = self.first_bytes.add(first_bytes);
    }

    /// Tokens of a series were spent.
    pub(super) fn spend(&mut self, series: Series, total: u64) {
        let Some(slot) = self.all.back_mut() else { return };
        let has_room = slot.tokens.len() < MOST_SERIES;
        let spent = match slot.tokens.iter_mut().find(|(known, _)| *known == series) {
            Some((_, spent)) => spent,
            None if has_room => return slot.tokens.push((series, total)),
            None => &mut slot.others,
        };
        *spent = spent.saturating_add(total);
    }

    /// The newest ones.
    pub(super) fn newest(&self, count: usize) -> Copies {
        let skipped = self.all.len().saturating_sub(count);
        let mut slots: Vec<Slot> = self.all.range(skipped..).cloned().collect();
        if let Some(slot) = slots.last_mut() {
            slot.first_byte = self.quantiles();
        }
        Copies { slots, newest: self.newest, renamed: self.renamed }
    }

    fn turn(&mut self) {
        let quantiles = self.quantiles();
        if let Some(slot) = self.all.back_mut() {
            slot.first_byte = quantiles;
            slot.tokens.shrink_to_fit();
        }
        if quantiles != Quantiles::default() {
            self.first_bytes.reset();
        }
        self.all.pop_front();
        self.all.push_back(Slot::default());
    }

    fn quantiles(&self) -> Quantiles {
        let times = Some(&self.first_bytes).filter(|times| !times.is_empty());
        let at = |quantile| times.map(|times| times.value_at_quantile(quantile));
        Quantiles { p50: at(0.5), p99: at(0.99) }
    }
}

/// The number of the slot that a time is in, and how much is left of it.
fn place(time: Duration) -> (u64, Duration) {
    let number = steps(time);
    let end = STEP.saturating_mul(u32::try_from(number + 1).unwrap_or(u32::MAX));
    // At the end of all times that fit: slots are as long then, too.
    (number, Some(end.saturating_sub(time)).filter(|left| !left.is_zero()).unwrap_or(STEP))
}

/// How many whole steps there are in a time.
fn steps(time: Duration) -> u64 {
    time.as_secs() / STEP.as_secs()
}

fn since_1970(wall: SystemTime) -> Duration {
    wall.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Room for times until the first byte, in microseconds.
pub(super) fn times() -> Histogram<u32> {
    #[expect(clippy::expect_used, reason = "the bounds are constants")]
    Histogram::new_with_bounds(1, micros(SLOWEST), DIGITS).expect("bounds in order")
}

/// As they are told apart there.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.min(SLOWEST).as_micros()).unwrap_or(u64::MAX)
}
