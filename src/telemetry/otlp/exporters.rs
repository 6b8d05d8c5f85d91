//! What the SDK hands over, as OTLP's messages: batches of spans, and all metrics once an interval.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor};
use prost::Message;

use super::backlog::Backlog;
use super::delivery::{Delivery, Signal, Undelivered};

/// Sends spans.
#[derive(Debug)]
pub(super) struct SpanSender {
    delivery: Arc<Delivery>,
    backlog: Arc<Backlog>,
    resource: ResourceAttributesWithSchema,
}

impl SpanSender {
    pub(super) fn new(delivery: Arc<Delivery>, backlog: Arc<Backlog>) -> Self {
        Self { delivery, backlog, resource: ResourceAttributesWithSchema::default() }
    }

    async fn send(&self, batch: Vec<SpanData>) -> Result<(), (Undelivered, u64)> {
        let all = batch.len() as u64;
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let message = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let answer = self.delivery.deliver(Signal::Traces, message).await.map_err(|error| (error, all))?;
        // An answer that cannot be read says nothing against it.
        let rejected = ExportTraceServiceResponse::decode(answer.as_slice()).ok().and_then(|said| said.partial_success);
        match rejected.map_or(0, |part| u64::try_from(part.rejected_spans).unwrap_or(0)) {
            0 => Ok(()),
            rejected => Err((Undelivered::InPart(rejected), rejected.min(all))),
        }
    }
}

impl SpanExporter for SpanSender {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let sent = self.send(batch).await;
        self.backlog.leave(spans);
        sent.map_err(|(error, lost)| {
            self.backlog.undelivered(Signal::Traces, &error, lost);
            failed(&error)
        })
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.into();
    }
}

/// The SDK's batches, with room that is counted: the SDK itself says of what it drops only that it does.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) batches: BatchSpanProcessor,
    pub(super) backlog: Arc<Backlog>,
}

impl SpanProcessor for Counted {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.backlog.enter() {
            self.batches.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// Sends metrics: sums since the beginning, so that one message that is lost costs nothing but time.
#[derive(Debug)]
pub(super) struct MetricSender {
    pub(super) delivery: Arc<Delivery>,
    pub(super) backlog: Arc<Backlog>,
}

impl MetricSender {
    async fn send(&self, metrics: &ResourceMetrics) -> Result<(), Undelivered> {
        let message = ExportMetricsServiceRequest::from(metrics).encode_to_vec();
        let answer = self.delivery.deliver(Signal::Metrics, message).await?;
        let rejected =
            ExportMetricsServiceResponse::decode(answer.as_slice()).ok().and_then(|said| said.partial_success);
        match rejected.map_or(0, |part| u64::try_from(part.rejected_data_points).unwrap_or(0)) {
            0 => Ok(()),
            rejected => Err(Undelivered::InPart(rejected)),
        }
    }
}

impl PushMetricExporter for MetricSender {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.send(metrics).await.map_err(|error| {
            self.backlog.undelivered(Signal::Metrics, &error, 0);
            failed(&error)
        })
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

fn failed(error: &Undelivered) -> OTelSdkError {
    OTelSdkError::InternalFailure(error.to_string())
}
