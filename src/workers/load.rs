//! How much each worker has to do: by the time that a processor has given it, and not by the time that has passed, of which other
//! programs take their part.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The clocks are looked at once for so many occasions, as that costs time, too.
const OCCASIONS: u32 = 16;
/// How far apart two looks are at least.
const SPAN: Duration = Duration::from_millis(100);
/// After that, what was seen is forgotten: nobody looks at the clocks of a worker that has nothing to do.
const FORGOTTEN: Duration = Duration::from_secs(1);
/// Thousandths of a processor. Who has more than this is given nothing that others could do…
const HIGH: u64 = 900;
/// …as those can that have less than this.
const LOW: u64 = 600;
/// It must have had so much for this many looks, one behind the other, before connections are handed over: when many begin together
/// there is much to do for a moment. And after that for as many again, as it takes a while until it shows.
const LOOKS: u32 = 5;

/// What one worker has to do.
#[derive(Debug)]
pub(super) struct Load {
    began: Instant,
    /// When it was seen, in milliseconds since then, and how much it was: thousandths of a processor, in the last ten bits.
    seen: AtomicU64,
}

/// What this thread knows of itself.
#[derive(Debug, Clone, Copy)]
struct Known {
    occasions: u32,
    at: Option<Instant>,
    /// How much time it had had by then.
    had: Duration,
    /// How many looks in a row have seen too much to do.
    high: u32,
    /// How many connections others should take.
    surplus: usize,
}

thread_local! {
    static KNOWN: Cell<Known> =
        const { Cell::new(Known { occasions: 0, at: None, had: Duration::ZERO, high: 0, surplus: 0 }) };
}

impl Default for Load {
    fn default() -> Self {
        Self { began: Instant::now(), seen: AtomicU64::new(0) }
    }
}

impl Load {
    /// Whether it has so much to do that others should have more.
    pub(super) fn is_high(&self) -> bool {
        self.share(Instant::now()) > HIGH
    }

    /// Whether it could do much more.
    pub(super) fn is_low(&self) -> bool {
        self.share(Instant::now()) < LOW
    }

    /// Thousandths of a processor.
    fn share(&self, now: Instant) -> u64 {
        let seen = self.seen.load(Ordering::Relaxed);
        let age = now.saturating_duration_since(self.began).saturating_sub(Duration::from_millis(seen >> 10));
        if age > FORGOTTEN { 0 } else { seen & 0x3ff }
    }

    /// Says what is seen, which is not forgotten.
    #[cfg(test)]
    pub(super) fn pretend(&self, thousandths: u64) {
        self.seen.store((u64::MAX << 10) | thousandths, Ordering::Relaxed);
    }

    /// Says what was seen just now.
    fn is(&self, thousandths: u64) {
        let age = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(0);
        self.seen.store((age << 10) | thousandths.min(0x3ff), Ordering::Relaxed);
    }

    /// To be called by the worker whose load it is, whenever there is an occasion. Whether it should hand one of its `connections`
    /// over, if others have room.
    pub(super) fn look(&self, connections: impl FnOnce() -> usize) -> bool {
        let mut known = KNOWN.get();
        known.occasions += 1;
        if known.occasions >= OCCASIONS {
            known.occasions = 0;
            self.look_at_clocks(&mut known, connections);
        }
        let hands_over = known.surplus > 0;
        known.surplus = known.surplus.saturating_sub(1);
        KNOWN.set(known);
        hands_over
    }

    fn look_at_clocks(&self, known: &mut Known, connections: impl FnOnce() -> usize) {
        let now = Instant::now();
        let passed = known.at.map(|at| now.saturating_duration_since(at));
        if passed.is_some_and(|passed| passed < SPAN) {
            return;
        }
        let had = time_had();
        if let Some(passed) = passed {
            let share = thousandths(had.saturating_sub(known.had), passed);
            self.is(share);
            known.high = if share > HIGH { known.high + 1 } else { 0 };
            if known.high == LOOKS {
                // Half of what it has; there may be nobody who could take it.
                (known.high, known.surplus) = (0, connections() / 2);
            }
        }
        (known.at, known.had) = (Some(now), had);
    }
}

/// Has this thread's worker hand a connection over.
#[cfg(test)]
pub(super) fn relieve() {
    KNOWN.set(Known { surplus: 1, ..KNOWN.get() });
}

/// How much time this thread has had of a processor.
fn time_had() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanoseconds.unwrap_or(0))
}

fn thousandths(part: Duration, whole: Duration) -> u64 {
    u64::try_from(part.as_nanos() * 1000 / whole.as_nanos().max(1)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_told_until_it_is_forgotten() {
        let load = Load::default();
        assert!(load.is_low() && !load.is_high(), "nothing was seen");
        let now = Instant::now();
        load.is(950);
        assert_eq!(load.share(now), 950);
        assert_eq!(load.share(now + FORGOTTEN * 2), 0);
        load.is(5000);
        assert!(load.is_high() && !load.is_low());
        load.is(700);
        assert!(!load.is_high() && !load.is_low());
    }

    #[test]
    fn half_of_the_connections_are_for_others_once_a_worker_has_been_busy_for_a_while() {
        let load = Load::default();
        let mut known = Known { occasions: 0, at: None, had: Duration::ZERO, high: 0, surplus: 0 };
        let mut look = |had_all: bool| {
            // As if it had begun long ago, and had had all or nothing of the time since.
            let long = SPAN * 100;
            known.at = known.at.map(|_| Instant::now().checked_sub(long).expect("a machine that runs for seconds"));
            known.had = if had_all { Duration::ZERO } else { time_had() };
            while had_all && time_had() < SPAN {
                std::hint::spin_loop();
            }
            if had_all {
                known.at = known.at.map(|_| Instant::now().checked_sub(SPAN).expect("a machine that runs for seconds"));
            }
            load.look_at_clocks(&mut known, || 9);
            std::mem::take(&mut known.surplus)
        };
        assert_eq!(look(true), 0, "nobody knows since when");
        for _ in 0..2 {
            for _ in 1..LOOKS {
                assert_eq!(look(true), 0, "it may be for a moment");
            }
            assert_eq!(look(true), 4);
        }
        for _ in 1..LOOKS {
            assert_eq!(look(true), 0);
        }
        assert_eq!(look(false), 0);
        for _ in 1..LOOKS {
            assert_eq!(look(true), 0, "it was interrupted");
        }
        assert_eq!(look(false), 0);
        assert!(load.is_low());
    }
}
