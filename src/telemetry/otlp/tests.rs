use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderValue, Request, StatusCode};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, Histogram, HistogramDataPoint, Metric, Sum};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use prost::Message;
use tokio::time::Instant;

use super::*;
use crate::clock::ManualClock;
use crate::config::{Overrides, Sampling};
use crate::inspect::usage::Usage;
use crate::telemetry::names::Label;
use crate::telemetry::operation::Operation;
use crate::telemetry::origin::Origin;
use crate::telemetry::recorder::{Moment, Outcome};
use crate::workers::on;

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const ALL: Sampling = Sampling { by_parent: true, ratio: 1.0 };
/// A second, in nanoseconds.
const SECOND: u64 = 1_000_000_000;

fn config() -> Config {
    let assignments = ["upstream.endpoint=https://name.openai.azure.com", "telemetry.otlp_endpoint=http://127.0.0.1:9"];
    let assignments = assignments.map(str::to_owned).to_vec();
    Config::isolated(&Overrides { assignments, ..Overrides::default() }).unwrap()
}

fn otlp() -> (Otlp, Places) {
    let config = config();
    (config.telemetry.otlp.clone().unwrap(), Places::of(&config))
}

fn backlog(otlp: &Otlp) -> Arc<Backlog> {
    Arc::new(Backlog::new(otlp.most_spans, Arc::new(ManualClock::stopped())))
}

fn spans(sampling: Sampling) -> Spans {
    let (otlp, _) = otlp();
    Spans::new(&otlp, sampling, Sender::new(&otlp), backlog(&otlp))
}

fn metrics() -> Metrics {
    let (otlp, places) = otlp();
    let clock = Arc::new(ManualClock::new(UNIX_EPOCH + Duration::from_secs(50)));
    let metrics = Metrics::new(&otlp, places.resource, Sender::new(&otlp), backlog(&otlp), clock.clone());
    clock.advance(Duration::from_secs(60));
    metrics
}

fn origin(fields: &[(&str, &str)]) -> Origin {
    let request = fields.iter().fold(Request::get("/"), |request, (name, value)| request.header(*name, *value));
    Origin::of(&request.body(()).unwrap())
}

/// A chat completion that was answered in a second, at the hundredth since 1970.
fn finished<'a>(id: &'a HeaderValue, origin: &'a Origin) -> Finished<'a> {
    let wall: SystemTime = UNIX_EPOCH + Duration::from_secs(100);
    Finished {
        method: &Method::POST,
        operation: Operation::at("/v1/chat/completions"),
        route: Route::Resource,
        status: Some(StatusCode::OK),
        app: Label { name: "alice", number: 3 },
        model: Some("GPT-4o"),
        answered_by: Some("gpt-4o-2024-08-06"),
        counted_as: Some(Label { name: "gpt-4o", number: 1 }),
        usage: Some(Usage { input: 300, cached: 0, output: u64::MAX, reasoning: 7 }),
        ended: Moment { runs: Instant::now(), wall },
        duration: Duration::from_secs(1),
        first_byte: Some(Duration::from_millis(10)),
        bytes: 1 << 40,
        outcome: Outcome::Completed,
        code: None,
        error: None,
        hint: None,
        id,
        upstream_id: None,
        origin: Some(origin),
    }
}

fn attributes(attributes: &[KeyValue]) -> BTreeMap<&str, String> {
    let said = attributes.iter().map(|attribute| {
        let value = match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Value::StringValue(text)) => text.clone(),
            Some(Value::IntValue(number)) => number.to_string(),
            Some(Value::DoubleValue(number)) => number.to_string(),
            value => panic!("{value:?}"),
        };
        (attribute.key.as_str(), value)
    });
    let all: BTreeMap<_, _> = said.collect();
    assert_eq!(all.len(), attributes.len(), "each is there once: {attributes:?}");
    all
}

/// The spans of the next message, and who says so.
fn sent(spans: &Spans) -> (Vec<Span>, BTreeMap<String, String>) {
    let Some(message) = spans.next_message() else { return (Vec::new(), BTreeMap::new()) };
    let mut message = ExportTraceServiceRequest::decode(message).unwrap();
    let [resource] = &mut message.resource_spans[..] else { panic!("{message:?}") };
    let said = attributes(&resource.resource.as_ref().unwrap().attributes);
    let said = said.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let [scope] = &mut resource.scope_spans[..] else { panic!("{resource:?}") };
    assert_eq!(scope.scope.as_ref().unwrap().name, "aoai-auth-proxy");
    (std::mem::take(&mut scope.spans), said)
}

#[test]
fn a_span_is_read_as_it_was_meant() {
    let (spans, (_, places)) = (spans(ALL), otlp());
    // Longer than what one byte tells the length of.
    let id = HeaderValue::from_str(&"x".repeat(300)).unwrap();
    let origin = origin(&[("traceparent", TRACEPARENT), ("tracestate", "a=1")]);
    spans.finished(&finished(&id, &origin), &places.resource);
    let (sent, resource) = sent(&spans);
    let [span] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((span.name.as_str(), span.kind), ("chat gpt-4o", SpanKind::Server as i32));
    assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (99 * SECOND, 100 * SECOND));
    let parent = origin.parent().unwrap();
    assert_eq!((&span.trace_id[..], &span.parent_span_id[..]), (&parent.trace[..], &parent.span[..]));
    assert_eq!((span.span_id.len(), span.trace_state.as_str(), span.flags), (8, "a=1", 0x301));
    assert_eq!(span.status.as_ref().unwrap().code, SpanStatus::Unset as i32);
    let said = attributes(&span.attributes);
    for (name, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/v1/chat/completions"),
        ("http.response.status_code", "200"),
        ("http.response.body.size", "1099511627776"),
        ("url.scheme", "http"),
        ("network.protocol.version", "1.1"),
        ("aoai_proxy.app", "alice"),
        ("aoai_proxy.outcome", "completed"),
        ("aoai_proxy.upstream", "name.openai.azure.com:443"),
        ("aoai_proxy.request_id", id.to_str().unwrap()),
        ("aoai_proxy.time_to_first_byte", "0.01"),
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "azure.ai.openai"),
        ("gen_ai.request.model", "GPT-4o"),
        ("gen_ai.response.model", "gpt-4o-2024-08-06"),
        ("gen_ai.usage.input_tokens", "300"),
        ("gen_ai.usage.output_tokens", "9223372036854775807"),
        ("gen_ai.usage.reasoning.output_tokens", "7"),
    ] {
        assert_eq!(said.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert_eq!(said.len(), 18, "{said:?}");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn what_is_remembered_of_one_span_is_said_of_no_other_kind() {
    let (_, places) = otlp();
    let id = HeaderValue::from_static("i");
    let (origin, modern) =
        (origin(&[]), Origin::of(&Request::get("/").version(http::Version::HTTP_2).body(()).unwrap()));
    let first = finished(&id, &origin);
    let method = Method::PUT;
    let kinds = [
        (first, &places.resource),
        (Finished { method: &method, ..first }, &places.resource),
        (Finished { operation: Operation::at("/v1/embeddings"), ..first }, &places.resource),
        (Finished { status: Some(StatusCode::BAD_GATEWAY), ..first }, &places.resource),
        (Finished { status: None, outcome: Outcome::Abandoned, ..first }, &places.resource),
        (Finished { outcome: Outcome::BrokeOff, ..first }, &places.resource),
        (Finished { outcome: Outcome::Refused, code: Some("token_unavailable"), ..first }, &places.resource),
        (Finished { app: Label { name: "bob", number: 4 }, ..first }, &places.resource),
        (Finished { model: Some("gpt-4O"), ..first }, &places.resource),
        (Finished { model: None, ..first }, &places.resource),
        (Finished { answered_by: Some("gpt-4o-2024-11-20"), ..first }, &places.resource),
        (Finished { counted_as: Some(Label { name: "others", number: 200 }), ..first }, &places.resource),
        (Finished { origin: Some(&modern), ..first }, &places.resource),
        (Finished { route: Route::Management, ..first }, &places.management),
    ];
    let told = |spans: &Spans| {
        let told = sent(spans).0.into_iter().map(|span| {
            let said = attributes(&span.attributes).into_iter().map(|(name, value)| format!("{name}={value}"));
            (span.name.clone(), span.status.as_ref().unwrap().code, said.collect::<Vec<_>>())
        });
        told.collect::<Vec<_>>()
    };
    let alone: Vec<_> = kinds
        .iter()
        .flat_map(|(request, place)| {
            let spans = spans(ALL);
            spans.finished(request, place);
            told(&spans)
        })
        .collect();
    assert!((1..alone.len()).all(|at| !alone[..at].contains(&alone[at])), "{alone:?}");
    // Each after each other one, and twice.
    let spans = spans(ALL);
    for (number, expected) in alone.iter().enumerate() {
        for (other, expected_other) in alone.iter().enumerate() {
            for turn in [number, other, number, number] {
                let (request, place) = &kinds[turn];
                spans.finished(request, place);
            }
            assert_eq!(told(&spans), [expected, expected_other, expected, expected].map(Clone::clone));
        }
    }
}

#[test]
fn a_span_that_was_not_written_to_its_end_is_not_sent() {
    let (spans, (_, places)) = (spans(ALL), otlp());
    let (id, origin) = (HeaderValue::from_static("i"), origin(&[]));
    for before in 0..2 {
        (0..before).for_each(|_| spans.finished(&finished(&id, &origin), &places.resource));
        let panics = || {
            spans.add(|span, _| {
                span.push(1);
                panic!("as a test wants it");
            });
        };
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
        spans.finished(&finished(&id, &origin), &places.resource);
        assert_eq!(sent(&spans).0.len(), before + 1);
    }
}

#[test]
fn spans_come_in_messages_of_so_many() {
    let (spans, (_, places)) = (spans(ALL), otlp());
    let (id, origin) = (HeaderValue::from_static("i"), origin(&[]));
    // The last ones are no message of either worker's.
    for (worker, number) in [(0, 512), (1, 300), (0, 188), (1, 400)] {
        on(worker, || (0..number).for_each(|_| spans.finished(&finished(&id, &origin), &places.resource)));
    }
    let all: Vec<_> = std::iter::from_fn(|| Some(sent(&spans).0).filter(|spans| !spans.is_empty())).collect();
    let mut lengths: Vec<_> = all.iter().map(Vec::len).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [376, 512, 512]);
    let mut traces: Vec<_> = all.into_iter().flatten().map(|span| (span.trace_id, span.span_id)).collect();
    traces.sort_unstable();
    traces.dedup();
    assert_eq!(traces.len(), 1400);
    spans.finished(&finished(&id, &origin), &places.resource);
    assert_eq!(sent(&spans).0.len(), 1);
}

#[tokio::test]
async fn what_was_begun_is_sent_at_the_end_whatever_else_has_come() {
    let (config, (otlp, places)) = (config(), otlp());
    let (id, origin) = (HeaderValue::from_static("i"), origin(&[]));
    // Which of two is heard first is left to chance.
    for _ in 0..16 {
        let spans = Arc::new(spans(ALL));
        // One message is full, as is told, but it has gone already.
        (0..513).for_each(|_| spans.finished(&finished(&id, &origin), &places.resource));
        assert_eq!(sent(&spans).0.len(), 512);
        let (_stage, stages) = watch::channel(Stage::Over);
        let delivery = Delivery::new(&config, &otlp, crate::tls::client(&[]).unwrap(), stages).unwrap();
        assert!(!spans.send(Arc::new(delivery)).await, "nobody takes the last one");
    }
}

#[test]
fn a_part_of_all_traces_is_told_and_the_caller_decides_about_its_own() {
    let (_, places) = otlp();
    let (id, nobody) = (HeaderValue::from_static("i"), origin(&[]));
    let (yes, no) =
        (origin(&[("traceparent", TRACEPARENT)]), origin(&[("traceparent", &TRACEPARENT.replace("-01", "-00"))]));
    let told = |by_parent, ratio, origin: &Origin| {
        let spans = spans(Sampling { by_parent, ratio });
        (0..500).for_each(|_| spans.finished(&finished(&id, origin), &places.resource));
        sent(&spans).0.len()
    };
    assert_eq!(
        [told(true, 1.0, &nobody), told(true, 0.0, &nobody), told(true, 0.0, &yes), told(true, 1.0, &no)],
        [500, 0, 500, 0]
    );
    assert!((50..450).contains(&told(true, 0.5, &nobody)));
    // Whoever samples a trace by its id alone does so wherever it passes: this one ends in 8448eb211c80319c.
    assert_eq!(
        [told(false, 0.51, &yes), told(false, 0.52, &yes), told(false, 1.0, &no), told(false, 0.0, &yes)],
        [0, 500, 500, 0]
    );
}

fn histogram<'a>(metrics: &'a [Metric], name: &str) -> &'a [HistogramDataPoint] {
    let metric = metrics.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("{name}: {metrics:?}"));
    let Some(Data::Histogram(Histogram { data_points, aggregation_temporality })) = &metric.data else {
        panic!("{metric:?}")
    };
    assert_eq!(*aggregation_temporality, AggregationTemporality::Cumulative as i32);
    assert!(!metric.unit.is_empty() && !metric.description.is_empty(), "{metric:?}");
    for point in data_points {
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (50 * SECOND, 110 * SECOND));
        assert_eq!((point.bucket_counts.len(), point.explicit_bounds.len()), (15, 14));
        assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
    }
    data_points
}

fn read(metrics: &Metrics) -> Vec<Metric> {
    let message = ExportMetricsServiceRequest::decode(metrics.message().unwrap()).unwrap();
    let [resource] = &message.resource_metrics[..] else { panic!("{message:?}") };
    assert!(attributes(&resource.resource.as_ref().unwrap().attributes).contains_key("service.instance.id"));
    let [scope] = &resource.scope_metrics[..] else { panic!("{resource:?}") };
    scope.metrics.clone()
}

#[test]
fn histograms_are_read_as_they_were_meant() {
    let metrics = metrics();
    assert!(metrics.message().is_none(), "nothing has happened");
    let (id, origin) = (HeaderValue::from_static("i"), origin(&[]));
    let request = finished(&id, &origin);
    (0..3).for_each(|_| metrics.under_way(&Method::POST));
    for duration in [1.0, 1.001, 0.004, 3600.0] {
        metrics.under_way(&Method::POST);
        on(1, || metrics.finished(&Finished { duration: Duration::from_secs_f64(duration), ..request }));
    }
    // Elsewhere, and in vain; and one that says nothing of how fast anything is.
    let operation = Operation::at("/openai/deployments/x/chat/completions");
    metrics.finished(&Finished { operation, status: Some(StatusCode::NOT_FOUND), counted_as: None, ..request });
    metrics.finished(&Finished { status: Some(StatusCode::SWITCHING_PROTOCOLS), ..request });
    let read = read(&metrics);

    let [found, failed] = histogram(&read, "http.server.request.duration") else { panic!("{read:?}") };
    let (found, failed) = if found.count == 4 { (found, failed) } else { (failed, found) };
    assert_eq!((found.count, found.min, found.max), (4, Some(0.004), Some(3600.0)));
    assert!((found.sum.unwrap() - 3602.005).abs() < 1e-9);
    assert_eq!(
        found.bucket_counts,
        [1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1],
        "what is as much as a bound is within"
    );
    let said = attributes(&failed.attributes);
    assert_eq!((&*said["error.type"], &*said["http.response.status_code"]), ("404", "404"));
    assert_eq!(said["http.route"], "/openai/deployments/{deployment}/chat/completions");

    let of_models = histogram(&read, "gen_ai.client.operation.duration");
    assert_eq!(of_models.iter().map(|point| point.count).sum::<u64>(), 5);
    let failed = of_models.iter().find(|point| point.count == 1).unwrap();
    let said = attributes(&failed.attributes);
    assert!(said["error.type"] == "404" && !said.contains_key("gen_ai.request.model"), "{said:?}");
    let [first_byte] = histogram(&read, "aoai_proxy.time_to_first_byte") else { panic!("{read:?}") };
    assert_eq!((first_byte.count, first_byte.bucket_counts[0]), (4, 4));
    let said = attributes(&first_byte.attributes);
    assert_eq!((&*said["gen_ai.request.model"], &*said["aoai_proxy.app"]), ("gpt-4o", "alice"));
    assert_eq!((&*said["server.address"], &*said["server.port"]), ("name.openai.azure.com", "443"));

    let active = read.iter().find(|metric| metric.name == "http.server.active_requests").unwrap();
    let Some(Data::Sum(Sum { data_points, is_monotonic: false, .. })) = &active.data else { panic!("{active:?}") };
    let [point] = &data_points[..] else { panic!("{active:?}") };
    let now = opentelemetry_proto::tonic::metrics::v1::number_data_point::Value::AsInt(1);
    assert_eq!(point.value, Some(now), "three more began than ended, of which two were not told of");
}

#[test]
fn tokens_are_told_apart_by_kind() {
    let metrics = metrics();
    let usage = Some(Usage { input: 64, cached: 0, output: 65, reasoning: 0 });
    let at = Moment { runs: Instant::now(), wall: UNIX_EPOCH };
    for path in ["/v1/chat/completions", "/openai/chat/completions"] {
        let (app, model) = (Label { name: "alice", number: 3 }, Label { name: "gpt-4o", number: 1 });
        let spent = Spent { at, app, operation: Operation::at(path), model, usage };
        metrics.spent(&spent);
        metrics.spent(&Spent { usage: None, ..spent });
    }
    let read = read(&metrics);
    let points = histogram(&read, "gen_ai.client.token.usage");
    assert_eq!(points.len(), 2, "both are chats: {points:?}");
    for (kind, tokens, bucket) in [("input", 128.0, 3), ("output", 130.0, 4)] {
        let point = points.iter().find(|point| attributes(&point.attributes)["gen_ai.token.type"] == kind).unwrap();
        assert_eq!((point.count, point.sum, point.bucket_counts[bucket]), (2, Some(tokens), 2), "{kind}");
    }
}
