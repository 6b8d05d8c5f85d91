//! Traces and metrics for a collector, over OTLP: one span a request, made when the request is over.
//!
//! Whoever carries a request writes its span behind others and adds to a few sums. A task of each signal sends what there is;
//! nobody waits for it: room for spans is bounded, and what finds none is counted. Messages are written by `wire.rs` and sent
//! by `delivery.rs`, with the project's TLS, forward proxies and configuration.

mod backlog;
mod delivery;
mod histograms;
mod metrics;
mod pauses;
mod sender;
mod span;
mod spans;
#[cfg(test)]
mod tests;
mod wire;
mod words;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::exchange::Route;
use super::recorder::{Finished, Observer, Spent};
use crate::clock::SharedClock;
use crate::config::{Config, Otlp};

use backlog::Backlog;
use delivery::{Delivery, Stage};
use metrics::Metrics;
use sender::Sender;
use spans::Spans;
use words::{Place, Places};

/// How long the end waits for the collector.
const LONGEST_END: Duration = Duration::from_secs(2);

/// How long what was given up may take to come back.
const MOMENT: Duration = Duration::from_millis(500);

/// What is exported by one process, until this is dropped.
#[derive(Debug)]
pub struct Export {
    observer: Arc<Exporter>,
    /// What sends spans and metrics. Each tells whether the collector has the last of it.
    tasks: Vec<JoinHandle<bool>>,
    /// Without it, whatever is still under way comes back at once.
    stage: watch::Sender<Stage>,
    patience: Duration,
}

/// Makes spans and metrics of requests.
#[derive(Debug)]
struct Exporter {
    spans: Option<Arc<Spans>>,
    metrics: Option<Arc<Metrics>>,
    places: Places,
    backlog: Arc<Backlog>,
}

impl Export {
    /// Begins to export, if the configuration says where to. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    ///
    /// If no HTTP client can be built.
    pub fn start(config: &Config, tls: ClientConfig, clock: SharedClock) -> Result<Option<Self>, reqwest::Error> {
        let Some(otlp) = &config.telemetry.otlp else { return Ok(None) };
        let (stage, stages) = watch::channel(Stage::Working);
        let (sender, places) = (Sender::new(otlp), Places::of(config));
        let backlog = Arc::new(Backlog::new(otlp.most_spans, clock.clone()));
        let delivery = Arc::new(Delivery::new(config, otlp, tls, stages)?);
        let spans = otlp.traces.map(|sampling| Spans::new(otlp, sampling, sender.clone(), backlog.clone()));
        let metrics = Metrics::new(otlp, places.resource.clone(), sender, backlog.clone(), clock);
        let (spans, metrics) = (spans.map(Arc::new), otlp.metrics.then(|| Arc::new(metrics)));
        let of_spans = spans.clone().map(|spans| tokio::spawn(spans.send(delivery.clone())));
        let of_metrics = metrics.clone().map(|metrics| tokio::spawn(metrics.send(delivery)));
        let tasks = of_spans.into_iter().chain(of_metrics).collect();
        let observer = Arc::new(Exporter { spans, metrics, places, backlog });
        Ok(Some(Self { observer, tasks, stage, patience: LONGEST_END.min(config.limits.shutdown_grace) }))
    }

    /// Who is to hear of requests.
    #[must_use]
    pub fn observer(&self) -> Arc<dyn Observer> {
        self.observer.clone()
    }

    /// Sends what is held, as far as the collector takes it soon.
    pub async fn end(self) {
        self.stage.send_replace(Stage::Ending);
        let ends = join_all(self.tasks);
        tokio::pin!(ends);
        let ended = timeout(self.patience, &mut ends).await;
        if ended.is_err() {
            self.stage.send_replace(Stage::Over);
            // What is under way comes back, and is counted.
            let _ = timeout(MOMENT, ends).await;
        }
        if !ended.is_ok_and(|ends| ends.into_iter().all(|has_all| has_all.unwrap_or(false))) {
            tracing::warn!("the collector has not taken the last of what is exported (telemetry.otlp_endpoint)");
        }
        self.observer.backlog.tell_sum();
    }
}

impl Observer for Exporter {
    fn wants_origins(&self) -> bool {
        self.spans.is_some()
    }

    fn under_way(&self, method: &Method) {
        if let Some(metrics) = &self.metrics {
            metrics.under_way(method);
        }
    }

    fn finished(&self, request: &Finished<'_>) {
        let Some(place) = self.place(request.route) else { return };
        if let Some(metrics) = &self.metrics {
            metrics.finished(request);
        }
        if let Some(spans) = &self.spans {
            spans.finished(request, place);
        }
    }

    fn spent(&self, spent: &Spent<'_>) {
        if let Some(metrics) = &self.metrics {
            metrics.spent(spent);
        }
    }
}

impl Exporter {
    /// Where a request of this route was answered; probes and pages of the proxy itself are nothing to tell of.
    fn place(&self, route: Route) -> Option<&Place> {
        match route {
            Route::Resource => Some(&self.places.resource),
            Route::Management => Some(&self.places.management),
            Route::Own => None,
        }
    }
}
