//! Requests and tokens as metrics, by the names of OpenTelemetry's conventions. Nothing that callers write is a label as it is:
//! models only once the resource has answered for them, and no more of those than there is room for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use http::Method;
use opentelemetry::metrics::{Histogram, Meter, MeterProvider};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};

use super::backlog::Backlog;
use super::delivery::Delivery;
use super::exporters::MetricSender;
use super::words::{self, OTHER_METHOD, Place, fixed, text};
use super::{LONGEST_THREAD, Otlp};
use crate::telemetry::methods;
use crate::telemetry::recorder::{Finished, Spent};

/// As the conventions want them: seconds of a request, seconds of a model's answer, tokens.
const SECONDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const LONG_SECONDS: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
const TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// Counts requests and tokens.
#[derive(Debug)]
pub(super) struct Metrics {
    provider: SdkMeterProvider,
    duration: Histogram<f64>,
    first_byte: Histogram<f64>,
    operation: Histogram<f64>,
    tokens: Histogram<u64>,
    under_way: Arc<AllUnderWay>,
}

/// Of each method that has a name, and last of all the others.
type AllUnderWay = [UnderWay; methods::KNOWN.len() + 1];

/// Requests of one method.
#[derive(Debug, Default)]
struct UnderWay {
    now: AtomicI64,
    /// Methods that nobody uses are not told of.
    ever: AtomicBool,
}

impl Metrics {
    pub(super) fn new(otlp: &Otlp, resource: Resource, delivery: Arc<Delivery>, backlog: Arc<Backlog>) -> Self {
        let reader = PeriodicReader::builder(MetricSender { delivery, backlog }).with_interval(otlp.metrics_interval);
        let provider = SdkMeterProvider::builder().with_reader(reader.build()).with_resource(resource).build();
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME")).with_version(env!("CARGO_PKG_VERSION"));
        let meter = provider.meter_with_scope(scope.build());
        let seconds = |name, meaning, boundaries: [f64; 14]| {
            let histogram = meter.f64_histogram(name).with_unit("s").with_description(meaning);
            histogram.with_boundaries(boundaries.to_vec()).build()
        };
        let tokens = meter.u64_histogram("gen_ai.client.token.usage").with_unit("{token}");
        let under_way: Arc<AllUnderWay> = Arc::default();
        observe(&meter, under_way.clone());
        Self {
            duration: seconds("http.server.request.duration", "Duration of HTTP server requests.", SECONDS),
            first_byte: seconds("aoai_proxy.time_to_first_byte", "Until the response's head was there.", LONG_SECONDS),
            operation: seconds("gen_ai.client.operation.duration", "GenAI operation duration.", LONG_SECONDS),
            tokens: tokens
                .with_description("Number of input and output tokens used.")
                .with_boundaries(TOKENS.to_vec())
                .build(),
            under_way,
            provider,
        }
    }

    /// A request has begun to be passed on.
    pub(super) fn under_way(&self, method: &Method) {
        self.add(method, 1);
    }

    /// Such a request is over.
    pub(super) fn finished(&self, request: &Finished<'_>, place: &Place) {
        self.add(request.method, -1);
        if request.is_conversation() {
            return;
        }
        let duration = request.duration.as_secs_f64();
        let error = words::error(request).map(|error| text(words::ERROR, error));
        let mut of_http = Vec::with_capacity(8);
        of_http.extend([
            text(words::METHOD, words::method(request.method)),
            text(words::ROUTE, request.operation.path()),
            fixed(words::SCHEME),
        ]);
        of_http.extend(request.status.map(|status| KeyValue::new(words::STATUS, i64::from(status.as_u16()))));
        of_http.extend(error.clone());
        self.duration.record(duration, &of_http);
        let Some(operation) = request.operation.name() else { return };
        let mut of_model = Vec::with_capacity(8);
        of_model.extend([
            text(words::OPERATION, operation),
            fixed(words::PROVIDER),
            text(words::APP, request.app.to_owned()),
        ]);
        of_model.extend(place.attributes());
        of_model.extend(request.counted_as.map(|model| text(words::MODEL, model.clone())));
        if let Some(first_byte) = request.waited().filter(|_| request.is_granted()) {
            self.first_byte.record(first_byte.as_secs_f64(), &of_model);
        }
        of_model.extend(error);
        self.operation.record(duration, &of_model);
    }

    /// A response has cost tokens.
    pub(super) fn spent(&self, spent: &Spent<'_>, place: &Place) {
        let (Some(usage), Some(operation)) = (spent.usage, spent.operation.name()) else { return };
        let [host, port] = place.attributes();
        let mut attributes = [
            text("gen_ai.token.type", "input"),
            text(words::OPERATION, operation),
            fixed(words::PROVIDER),
            text(words::MODEL, spent.model.to_owned()),
            text(words::APP, spent.app.to_owned()),
            host,
            port,
        ];
        self.tokens.record(usage.input, &attributes);
        attributes[0] = text("gen_ai.token.type", "output");
        self.tokens.record(usage.output, &attributes);
    }

    /// Sends what is held. Waits for that.
    pub(super) fn end(&self) -> OTelSdkResult {
        self.provider.shutdown_with_timeout(LONGEST_THREAD)
    }

    fn add(&self, method: &Method, number: i64) {
        if let Some(count) = self.under_way.get(methods::number(method).unwrap_or(methods::KNOWN.len())) {
            count.now.fetch_add(number, Ordering::Relaxed);
            count.ever.store(true, Ordering::Relaxed);
        }
    }
}

/// Requests under way are counted where they begin and end, and looked at when metrics are sent.
fn observe(meter: &Meter, under_way: Arc<AllUnderWay>) {
    meter
        .i64_observable_up_down_counter("http.server.active_requests")
        .with_unit("{request}")
        .with_description("Number of active HTTP server requests.")
        .with_callback(move |observer| {
            let methods = methods::KNOWN.into_iter().chain([OTHER_METHOD]);
            for (count, method) in under_way.iter().zip(methods).filter(|(count, _)| count.ever.load(Ordering::Relaxed))
            {
                let attributes = [text(words::METHOD, method), fixed(words::SCHEME)];
                observer.observe(count.now.load(Ordering::Relaxed), &attributes);
            }
        })
        .build();
}
