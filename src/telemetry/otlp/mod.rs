//! Traces and metrics for a collector, over OTLP: one span a request, made when the request is over.
//!
//! OpenTelemetry's SDK gathers both in threads of its own and never waits for whoever is observed: room for spans is bounded,
//! and what finds none is counted. Its exporters bring an HTTP client along and read variables by themselves, so the messages
//! are sent by `delivery.rs`, with the project's TLS, forward proxies and configuration.

mod backlog;
mod delivery;
mod exporters;
mod metrics;
mod pauses;
mod spans;
mod words;

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use uuid::Uuid;

use super::exchange::Route;
use super::recorder::{Finished, Observer, Spent};
use crate::clock::SharedClock;
use crate::config::{Config, Otlp};

use backlog::Backlog;
use delivery::{Delivery, Stage};
use metrics::Metrics;
use spans::Spans;
use words::{Place, Places};

/// How long the end waits for the collector.
const LONGEST_END: Duration = Duration::from_secs(2);

/// How long what was given up may take to come back.
const MOMENT: Duration = Duration::from_millis(500);
/// How long the SDK's threads are waited for: longer than both, so that none is left behind.
const LONGEST_THREAD: Duration = Duration::from_secs(5);

/// What is exported by one process, until this is dropped.
#[derive(Debug)]
pub struct Export {
    observer: Arc<Exporter>,
    stage: watch::Sender<Stage>,
    patience: Duration,
}

/// Makes spans and metrics of requests.
#[derive(Debug)]
struct Exporter {
    spans: Option<Spans>,
    metrics: Option<Metrics>,
    places: Places,
    backlog: Arc<Backlog>,
    clock: SharedClock,
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
        let backlog = Arc::new(Backlog::new(otlp.most_spans, clock.clone()));
        let delivery = Arc::new(Delivery::new(config, otlp, tls, stages)?);
        let resource = resource(otlp);
        let spans =
            otlp.traces.map(|sampling| Spans::new(otlp, sampling, resource.clone(), delivery.clone(), backlog.clone()));
        let metrics = otlp.metrics.then(|| Metrics::new(otlp, resource, delivery, backlog.clone()));
        let observer = Arc::new(Exporter { spans, metrics, places: Places::of(config), backlog, clock });
        Ok(Some(Self { observer, stage, patience: LONGEST_END.min(config.limits.shutdown_grace) }))
    }

    /// Who is to hear of requests.
    #[must_use]
    pub fn observer(&self) -> Arc<dyn Observer> {
        self.observer.clone()
    }

    /// Sends what is held, as far as the collector takes it soon.
    pub async fn end(self) {
        self.stage.send_replace(Stage::Ending);
        // They wait for threads of their own, and these for tasks of this runtime.
        let (spans, metrics) = (self.observer.clone(), self.observer.clone());
        let spans = spawn_blocking(move || spans.spans.as_ref().map(Spans::end));
        let metrics = spawn_blocking(move || metrics.metrics.as_ref().map(Metrics::end));
        let is_sent = |end: Result<Option<OTelSdkResult>, _>| matches!(end, Ok(None | Some(Ok(()))));
        let ends = async { tokio::join!(spans, metrics) };
        tokio::pin!(ends);
        let ended = timeout(self.patience, &mut ends).await;
        if ended.is_err() {
            self.stage.send_replace(Stage::Over);
            // What is under way comes back, and is counted.
            let _ = timeout(MOMENT, ends).await;
        }
        if !ended.is_ok_and(|(spans, metrics)| is_sent(spans) && is_sent(metrics)) {
            tracing::warn!("the collector has not taken the last of what is exported (telemetry.otlp_endpoint)");
        }
        self.observer.backlog.tell_sum();
    }
}

impl Drop for Export {
    /// Whatever is still under way comes back at once.
    fn drop(&mut self) {
        self.stage.send_replace(Stage::Over);
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
            metrics.finished(request, place);
        }
        if let Some(spans) = &self.spans {
            spans.finished(request, place, self.clock.now());
        }
    }

    fn spent(&self, spent: &Spent<'_>) {
        if let Some(metrics) = &self.metrics {
            metrics.spent(spent, &self.places.resource);
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

/// Who sends all that.
fn resource(otlp: &Otlp) -> Resource {
    let own = [
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        // Two proxies of one name would take each other's sums for their own.
        ("service.instance.id", Uuid::new_v4().to_string()),
    ];
    let own = own.into_iter().filter(|(name, _)| !otlp.resource.contains_key(*name));
    let own = own.map(|(name, value)| opentelemetry::KeyValue::new(name, value));
    let told = otlp.resource.iter().map(|(name, value)| opentelemetry::KeyValue::new(name.clone(), value.clone()));
    Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes(own.chain(told))
        .build()
}
