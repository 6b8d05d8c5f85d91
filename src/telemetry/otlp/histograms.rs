//! Histograms as OTLP has them: sums since the beginning, so that a message that is lost costs nothing but time.

use std::hash::Hash;

use rustc_hash::FxHashMap;

use super::wire;
use super::words::Attributes;

/// Sums since the beginning.
pub(super) const CUMULATIVE: u64 = 2;
/// The number of the attributes among the fields of `HistogramDataPoint`.
const ATTRIBUTES: u32 = 9;

/// The largest values of all buckets but the last, which has no end.
pub(super) type Bounds = [f64; BOUNDS];
const BOUNDS: usize = 14;

/// What a metric is.
#[derive(Debug)]
pub(super) struct About {
    pub(super) name: &'static str,
    pub(super) meaning: &'static str,
    pub(super) unit: &'static str,
}

/// The time that sums are of, in nanoseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Period {
    pub(super) began: u64,
    pub(super) now: u64,
}

/// One metric: a histogram for each key, which stands for what they are told apart by.
#[derive(Debug)]
pub(super) struct Histogram<K> {
    about: About,
    bounds: &'static Bounds,
    series: FxHashMap<K, Series>,
}

#[derive(Debug, Default, Clone)]
struct Series {
    /// As they are written.
    attributes: Vec<u8>,
    counts: [u64; BOUNDS + 1],
    sum: f64,
    least: f64,
    most: f64,
}

impl<K: Eq + Hash + Clone> Histogram<K> {
    /// Nothing has been recorded yet.
    pub(super) fn new(name: &'static str, unit: &'static str, meaning: &'static str, bounds: &'static Bounds) -> Self {
        Self { about: About { name, meaning, unit }, bounds, series: FxHashMap::default() }
    }

    /// Records a value of a series, of which `tell` says what it is.
    pub(super) fn record(&mut self, key: K, value: f64, tell: impl FnOnce(&mut Attributes<'_>)) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        let series = self.series.entry(key).or_insert_with(|| {
            let mut attributes = Vec::new();
            tell(&mut Attributes { out: &mut attributes, field: ATTRIBUTES });
            attributes.shrink_to_fit();
            Series { attributes, least: f64::INFINITY, most: f64::NEG_INFINITY, ..Series::default() }
        });
        if let Some(count) = series.counts.get_mut(bucket) {
            *count += 1;
        }
        series.sum += value;
        series.least = series.least.min(value);
        series.most = series.most.max(value);
    }

    /// Adds what was recorded elsewhere.
    pub(super) fn add(&mut self, other: &Self) {
        for (key, series) in &other.series {
            match self.series.get_mut(key) {
                Some(known) => known.add(series),
                None => drop(self.series.insert(key.clone(), series.clone())),
            }
        }
    }

    /// Writes all of it, if there is any.
    pub(super) fn write(&self, out: &mut Vec<u8>, period: Period) {
        if self.series.is_empty() {
            return;
        }
        metric(out, &self.about, 9, |histogram| {
            self.series.values().for_each(|series| series.write(histogram, self.bounds, period));
            wire::number(histogram, 2, CUMULATIVE);
        });
    }
}

impl Series {
    fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.sum += other.sum;
        self.least = self.least.min(other.least);
        self.most = self.most.max(other.most);
    }

    fn write(&self, out: &mut Vec<u8>, bounds: &Bounds, period: Period) {
        wire::message(out, 1, |point| {
            wire::eight_bytes(point, 2, period.began);
            wire::eight_bytes(point, 3, period.now);
            wire::eight_bytes(point, 4, self.counts.iter().sum());
            wire::float(point, 5, self.sum);
            wire::packed(point, 6, self.counts.iter().copied());
            wire::packed(point, 7, bounds.iter().map(|bound| bound.to_bits()));
            point.extend_from_slice(&self.attributes);
            wire::float(point, 11, self.least);
            wire::float(point, 12, self.most);
        });
    }
}

/// A metric, whose data is the field `kind`.
pub(super) fn metric(out: &mut Vec<u8>, about: &About, kind: u32, data: impl FnOnce(&mut Vec<u8>)) {
    wire::message(out, 2, |metric| {
        wire::text(metric, 1, &[about.name]);
        wire::text(metric, 2, &[about.meaning]);
        wire::text(metric, 3, &[about.unit]);
        wire::message(metric, kind, data);
    });
}
