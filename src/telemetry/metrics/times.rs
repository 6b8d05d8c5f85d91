//! How long requests take.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus::{Error, Histogram, HistogramOpts, HistogramVec, Registry};

use crate::telemetry::cells::Cells;
use crate::telemetry::operation::Operation;

/// Seconds that are told apart. What the proxy answers itself takes less than the first, a token or a refusal of the resource
/// a fraction of a second, an answer seconds, and one that is thought about minutes: up to ten, where by default
/// (`upstream.response_timeout`) nobody waits any longer.
const BOUNDS: [f64; 17] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// By route. Only routes that were asked for have series, as each has forty.
#[derive(Debug)]
pub(super) struct Times {
    durations: HistogramVec,
    first_bytes: HistogramVec,
    known: Cells<Operation, OfRoute>,
}

/// Of one route, as they were found the first time.
#[derive(Debug)]
struct OfRoute {
    duration: Histogram,
    /// Once there was one.
    first_byte: OnceLock<Histogram>,
}

impl Times {
    pub(super) fn new(registry: &Registry) -> Result<Self, Error> {
        let histograms = |name: &str, help: &str| {
            let histograms = HistogramVec::new(HistogramOpts::new(name, help).buckets(BOUNDS.to_vec()), &["route"])?;
            registry.register(Box::new(histograms.clone())).map(|()| histograms)
        };
        let durations = histograms(
            "aoai_proxy_request_duration_seconds",
            "From when a request's head was read until the last byte of its response went to the caller, or the caller \
             left. Without WebSockets.",
        )?;
        let first_bytes = histograms(
            "aoai_proxy_time_to_first_byte_seconds",
            "From when a request's head was read until the head of its response was there. Without WebSockets, and without \
             errors of the proxy's own.",
        )?;
        Ok(Self { durations, first_bytes, known: Cells::default() })
    }

    /// A request has taken so long, and so long until the head of its response was there, if that tells anything.
    pub(super) fn observe(
        &self,
        operation: Operation,
        duration: Duration,
        first_byte: Option<Duration>,
    ) -> Result<(), Error> {
        let route = [operation.path()];
        let make = || {
            let duration = self.durations.get_metric_with_label_values(&route)?;
            Ok(OfRoute { duration, first_byte: OnceLock::new() })
        };
        self.known.with(operation, make, |known| {
            known.duration.observe(duration.as_secs_f64());
            if let Some(first_byte) = first_byte {
                let histogram = known.first_byte.get_or_init(|| self.first_bytes.with_label_values(&route));
                histogram.observe(first_byte.as_secs_f64());
            }
        })
    }
}
