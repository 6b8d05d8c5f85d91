//! So much a minute: a bucket that fills steadily, and that may be overdrawn by what is known only afterwards.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How deep the bucket may be overdrawn: what one request costs must not shut an app out for longer than this.
const DEEPEST_MINUTES: f64 = 60.0;

/// What an app may use in a minute.
///
/// A full minute's worth may be used at once; it comes back evenly over a minute (a token bucket, as in RFC 2697 §3 with
/// one bucket).
#[derive(Debug)]
pub struct Allowance {
    a_minute: f64,
    bucket: Mutex<Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Allowance {
    /// A full one.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "nobody counts single tokens beyond 2^53")]
    pub fn new(a_minute: u64, now: Instant) -> Self {
        let a_minute = a_minute as f64;
        Self { a_minute, bucket: Mutex::new(Bucket { left: a_minute, at: now }) }
    }

    /// Takes one.
    ///
    /// # Errors
    ///
    /// How long until there is one; then nothing is taken.
    pub fn take(&self, now: Instant) -> Result<(), Duration> {
        let mut bucket = self.filled(now);
        self.lacks(*bucket, 1.0)?;
        bucket.left -= 1.0;
        Ok(())
    }

    /// Whether anything is left; nothing is taken.
    ///
    /// # Errors
    ///
    /// How long until there is.
    pub fn is_left(&self, now: Instant) -> Result<(), Duration> {
        self.lacks(*self.filled(now), 1.0)
    }

    /// Takes what was used, whether it is there or not.
    #[expect(clippy::cast_precision_loss, reason = "nobody counts single tokens beyond 2^53")]
    pub fn used(&self, amount: u64, now: Instant) {
        let mut bucket = self.filled(now);
        bucket.left = (bucket.left - amount as f64).max(-DEEPEST_MINUTES * self.a_minute);
    }

    fn lacks(&self, bucket: Bucket, wanted: f64) -> Result<(), Duration> {
        if bucket.left >= wanted {
            return Ok(());
        }
        // Never nothing: what is left is a rounded number.
        Err(Duration::from_secs_f64((wanted - bucket.left) * 60.0 / self.a_minute).max(Duration::from_nanos(1)))
    }

    /// The bucket as it is `now`. A panic elsewhere leaves nothing half done in it.
    fn filled(&self, now: Instant) -> MutexGuard<'_, Bucket> {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + passed * self.a_minute / 60.0).min(self.a_minute);
        bucket.at = bucket.at.max(now);
        bucket
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn copy(allowance: &Allowance) -> Allowance {
        Allowance { a_minute: allowance.a_minute, bucket: Mutex::new(*allowance.bucket.lock().expect("a bucket")) }
    }

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_minutes_worth_comes_back_in_a_minute() {
        let begin = Instant::now();
        let allowance = Allowance::new(2, begin);
        assert_eq!(allowance.take(begin), Ok(()));
        assert_eq!(allowance.take(begin), Ok(()));
        assert_eq!(allowance.take(begin), Err(seconds(30.0)));
        assert_eq!(allowance.take(begin + seconds(29.0)), Err(seconds(1.0)));
        assert_eq!(allowance.take(begin + seconds(30.0)), Ok(()));
        assert_eq!(allowance.take(begin + seconds(30.0)), Err(seconds(30.0)));
        // However long nothing is used, no more than a minute's worth is there.
        let later = begin + seconds(10_000.0);
        assert_eq!([allowance.take(later), allowance.take(later)], [Ok(()), Ok(())]);
        assert!(allowance.take(later).is_err());
    }

    #[test]
    fn what_was_used_is_paid_back_first() {
        let begin = Instant::now();
        let allowance = Allowance::new(600, begin);
        allowance.used(1200, begin);
        // 600 were there: 600 are owed, and one more is wanted.
        assert_eq!(allowance.is_left(begin), Err(seconds(60.1)));
        assert_eq!(allowance.is_left(begin + seconds(60.2)), Ok(()));
        allowance.used(u64::MAX, begin + seconds(60.2));
        let wait = allowance.is_left(begin + seconds(60.2)).expect_err("it is overdrawn");
        assert!(wait < seconds(3601.0), "{wait:?}");
    }

    proptest! {
        #[test]
        fn no_more_is_given_than_allowed(a_minute in 1u64..1000, steps in prop::collection::vec(0u64..3000, 1..400)) {
            let begin = Instant::now();
            let allowance = Allowance::new(a_minute, begin);
            let (mut now, mut given) = (begin, 0u64);
            for step in steps {
                now += Duration::from_millis(step);
                match allowance.take(now) {
                    Ok(()) => given += 1,
                    // The time that is named is enough, and not much more than that.
                    Err(wait) => {
                        let then = now + wait + Duration::from_micros(1);
                        prop_assert!(copy(&allowance).take(then).is_ok());
                        prop_assert!(copy(&allowance).take(now + wait / 2).is_err());
                    }
                }
                let passed = (now - begin).as_secs_f64();
                #[expect(clippy::cast_precision_loss, reason = "small numbers")]
                let most = a_minute as f64 * (1.0 + passed / 60.0) + 0.001;
                #[expect(clippy::cast_precision_loss, reason = "small numbers")]
                let so_far = given as f64;
                prop_assert!(so_far <= most);
            }
        }
    }
}
