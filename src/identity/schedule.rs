//! When to ask for a token again: pure functions of times, with the chance given from outside.

use std::time::{Duration, SystemTime};

/// A token with less than this left is not sent: it could expire on the way.
pub const SKEW: Duration = Duration::from_secs(10);

/// Tokens that live at least this long are renewed at half of their life, others at four fifths (MSAL's rule).
const LONG_LIVED: Duration = Duration::from_secs(2 * 60 * 60);
/// Renewal begins at the latest this long before the end, where the lifetime allows it.
const MARGIN: Duration = Duration::from_secs(5 * 60);
/// After a first burst of failures, attempts are this far apart.
const SPACING: Duration = Duration::from_secs(30);
/// Attempts at what only a person can mend are this far apart.
const PERSON: Duration = Duration::from_secs(60);
/// A renewal that the resource's refusal has caused, and whose token it refused too, is this far from the next such one.
const FORCED: Duration = Duration::from_secs(60);
/// No more renewals than this are caused by the resource's refusals within [`FORCED_SPAN`].
pub(super) const MOST_FORCED: usize = 3;
/// See [`MOST_FORCED`].
const FORCED_SPAN: Duration = Duration::from_secs(3 * 60);
/// A clock that goes back by less than this is being trimmed, by more it was wrong.
const SET_BACK: Duration = Duration::from_secs(60);
/// The background task is later than this by sleep alone.
const LATE: Duration = Duration::from_secs(30);
/// Two attempts are at least this far apart, whatever token came.
const SOONEST: Duration = Duration::from_secs(1);
/// The waits of a first burst of failures, in seconds; each later one is [`SPACING`].
const BURST: [u64; 4] = [1, 2, 4, 8];
/// The longest that an identity service's `Retry-After` is obeyed.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(10 * 60);

/// When to renew a token that was got at `acquired` and ends at `expires`. `chance` in 0..1 spreads renewals over the last
/// twentieth of the wait.
#[must_use]
pub fn renew_at(acquired: SystemTime, expires: SystemTime, chance: f64) -> SystemTime {
    let lifetime = expires.duration_since(acquired).unwrap_or_default();
    let share = if lifetime >= LONG_LIVED { 0.5 } else { 0.8 };
    let planned = lifetime.mul_f64(share);
    let latest = if lifetime > MARGIN * 2 { lifetime.saturating_sub(MARGIN) } else { planned };
    let wait = planned.min(latest).mul_f64(1.0 - chance.clamp(0.0, 1.0) / 20.0);
    // Never after the token can be used: whoever asked then would wait for nothing.
    let end = lifetime.saturating_sub(SKEW);
    acquired + wait.min(end).max(SOONEST)
}

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// One that may pass by itself: the how-manieth in a row, from 1.
    Passing {
        /// See above.
        failures: u32,
    },
    /// One that most likely lasts until a person does something, but may be a network that is not up yet: as often at first.
    Doubtful {
        /// See above.
        failures: u32,
    },
    /// One that lasts until a person does something.
    Person,
}

/// When to try again after a failure. `chance` in 0..1 lengthens the wait by up to a fifth.
#[must_use]
pub fn retry_at(now: SystemTime, pace: Pace, retry_after: Option<Duration>, chance: f64) -> SystemTime {
    let burst = |failures: u32| {
        let index = usize::try_from(failures.saturating_sub(1)).ok();
        index.and_then(|index| BURST.get(index)).map(|seconds| Duration::from_secs(*seconds))
    };
    let wait = match pace {
        Pace::Passing { failures } => burst(failures).unwrap_or(SPACING),
        Pace::Doubtful { failures } => burst(failures).unwrap_or(PERSON),
        Pace::Person => PERSON,
    };
    let asked = retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
    now + wait.max(asked).mul_f64(1.0 + chance.clamp(0.0, 1.0) / 5.0)
}

/// Whether what was decided at `at` to rest until `until` still rests. A clock that was set back by more than a moment
/// ends all rest: nobody knows when it would end otherwise.
#[must_use]
pub fn rests(now: SystemTime, at: SystemTime, until: SystemTime) -> bool {
    now < until && at.duration_since(now).unwrap_or_default() < SET_BACK
}

/// Whether an attempt that was due at `due` is so late that the machine must have slept.
#[must_use]
pub fn overslept(now: SystemTime, due: SystemTime) -> bool {
    now.duration_since(due).is_ok_and(|late| late > LATE)
}

/// When an attempt after a failure at `failed` is due at the earliest.
#[must_use]
pub fn soonest(failed: SystemTime) -> SystemTime {
    failed + SOONEST
}

/// Whether the token held may be renewed before its time because the resource refused it or its like. `accepted`: whether
/// it was taken before; `forced`: when that was done so far. A resource that refuses whatever it gets, or every other time, causes no
/// storm at the identity service.
#[must_use]
pub fn may_force(now: SystemTime, accepted: bool, forced: &[SystemTime]) -> bool {
    // A time in the future is one before the clock was set back.
    let since = |time: &SystemTime| now.duration_since(*time).ok();
    let recent = |span: Duration| forced.iter().filter_map(since).filter(|past| *past < span).count();
    recent(FORCED_SPAN) < MOST_FORCED && (accepted || recent(FORCED) == 0)
}

/// Whether a token that ends at `expires` may be sent at `now`. Nothing else judges a token's age.
#[must_use]
pub fn usable(expires: SystemTime, now: SystemTime) -> bool {
    expires.duration_since(now).is_ok_and(|left| left > SKEW)
}

/// Whether a token that ends at `expires` is so near its end that whoever gave it will soon be asked for another one.
#[must_use]
pub fn nearly_over(expires: SystemTime, now: SystemTime) -> bool {
    expires.duration_since(now).map_or(true, |left| left < MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: SystemTime = SystemTime::UNIX_EPOCH;
    const ONCE: Pace = Pace::Passing { failures: 1 };

    fn minutes(n: u64) -> Duration {
        Duration::from_secs(n * 60)
    }

    #[test]
    fn a_day_is_renewed_at_its_half_and_an_hour_at_four_fifths() {
        assert_eq!(renew_at(START, START + minutes(24 * 60), 0.0), START + minutes(12 * 60));
        assert_eq!(renew_at(START, START + minutes(60), 0.0), START + minutes(48));
        assert_eq!(renew_at(START, START + minutes(60), 1.0), START + minutes(48).mul_f64(0.95));
    }

    #[test]
    fn the_margin_is_kept_where_the_lifetime_allows_it() {
        assert_eq!(renew_at(START, START + minutes(20), 0.0), START + minutes(15));
        assert_eq!(renew_at(START, START + minutes(5), 0.0), START + minutes(4));
    }

    #[test]
    fn renewals_do_not_spin() {
        for lifetime in [0, 1, 10, 11] {
            assert_eq!(renew_at(START, START + Duration::from_secs(lifetime), 1.0), START + SOONEST);
        }
        assert_eq!(renew_at(START + minutes(1), START, 0.0), START + minutes(1) + SOONEST);
    }

    #[test]
    fn renewal_comes_before_a_short_lived_token_is_no_use() {
        let expires = START + Duration::from_secs(14);
        let renewal = renew_at(START, expires, 0.0);
        assert_eq!(renewal, START + Duration::from_secs(4));
        assert!(!usable(expires, renewal), "whoever asks from then on is answered by a new token");
    }

    #[test]
    fn a_burst_then_one_attempt_in_thirty_seconds() {
        let waits: Vec<u64> = (1..=6)
            .map(|failures| {
                retry_at(START, Pace::Passing { failures }, None, 0.0).duration_since(START).expect("later").as_secs()
            })
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 30, 30]);
        assert_eq!(retry_at(START, Pace::Passing { failures: 9 }, None, 1.0), START + Duration::from_secs(36));
    }

    #[test]
    fn what_a_person_must_mend_is_tried_once_a_minute() {
        assert_eq!(retry_at(START, Pace::Person, None, 0.0), START + PERSON);
        assert_eq!(retry_at(START, Pace::Person, Some(minutes(2)), 0.0), START + minutes(2));
    }

    #[test]
    fn what_may_be_a_network_that_is_not_up_is_tried_in_a_burst_first() {
        let wait = |failures| retry_at(START, Pace::Doubtful { failures }, None, 0.0);
        assert_eq!(wait(1), START + Duration::from_secs(1));
        assert_eq!((wait(5), wait(50)), (START + PERSON, START + PERSON));
    }

    #[test]
    fn rest_ends_in_time_and_when_the_clock_was_set_back() {
        let (at, until) = (START + minutes(600), START + minutes(601));
        assert!(rests(at, at, until) && !rests(until, at, until));
        assert!(rests(at - Duration::from_secs(59), at, until), "trimmed");
        assert!(!rests(at - minutes(120), at, until));
    }

    #[test]
    fn a_task_that_is_late_has_slept() {
        assert!(!overslept(START, START + minutes(1)) && !overslept(START + LATE, START));
        assert!(overslept(START + minutes(480), START));
    }

    #[test]
    fn refusals_cause_few_renewals() {
        let now = START + minutes(60);
        assert!(may_force(now, false, &[]) && may_force(now, true, &[now, now]));
        assert!(!may_force(now, false, &[now]), "the renewed one was refused too");
        assert!(may_force(now + FORCED, false, &[now]));
        assert!(!may_force(now + FORCED, true, &[now, now, now]), "it is taken and refused in turn");
        assert!(may_force(now + FORCED_SPAN, true, &[now, now, now]));
        assert!(may_force(now, false, &[now + minutes(1)]), "the clock was set back");
    }

    #[test]
    fn retry_after_is_obeyed_within_reason() {
        assert_eq!(retry_at(START, ONCE, Some(Duration::from_secs(20)), 0.0), START + Duration::from_secs(20));
        assert_eq!(retry_at(START, ONCE, Some(minutes(600)), 0.0), START + LONGEST_RETRY_AFTER);
    }

    #[test]
    fn a_token_is_not_sent_in_its_last_seconds() {
        assert!(usable(START + SKEW + Duration::from_secs(1), START));
        assert!(!usable(START + SKEW, START));
        assert!(!usable(START, START + minutes(1)));
    }

    #[test]
    fn a_token_in_its_last_minutes_is_nearly_over() {
        assert!(!nearly_over(START + minutes(6), START));
        assert!(nearly_over(START + minutes(4), START) && nearly_over(START, START + minutes(1)));
    }
}
