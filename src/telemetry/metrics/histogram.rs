//! How long things take, in so many buckets.

use std::time::Duration;

use prometheus::proto::{self, Bucket};

/// Seconds that are told apart. What the proxy answers itself takes less than the first, a token or a refusal of the resource
/// a fraction of a second, an answer seconds, and one that is thought about minutes: up to ten, where by default
/// (`upstream.response_timeout`) nobody waits any longer.
const BOUNDS: [f64; 17] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// How many took how long.
#[derive(Debug, Default, Clone)]
pub(super) struct Histogram {
    /// Up to each bound, it included, and beyond the last.
    counts: [u64; BOUNDS.len() + 1],
    /// Seconds.
    sum: f64,
}

impl Histogram {
    pub(super) fn observe(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum += seconds;
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Adds what was observed elsewhere.
    pub(super) fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.sum += other.sum;
    }

    /// As Prometheus is told: each bucket holds the ones before it, too, and the last one goes without saying.
    pub(super) fn told(&self) -> proto::Histogram {
        let mut below = 0;
        let buckets = BOUNDS.iter().zip(self.counts).map(|(bound, count)| {
            below += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(below);
            bucket
        });
        let mut told = proto::Histogram::default();
        told.set_bucket(buckets.collect());
        told.set_sample_count(self.count());
        told.set_sample_sum(self.sum);
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_is_no_longer_than_its_bound() {
        let [mut one, mut other] = [Histogram::default(), Histogram::default()];
        for milliseconds in [0, 5, 6] {
            one.observe(Duration::from_millis(milliseconds));
        }
        for seconds in [600, 601] {
            other.observe(Duration::from_secs(seconds));
        }
        one.add(&other);
        let told = one.told();
        let counts: Vec<_> = told.get_bucket().iter().map(Bucket::cumulative_count).collect();
        assert_eq!((counts[0], counts[1], counts[15], counts[16], counts.len()), (2, 3, 3, 4, BOUNDS.len()));
        assert_eq!((told.get_sample_count(), told.get_sample_sum()), (5, 1201.011));
    }
}
