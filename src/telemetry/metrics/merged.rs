//! What several registries count, as one.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use prometheus::proto::{Counter, Histogram, Metric, MetricFamily, MetricType};
use prometheus::{Registry, proto::Bucket};

/// Series of one metric, by the values of their labels: in the order in which a registry has them.
type All = BTreeMap<Vec<String>, Metric>;

/// Everything of all of them, by name. Counts of one series are added up; of what is no count, the first is told.
pub(super) fn merged<'a>(registries: impl Iterator<Item = &'a Registry>) -> impl Iterator<Item = MetricFamily> {
    let mut families: BTreeMap<String, (MetricFamily, All)> = BTreeMap::new();
    for mut family in registries.flat_map(Registry::gather) {
        let metrics = family.take_metric();
        let (family, all) = families.entry(family.name().to_owned()).or_insert_with(|| (family, All::new()));
        for metric in metrics {
            add(all, metric, family.get_field_type());
        }
    }
    families.into_values().map(|(mut family, all)| {
        family.set_metric(all.into_values().collect());
        family
    })
}

fn add(all: &mut All, metric: Metric, kind: MetricType) {
    match all.entry(metric.get_label().iter().map(|label| label.value().to_owned()).collect()) {
        Entry::Vacant(series) => drop(series.insert(metric)),
        Entry::Occupied(mut series) => match kind {
            MetricType::COUNTER => add_counter(series.get_mut(), &metric),
            MetricType::HISTOGRAM => add_histogram(series.get_mut(), &metric),
            _ => {}
        },
    }
}

fn add_counter(known: &mut Metric, metric: &Metric) {
    let mut sum = Counter::default();
    sum.set_value(known.get_counter().get_value() + metric.get_counter().get_value());
    known.set_counter(sum);
}

/// Both have the same buckets.
fn add_histogram(known: &mut Metric, metric: &Metric) {
    let (one, other) = (known.get_histogram(), metric.get_histogram());
    let bucket = |(one, other): (&Bucket, &Bucket)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(one.upper_bound());
        bucket.set_cumulative_count(one.cumulative_count() + other.cumulative_count());
        bucket
    };
    let mut sum = Histogram::default();
    sum.set_sample_count(one.get_sample_count() + other.get_sample_count());
    sum.set_sample_sum(one.get_sample_sum() + other.get_sample_sum());
    sum.set_bucket(one.get_bucket().iter().zip(other.get_bucket()).map(bucket).collect());
    known.set_histogram(sum);
}

#[cfg(test)]
mod tests {
    use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, TextEncoder};

    use super::*;

    #[test]
    fn what_is_counted_in_several_places_is_told_once() {
        let registries = [Registry::new(), Registry::new()];
        for (at, registry) in registries.iter().enumerate() {
            let counts = IntCounterVec::new(Opts::new("counts", "How many."), &["of"]).unwrap();
            let times = HistogramVec::new(HistogramOpts::new("times", "How long.").buckets(vec![1.0, 2.0]), &["of"]);
            let (times, gauge) = (times.unwrap(), IntGauge::new("version", "One.").unwrap());
            registry.register(Box::new(counts.clone())).unwrap();
            registry.register(Box::new(times.clone())).unwrap();
            registry.register(Box::new(gauge.clone())).unwrap();
            counts.with_label_values(&["both"]).inc_by(2);
            counts.with_label_values(&[["b", "a"][at]]).inc();
            times.with_label_values(&["both"]).observe([0.5, 1.5][at]);
            gauge.set(1);
        }
        let families: Vec<_> = merged(registries.iter()).collect();
        let text = TextEncoder::new().encode_to_string(&families).unwrap();
        insta::assert_snapshot!(text, @r#"
        # HELP counts How many.
        # TYPE counts counter
        counts{of="a"} 1
        counts{of="b"} 1
        counts{of="both"} 4
        # HELP times How long.
        # TYPE times histogram
        times_bucket{of="both",le="1"} 1
        times_bucket{of="both",le="2"} 2
        times_bucket{of="both",le="+Inf"} 2
        times_sum{of="both"} 2
        times_count{of="both"} 2
        # HELP version One.
        # TYPE version gauge
        version 1
        "#);
    }
}
