//! How long requests take.

use std::time::Duration;

use prometheus::{Error, HistogramOpts, HistogramVec, Registry};

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
        Ok(Self { durations, first_bytes })
    }

    /// A request to `route` has taken so long, and so long until the head of its response was there, if that tells anything.
    pub(super) fn observe(&self, route: &str, duration: Duration, first_byte: Option<Duration>) {
        observe(&self.durations, route, duration);
        if let Some(first_byte) = first_byte {
            observe(&self.first_bytes, route, first_byte);
        }
    }
}

fn observe(histograms: &HistogramVec, route: &str, time: Duration) {
    // Fails only where there are more labels or fewer than the histograms have.
    match histograms.get_metric_with_label_values(&[route]) {
        Ok(histogram) => histogram.observe(time.as_secs_f64()),
        Err(error) => tracing::error!(%error, "a metric cannot be counted"),
    }
}
