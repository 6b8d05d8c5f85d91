//! How much each worker has to do: by the time that a processor has given it, and not by the time that has passed, of which other
//! programs take their part.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, DynamicClockId, clock_gettime_dynamic};

use super::Count;

/// Between two requests the clocks are looked at only this often, as that costs time, too.
const OCCASIONS: u32 = 16;
/// How far apart two looks are at least.
const SPAN: Duration = Duration::from_millis(100);
/// After that, what was seen says nothing any more: whoever still waits for work has none since, and whoever does not has not
/// come to its end.
const STALE: Duration = Duration::from_millis(300);
/// For so long after it was handed something over, a worker is taken to have that to do besides what was seen: until then it
/// may not have shown.
const UNSEEN: Duration = Duration::from_millis(200);
/// Thousandths of a processor. Who has more than this is given nothing that others could do…
const HIGH: u64 = 900;
/// …as those can that have no more than this with it: so that what was handed over does not come back as too much.
const ROOM: u64 = 800;
/// The most that is told.
const MOST: u64 = (1 << BITS) - 1;
/// How many bits that takes.
const BITS: u32 = 10;
/// It must have had so much for this many looks, one behind the other, before connections are handed over: when many begin together
/// there is much to do for a moment. And after that for as many again, as it takes a while until it shows.
const LOOKS: u32 = 5;

/// What one worker has to do.
#[derive(Debug)]
pub(super) struct Load {
    began: Instant,
    /// Whether its thread waits for something to do.
    rests: AtomicBool,
    /// When it was looked at, in milliseconds since it began, and how much there was: thousandths of a processor, in the last bits.
    seen: AtomicU64,
    /// When others last handed something over, and how much that was together with what came shortly before, in the same way.
    expected: AtomicU64,
    /// How many connections it has.
    connections: Count,
}

/// What a thread knows of itself.
#[derive(Debug)]
struct Known {
    /// How many have passed since the clocks were looked at.
    occasions: Cell<u32>,
    /// When the last look was.
    at: Cell<Option<Instant>>,
    /// How much time it had had by then.
    had: Cell<Duration>,
    /// How many looks in a row have seen too much to do.
    high: Cell<u32>,
    /// Which count of connections it is.
    count: Cell<u32>,
    /// How many different connections have had a request in this count.
    active: Cell<usize>,
    /// How many requests are being answered.
    answering: Cell<usize>,
    /// How many connections others should take.
    surplus: Cell<usize>,
    /// How much one of them has it do, in thousandths of a processor.
    each: Cell<u64>,
    /// Whether nobody has had room for one since the clocks were looked at.
    vain: Cell<bool>,
}

thread_local! {
    static KNOWN: Known = const { Known::nothing() };
}

impl Known {
    const fn nothing() -> Self {
        Self {
            occasions: Cell::new(0),
            at: Cell::new(None),
            had: Cell::new(Duration::ZERO),
            high: Cell::new(0),
            count: Cell::new(1),
            active: Cell::new(0),
            answering: Cell::new(0),
            surplus: Cell::new(0),
            each: Cell::new(0),
            vain: Cell::new(false),
        }
    }

    /// A connection has had a request; `counted` says in which count that was seen last.
    fn sees(&self, counted: &mut u32) {
        if *counted != self.count.get() {
            *counted = self.count.get();
            self.active.set(self.active.get() + 1);
        }
    }

    /// Begins to count connections anew.
    fn count_anew(&self) {
        self.count.set(self.count.get().wrapping_add(1));
        self.active.set(0);
        self.high.set(0);
    }

    /// Draws the conclusion from one more look, at a time when there are so many connections.
    fn judge(&self, share: u64, connections: usize) {
        self.vain.set(false);
        if share <= HIGH {
            self.surplus.set(0);
            return self.count_anew();
        }
        self.high.set(self.high.get() + 1);
        if self.high.get() < LOOKS {
            return;
        }
        // Half of those that have something to do, not of those that are there.
        let active = self.active.get().min(connections);
        if active > 1 {
            self.surplus.set(active / 2);
            // What takes the rest of the time may be long responses, or requests on connections that cannot be handed over.
            self.each.set(share / active.max(self.answering.get()) as u64);
            self.count_anew();
        } else {
            // To move the only one would help nobody: the count goes on until there is another, as where responses take long.
            self.surplus.set(0);
        }
    }
}

impl Load {
    /// Of a worker that has these connections, and nothing to do yet.
    pub(super) fn new(connections: Count) -> Self {
        let (seen, expected) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { began: Instant::now(), rests: AtomicBool::new(true), seen, expected, connections }
    }

    /// Whether it has so much to do that others should have more.
    pub(super) fn is_high(&self) -> bool {
        self.share(Instant::now()) > HIGH
    }

    /// How much it has to do in thousandths of a processor, if it can do so much more.
    pub(super) fn with_room_for(&self, more: u64, now: Instant) -> Option<u64> {
        Some(self.share(now)).filter(|share| share + more <= ROOM)
    }

    /// It is handed over so much more to do.
    pub(super) fn expects(&self, more: u64, now: Instant) {
        let add = |expected: u64| Some(self.pack(now, self.unseen(expected, now) + more));
        let _ = self.expected.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// What is left of what was expected.
    fn unseen(&self, expected: u64, now: Instant) -> u64 {
        if self.age(expected, now) > UNSEEN { 0 } else { expected & MOST }
    }

    /// How long ago that was which says when.
    fn age(&self, told: u64, now: Instant) -> Duration {
        now.saturating_duration_since(self.began).saturating_sub(Duration::from_millis(told >> BITS))
    }

    /// Thousandths, and when.
    fn pack(&self, now: Instant, thousandths: u64) -> u64 {
        let since = now.saturating_duration_since(self.began).as_millis();
        (u64::try_from(since).unwrap_or(0) << BITS) | thousandths.min(MOST)
    }

    /// Thousandths of a processor, and what is expected.
    fn share(&self, now: Instant) -> u64 {
        self.seen_share(now) + self.unseen(self.expected.load(Ordering::Relaxed), now)
    }

    fn seen_share(&self, now: Instant) -> u64 {
        // First: it is written last.
        let rests = self.rests.load(Ordering::Acquire);
        let seen = self.seen.load(Ordering::Relaxed);
        match (self.age(seen, now) > STALE, rests) {
            (false, _) => seen & MOST,
            (true, true) => 0,
            (true, false) => MOST,
        }
    }

    /// Says what is seen from now on, whatever its thread sees.
    #[cfg(test)]
    pub(super) fn pretend(&self, thousandths: u64) {
        self.seen.store((u64::MAX << BITS) | thousandths, Ordering::Relaxed);
        self.expected.store(0, Ordering::Relaxed);
    }

    /// Says what was seen, and when. Returns what is told.
    fn tell(&self, now: Instant, thousandths: u64) -> u64 {
        let seen = self.pack(now, thousandths);
        #[cfg(not(test))]
        self.seen.store(seen, Ordering::Relaxed);
        // What is pretended stays.
        #[cfg(test)]
        {
            let is_seen = |told: u64| (told >> BITS != u64::MAX >> BITS).then_some(seen);
            if let Err(pretended) = self.seen.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_seen) {
                return pretended & MOST;
            }
        }
        seen & MOST
    }

    /// Its thread has nothing to do. To be called by that thread, as everything below.
    pub(super) fn rest(&self) {
        self.look();
        self.rests.store(true, Ordering::Release);
    }

    /// Its thread has something to do.
    pub(super) fn wake(&self) {
        // What has passed until now is known before it is told that it no longer rests.
        self.look();
        self.rests.store(false, Ordering::Release);
    }

    /// Looks, if it is time to.
    pub(super) fn look(&self) {
        KNOWN.with(|known| self.look_at(known, Instant::now(), time_had));
    }

    /// A connection has had a request; `counted` is what this said of it last time, at first 0. If it is one of those that others
    /// should go on with, as far as they have room, how much it has them do in thousandths of a processor.
    pub(super) fn surplus(&self, counted: &mut u32) -> Option<u64> {
        KNOWN.with(|known| {
            known.occasions.set(known.occasions.get() + 1);
            if known.occasions.get() >= OCCASIONS {
                known.occasions.set(0);
                self.look();
            }
            known.sees(counted);
            (known.surplus.get() > 0 && !known.vain.get()).then(|| known.each.get())
        })
    }

    fn look_at(&self, known: &Known, now: Instant, time_had: impl FnOnce() -> Duration) {
        let passed = known.at.get().map(|at| now.saturating_duration_since(at));
        if passed.is_some_and(|passed| passed < SPAN) {
            return;
        }
        let had = time_had();
        if let Some(passed) = passed {
            let share = self.tell(now, thousandths(had.saturating_sub(known.had.get()), passed));
            known.judge(share, self.connections.get());
        }
        known.at.set(Some(now));
        known.had.set(had);
    }
}

/// A request that this thread answers, until this is dropped there.
#[derive(Debug)]
pub struct Answering(());

impl Answering {
    /// It begins.
    #[must_use]
    pub fn begin() -> Self {
        KNOWN.with(|known| known.answering.set(known.answering.get() + 1));
        Self(())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        // A runtime that is dropped elsewhere drops its tasks there.
        KNOWN.with(|known| known.answering.set(known.answering.get().saturating_sub(1)));
    }
}

/// Another one goes on with a connection of this thread's.
pub(super) fn was_relieved() {
    KNOWN.with(|known| known.surplus.set(known.surplus.get().saturating_sub(1)));
}

/// Nobody has room for one: that is not asked again before the next look.
pub(super) fn was_not_relieved() {
    KNOWN.with(|known| known.vain.set(true));
}

/// How many requests this thread answers.
#[cfg(test)]
pub(crate) fn answering() -> usize {
    KNOWN.with(|known| known.answering.get())
}

/// Has this thread's worker hand some connections over, each of which has it do so much.
#[cfg(test)]
pub(super) fn relieve(surplus: usize, each: u64) {
    KNOWN.with(|known| {
        known.surplus.set(surplus);
        known.each.set(each);
        known.vain.set(false);
    });
}

/// How much time this thread has had of a processor; none where the system does not say.
fn time_had() -> Duration {
    let had = clock_gettime_dynamic(DynamicClockId::Known(ClockId::ThreadCPUTime)).map(Duration::try_from);
    had.ok().and_then(Result::ok).unwrap_or_default()
}

fn thousandths(part: Duration, whole: Duration) -> u64 {
    u64::try_from(part.as_nanos() * 1000 / whole.as_nanos().max(1)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::Present;
    use super::*;

    #[test]
    fn what_was_seen_is_told_as_long_as_it_says_anything() {
        let load = Load::new(Count::default());
        load.rests.store(false, Ordering::Relaxed);
        let now = load.began;
        let later = now + STALE + SPAN;
        load.tell(now, 950);
        assert_eq!(load.share(now + STALE), 950);
        assert_eq!(load.share(later), MOST, "it does not come to rest");
        load.rests.store(true, Ordering::Relaxed);
        assert_eq!((load.share(now + STALE), load.share(later)), (950, 0), "it waits for something to do");
        load.tell(later, 5000);
        assert_eq!(load.share(later), MOST);
        load.tell(Instant::now(), HIGH);
        assert!(!load.is_high());
        load.tell(Instant::now(), HIGH + 1);
        assert!(load.is_high());
    }

    #[test]
    fn what_is_handed_over_is_expected_until_it_is_seen() {
        let load = Load::new(Count::default());
        let now = load.began + STALE * 2;
        assert_eq!(load.share(now), 0, "it has not begun");
        load.tell(now, ROOM - 30);
        assert_eq!(load.with_room_for(30, now), Some(ROOM - 30));
        assert_eq!(load.with_room_for(31, now), None);
        load.expects(20, now);
        assert_eq!((load.with_room_for(10, now), load.with_room_for(11, now)), (Some(ROOM - 10), None));
        // What is seen now was before that.
        load.tell(now, 100);
        assert_eq!(load.share(now), 120);
        let later = now + UNSEEN;
        load.tell(later, 100);
        load.expects(30, later);
        assert_eq!((load.share(later), load.share(later + UNSEEN)), (150, 150), "what came before is not forgotten");
        assert_eq!(load.share(later + UNSEEN + SPAN), 100, "it has been seen meanwhile");

        let much_later = later + STALE * 2;
        assert_eq!(load.share(much_later), 0, "it has long come to rest");
        load.expects(u64::from(u32::MAX), much_later);
        assert_eq!(load.share(much_later), MOST, "though it has not woken yet");
    }

    #[test]
    fn time_is_that_of_the_thread() {
        let before = time_had();
        while time_had() < before + Duration::from_millis(5) {
            std::hint::spin_loop();
        }
        assert!(std::thread::spawn(time_had).join().unwrap() < time_had());
    }

    /// A worker, as it sees itself.
    struct Worker {
        load: Load,
        present: Vec<Present>,
        known: Known,
        now: Instant,
        had: Duration,
    }

    impl Worker {
        fn new() -> Self {
            let connections = Count::default();
            let present = (0..100).map(|_| connections.enter()).collect();
            let load = Load::new(connections);
            let worker = Self { load, present, known: Known::nothing(), now: Instant::now(), had: Duration::ZERO };
            worker.load.look_at(&worker.known, worker.now, || worker.had);
            worker
        }

        /// Looks once it has had so many thousandths of a look's time.
        fn has(&mut self, thousandths: u32) {
            self.now += SPAN;
            self.had += SPAN / 1000 * thousandths;
            self.load.look_at(&self.known, self.now, || self.had);
        }

        /// How many of its connections it should not have.
        fn surplus(&self) -> usize {
            self.known.surplus.get()
        }

        /// These have had a request each.
        fn serves(&self, connections: &mut [u32]) {
            for counted in connections {
                self.known.sees(counted);
            }
        }
    }

    #[test]
    fn half_of_what_has_something_to_do_is_for_others_once_there_has_been_too_much_for_a_while() {
        let mut worker = Worker::new();
        let mut connections = [0; 9];
        for _ in 1..LOOKS {
            worker.serves(&mut connections);
            worker.has(950);
            assert_eq!(worker.surplus(), 0, "it may be for a moment");
        }
        worker.has(950);
        assert_eq!((worker.surplus(), worker.known.each.get()), (4, 950 / 9));
        worker.has(950);
        assert_eq!(worker.surplus(), 4, "as long as they have not been handed over");
        worker.has(900);
        assert_eq!(worker.surplus(), 0, "nor once there is less to do");

        for _ in 1..LOOKS {
            worker.serves(&mut connections);
            worker.has(950);
        }
        worker.has(100);
        for _ in 1..LOOKS {
            worker.serves(&mut connections);
            worker.has(950);
            assert_eq!(worker.surplus(), 0, "it was interrupted");
        }
        worker.present.truncate(3);
        worker.has(950);
        assert_eq!(worker.surplus(), 1, "the others are gone");
    }

    #[test]
    fn nobody_is_asked_again_before_the_next_look() {
        let now = Instant::now();
        let load = Load::new(Count::default());
        let passes = |nth: u32| KNOWN.with(|known| load.look_at(known, now + SPAN * nth, || SPAN * nth));
        passes(0);
        relieve(2, 50);
        assert_eq!(load.surplus(&mut 0), Some(50));
        was_not_relieved();
        assert_eq!(load.surplus(&mut 0), None);
        passes(1);
        assert_eq!(load.surplus(&mut 0), Some(50));
        was_relieved();
        was_relieved();
        assert_eq!(load.surplus(&mut 0), None);
    }

    #[test]
    fn the_only_one_that_has_something_to_do_stays() {
        let mut worker = Worker::new();
        let mut connections = [0; 3];
        for _ in 0..LOOKS * 3 {
            worker.serves(&mut connections[..1]);
            worker.has(1000);
        }
        assert_eq!(worker.surplus(), 0);
        worker.serves(&mut connections[1..2]);
        worker.has(1000);
        assert_eq!(worker.surplus(), 1, "responses that take long end one by one");
        for _ in 0..LOOKS {
            worker.serves(&mut connections[..1]);
            worker.has(1000);
        }
        assert_eq!(worker.surplus(), 0, "though nobody has taken the other one");
    }

    #[test]
    fn what_cannot_be_handed_over_is_not_taken_for_what_can() {
        let mut worker = Worker::new();
        worker.known.answering.set(20);
        for _ in 0..LOOKS {
            worker.serves(&mut [0; 2]);
            worker.has(1000);
        }
        assert_eq!((worker.surplus(), worker.known.each.get()), (5, 1000 / 20));
    }

    #[test]
    fn what_is_being_answered_is_counted_until_it_was() {
        let (first, second) = (Answering::begin(), Answering::begin());
        assert_eq!(answering(), 2);
        drop(first);
        assert_eq!(answering(), 1);
        drop(second);
        assert_eq!(answering(), 0);
    }

    #[test]
    fn a_look_too_many_is_none() {
        let mut worker = Worker::new();
        worker.has(300);
        worker.load.look_at(&worker.known, worker.now + SPAN / 2, || unreachable!("it is too early"));
        worker.has(400);
        assert_eq!(worker.load.share(worker.now), 400);
    }
}
