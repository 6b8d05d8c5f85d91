//! What time it is for what one task does in one go.
//!
//! A request asks a dozen times, and each time takes as long as a field of its head. Between two times that its task waits there
//! are some microseconds, which nobody who measures milliseconds and sets deadlines of seconds misses: so the time is read once.

use std::cell::Cell;
use std::time::SystemTime;

use tokio::time::Instant;

thread_local! {
    static TURN: Cell<Turn> = const { Cell::new(Turn { is_on: false, runs: None, wall: None }) };
}

/// What this thread does at the moment, and what time it was when that was first asked.
#[derive(Clone, Copy)]
struct Turn {
    is_on: bool,
    runs: Option<Instant>,
    wall: Option<SystemTime>,
}

/// Puts back what was before.
struct Before(Turn);

/// Does what takes microseconds and never waits: all of it happens at the same time.
pub(crate) fn within<T>(work: impl FnOnce() -> T) -> T {
    let _before = Before(TURN.replace(Turn { is_on: true, runs: None, wall: None }));
    work()
}

/// The time that runs and is never set.
pub(crate) fn now() -> Instant {
    let turn = TURN.get();
    turn.runs.unwrap_or_else(|| {
        let now = Instant::now();
        if turn.is_on {
            TURN.set(Turn { runs: Some(now), ..turn });
        }
        now
    })
}

/// Wall time, as `read` says if it was not asked before.
pub(super) fn wall(read: impl FnOnce() -> SystemTime) -> SystemTime {
    let turn = TURN.get();
    turn.wall.unwrap_or_else(|| {
        let wall = read();
        if turn.is_on {
            TURN.set(Turn { wall: Some(wall), ..turn });
        }
        wall
    })
}

impl Drop for Before {
    fn drop(&mut self) {
        TURN.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::Duration;

    use super::*;
    use crate::clock::{Clock, SystemClock};

    /// Until the clock has moved on.
    fn let_time_pass() {
        let began = Instant::now();
        while began.elapsed().is_zero() {}
    }

    #[test]
    fn a_turn_has_one_time() {
        let times = || {
            let both = (now(), SystemClock.now());
            let_time_pass();
            (both, (now(), SystemClock.now()))
        };
        let (first, second) = within(times);
        assert_eq!(first, second);
        let (third, fourth) = within(times);
        assert_eq!(third, fourth);
        assert!(third.0 > first.0, "each has its own");
        let (began, passed) = times();
        assert!(passed.0 > began.0, "there is none now");
    }

    #[test]
    fn a_turn_within_another_is_later() {
        within(|| {
            let outer = now();
            let_time_pass();
            assert!(within(now) > outer);
            assert_eq!(now(), outer);
        });
    }

    #[test]
    fn what_panics_ends_its_turn() {
        let panicked = catch_unwind(AssertUnwindSafe(|| within(|| assert_eq!(now(), now() + Duration::from_secs(1)))));
        assert!(panicked.is_err());
        let before = now();
        let_time_pass();
        assert!(now() > before);
    }
}
