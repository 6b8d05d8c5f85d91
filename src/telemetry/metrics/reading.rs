//! What is known elsewhere, and read whenever somebody asks.

use std::fmt;

use prometheus::Error;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{MetricFamily, MetricType};

use super::families::{Family, Value};

/// A metric that is kept by somebody else.
pub struct Reading {
    family: Family,
    value: fn(f64) -> Value,
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
        let family = Family::new(MetricType::COUNTER, [name, help], labels)?;
        Ok(Self { family, value: Value::Counter, read: Box::new(read) })
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
        let family = Family::new(MetricType::GAUGE, [name, help], labels)?;
        Ok(Self { family, value: Value::Gauge, read: Box::new(read) })
    }
}

impl Collector for Reading {
    fn desc(&self) -> Vec<&Desc> {
        vec![self.family.desc()]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let series = (self.read)().into_iter().map(|Sample { labels, value }| (labels, (self.value)(value)));
        vec![self.family.of(series)]
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").field("name", &self.family.desc().fq_name).finish_non_exhaustive()
    }
}
