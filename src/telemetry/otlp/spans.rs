//! A request as a span: a child of the caller's, if the caller says which that is.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{Span, SpanBuilder, SpanKind, Status, Tracer, TracerProvider};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, SpanLimits,
};

use super::backlog::Backlog;
use super::delivery::Delivery;
use super::exporters::{Counted, SpanSender};
use super::words::{self, Place, fixed, text};
use super::{LONGEST_THREAD, Otlp};
use crate::config::Sampling;
use crate::inspect::usage::Usage;
use crate::telemetry::origin::Origin;
use crate::telemetry::recorder::Finished;

/// Spans in one message.
const MOST_AT_ONCE: usize = 512;
/// As many attributes as a span has at most.
const ATTRIBUTES: usize = 21;

/// Makes spans.
#[derive(Debug)]
pub(super) struct Spans {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    propagator: TraceContextPropagator,
}

impl Spans {
    pub(super) fn new(
        otlp: &Otlp,
        sampling: Sampling,
        resource: Resource,
        delivery: Arc<Delivery>,
        backlog: Arc<Backlog>,
    ) -> Self {
        // All that the SDK would else take from variables by itself.
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(otlp.most_spans)
            .with_max_export_batch_size(MOST_AT_ONCE)
            .with_scheduled_delay(otlp.batch_delay)
            .build();
        let sender = SpanSender::new(delivery, backlog.clone());
        let batches = BatchSpanProcessor::builder(sender).with_batch_config(batches).build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(Counted { batches, backlog })
            .with_sampler(sampler(sampling))
            .with_span_limits(SpanLimits::default())
            .with_resource(resource)
            .build();
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME")).with_version(env!("CARGO_PKG_VERSION"));
        let tracer = provider.tracer_with_scope(scope.build());
        Self { provider, tracer, propagator: TraceContextPropagator::new() }
    }

    /// A request is over, now.
    pub(super) fn finished(&self, request: &Finished<'_>, place: &Place, now: SystemTime) {
        // Most callers say nothing.
        let told = request.origin.filter(|origin| origin.traceparent().is_some());
        let parent = Context::new();
        let parent =
            told.map(|origin| self.propagator.extract_with_context(&parent, &Fields(origin))).unwrap_or(parent);
        let began = now.checked_sub(request.duration).unwrap_or(now);
        let builder = SpanBuilder::from_name(name(request)).with_kind(SpanKind::Server).with_start_time(began);
        // Room for all of them at once, and none that the sampler would look through.
        let builder = builder.with_attributes(Vec::with_capacity(ATTRIBUTES));
        let mut span = self.tracer.build_with_context(builder, &parent);
        if span.is_recording() {
            span.set_attributes(attributes(request, place));
            if words::is_failure(request) {
                // What is to be said of it is in the log, under the same id.
                span.set_status(Status::error(""));
            }
        }
        span.end_with_timestamp(now);
    }

    /// Sends what is held. Waits for that.
    pub(super) fn end(&self) -> OTelSdkResult {
        self.provider.shutdown_with_timeout(LONGEST_THREAD)
    }
}

fn sampler(Sampling { by_parent, ratio }: Sampling) -> Sampler {
    let root = Sampler::TraceIdRatioBased(ratio);
    if by_parent { Sampler::ParentBased(Box::new(root)) } else { root }
}

/// What a caller has said of its trace, for the library's reader.
struct Fields<'a>(&'a Origin);

impl Extractor for Fields<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        match name {
            "traceparent" => self.0.traceparent(),
            "tracestate" => self.0.tracestate(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

fn name(request: &Finished<'_>) -> Cow<'static, str> {
    // What is asked for in vain may be anything.
    let model = request.counted_as.filter(|_| request.is_granted());
    match (request.operation.name(), model) {
        (Some(operation), Some(model)) => format!("{operation} {model}").into(),
        (Some(operation), None) => operation.into(),
        (None, _) => format!("{} {}", words::method(request.method), request.operation.path()).into(),
    }
}

fn attributes<'a>(request: &'a Finished<'_>, place: &'a Place) -> impl Iterator<Item = KeyValue> + 'a {
    let always = [
        text(words::METHOD, words::method(request.method)),
        text(words::ROUTE, request.operation.path()),
        fixed(words::SCHEME),
        text(words::APP, request.app.to_owned()),
        text("aoai_proxy.outcome", request.outcome.as_str()),
        KeyValue::new("http.response.body.size", whole(request.bytes)),
        place.upstream(),
    ];
    let ids = [("aoai_proxy.request_id", Some(request.id)), ("azure.service.request.id", request.upstream_id)];
    let ids = ids.into_iter().filter_map(|(name, id)| Some((name, id?.to_str().ok()?)));
    always
        .into_iter()
        .chain(request.origin.map(|origin| text(words::VERSION, origin.version())))
        .chain(request.status.map(|status| KeyValue::new(words::STATUS, i64::from(status.as_u16()))))
        .chain(words::error(request).map(|error| text(words::ERROR, error)))
        .chain(request.first_byte.map(|time| KeyValue::new("aoai_proxy.time_to_first_byte", time.as_secs_f64())))
        .chain(ids.map(|(name, id)| text(name, id.to_owned())))
        .chain(request.operation.name().into_iter().flat_map(|operation| of_model(request, operation)))
}

fn of_model<'a>(request: &'a Finished<'_>, operation: &'static str) -> impl Iterator<Item = KeyValue> + 'a {
    [text(words::OPERATION, operation), fixed(words::PROVIDER)]
        .into_iter()
        .chain(request.model.map(|model| text(words::MODEL, model.to_owned())))
        .chain(request.answered_by.map(|model| text("gen_ai.response.model", model.to_owned())))
        .chain(request.usage.into_iter().flat_map(usage))
}

/// As the conventions name them: what was cached is part of the input, what was thought is part of the output.
fn usage(usage: Usage) -> impl Iterator<Item = KeyValue> {
    let always = [("gen_ai.usage.input_tokens", usage.input), ("gen_ai.usage.output_tokens", usage.output)];
    let some = [
        ("gen_ai.usage.cache_read.input_tokens", usage.cached),
        ("gen_ai.usage.reasoning.output_tokens", usage.reasoning),
    ];
    let some = some.into_iter().filter(|(_, tokens)| *tokens > 0);
    always.into_iter().chain(some).map(|(name, tokens)| KeyValue::new(name, whole(tokens)))
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
