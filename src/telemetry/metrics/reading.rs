//! What is known elsewhere, and read whenever somebody asks.

use std::collections::HashMap;
use std::fmt;

use prometheus::Error;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// A metric that is kept by somebody else.
pub struct Reading {
    desc: Desc,
    kind: MetricType,
    read: Box<dyn Fn() -> Vec<Sample> + Send + Sync>,
}

/// The value of one series.
#[derive(Debug)]
pub struct Sample {
    /// As many as the metric has, in its order, and in no other sample.
    pub labels: Vec<String>,
    /// The value.
    pub value: f64,
}

impl Sample {
    /// A count.
    #[must_use]
    pub fn count(labels: Vec<String>, count: u64) -> Self {
        Self { labels, value: number(count) }
    }
}

/// In Prometheus's format all numbers are floating-point numbers.
#[expect(clippy::cast_precision_loss, reason = "beyond 2^53 nobody counts one by one")]
#[must_use]
pub fn number(number: u64) -> f64 {
    number as f64
}

impl Reading {
    /// Something that only grows.
    ///
    /// # Errors
    ///
    /// If it is described wrongly.
    pub fn counter(
        name: &str,
        help: &str,
        labels: &[&str],
        read: impl Fn() -> Vec<Sample> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        Self::new(MetricType::COUNTER, [name, help], labels, Box::new(read))
    }

    /// Something that comes and goes.
    ///
    /// # Errors
    ///
    /// If it is described wrongly.
    pub fn gauge(
        name: &str,
        help: &str,
        labels: &[&str],
        read: impl Fn() -> Vec<Sample> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        Self::new(MetricType::GAUGE, [name, help], labels, Box::new(read))
    }

    fn new(
        kind: MetricType,
        [name, help]: [&str; 2],
        labels: &[&str],
        read: Box<dyn Fn() -> Vec<Sample> + Send + Sync>,
    ) -> Result<Self, Error> {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        Ok(Self { desc: Desc::new(name.to_owned(), help.to_owned(), labels, HashMap::new())?, kind, read })
    }

    fn metric(&self, sample: Sample) -> Metric {
        let labels = self.desc.variable_labels.iter().zip(sample.labels).map(|(name, value)| {
            let mut label = LabelPair::default();
            label.set_name(name.clone());
            label.set_value(value);
            label
        });
        let mut metric = Metric::from_label(labels.collect());
        if self.kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(sample.value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(sample.value);
            metric.set_gauge(gauge);
        }
        metric
    }
}

impl Collector for Reading {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(self.kind);
        family.set_metric((self.read)().into_iter().map(|sample| self.metric(sample)).collect());
        vec![family]
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").field("name", &self.desc.fq_name).finish_non_exhaustive()
    }
}
