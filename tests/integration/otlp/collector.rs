//! A collector: takes OTLP over HTTP from a real socket and decodes it with the messages that OpenTelemetry publishes.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::support::within;

/// What it does with messages.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Does {
    Takes,
    /// Takes all but one span.
    TakesMost,
    Refuses(u16),
    /// The same, and asks to be told again at once.
    RefusesInHaste(u16),
    /// Refuses the first message of each kind, and takes the rest.
    RefusesFirst,
    /// Reads them and never answers.
    Hangs,
}

pub(crate) struct Collector {
    pub(crate) url: String,
    messages: watch::Receiver<Vec<Received>>,
}

/// A message as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) fields: HeaderMap,
    pub(crate) content: Bytes,
}

impl Collector {
    pub(crate) async fn start(does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (messages, received) = watch::channel(Vec::new());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let messages = messages.clone();
                let service = service_fn(move |request| answer(request, does, messages.clone()));
                tokio::spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    // A caller that goes away is no failure here.
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { url, messages: received }
    }

    /// Everything that has come so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.messages.borrow().clone()
    }

    /// Waits for a number of messages on a path.
    pub(crate) async fn until(&self, path: &str, count: usize) {
        let mut messages = self.messages.clone();
        let have = |all: &Vec<Received>| all.iter().filter(|message| message.path == path).count() >= count;
        within(messages.wait_for(have)).await.unwrap();
    }

    /// All spans.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let messages = self.received().into_iter().filter(|message| message.path.ends_with("/v1/traces"));
        let requests = messages.map(|message| ExportTraceServiceRequest::decode(message.content).unwrap());
        let resources = requests.flat_map(|request| request.resource_spans);
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }

    /// What the last message of metrics says.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let messages = self.received();
        let last = messages.iter().rfind(|message| message.path.ends_with("/v1/metrics"));
        let Some(last) = last else { return Vec::new() };
        let request = ExportMetricsServiceRequest::decode(last.content.clone()).unwrap();
        let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
        scopes.flat_map(|scope| scope.metrics).collect()
    }

    /// What the sender says of itself.
    pub(crate) fn resource(&self) -> BTreeMap<String, String> {
        let messages = self.received();
        let first = messages.iter().find(|message| message.path.ends_with("/v1/traces")).expect("a message");
        let request = ExportTraceServiceRequest::decode(first.content.clone()).unwrap();
        attributes(&request.resource_spans[0].resource.as_ref().unwrap().attributes)
    }
}

async fn answer(
    request: Request<Incoming>,
    does: Does,
    messages: watch::Sender<Vec<Received>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let Ok(content) = body.collect().await else { return Ok(status(400)) };
    let (path, fields, content) = (parts.uri.path().to_owned(), parts.headers, content.to_bytes());
    let is_first = !messages.borrow().iter().any(|message| message.path == path);
    messages.send_modify(|all| all.push(Received { path, fields, content }));
    Ok(match does {
        Does::TakesMost => {
            let partial = ExportTracePartialSuccess { rejected_spans: 1, error_message: "too old".to_owned() };
            let answer = ExportTraceServiceResponse { partial_success: Some(partial) };
            Response::new(Full::from(answer.encode_to_vec()))
        }
        Does::RefusesFirst if is_first => in_haste(status(503)),
        Does::Takes | Does::RefusesFirst => status(200),
        Does::Refuses(code) => status(code),
        Does::RefusesInHaste(code) => in_haste(status(code)),
        Does::Hangs => std::future::pending().await,
    })
}

fn status(code: u16) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

fn in_haste(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    response.headers_mut().insert("retry-after", "0".parse().unwrap());
    response
}

/// Names and values, as text.
pub(crate) fn attributes(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|value| value.value.clone()) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        value => panic!("{value:?}"),
    };
    attributes.iter().map(|attribute| (attribute.key.clone(), text(&attribute.value))).collect()
}

/// The points of a histogram: attributes, how many there were, and their sum.
pub(crate) fn points(metrics: &[Metric], name: &str) -> Vec<(BTreeMap<String, String>, u64, f64)> {
    let metric = metrics.iter().find(|metric| metric.name == name);
    let Some(Data::Histogram(histogram)) = metric.and_then(|metric| metric.data.clone()) else { return Vec::new() };
    let point = |point: &opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint| {
        (attributes(&point.attributes), point.count, point.sum.unwrap_or_default())
    };
    histogram.data_points.iter().map(point).collect()
}
