//! What metrics say of requests.

use opentelemetry_proto::tonic::metrics::v1::AggregationTemporality;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;

use super::collector::{Collector, Does, points};
use super::telling;
use crate::program::{Running, emulator};
use crate::support::{client, within};

#[tokio::test]
async fn requests_and_tokens_are_counted_and_made_up_names_are_not() {
    let (azure, collector) = (emulator().await, Collector::start(Does::Takes).await);
    let proxy = Running::start(telling(&azure, &collector).env("OTEL_TRACES_EXPORTER", "none")).await;
    let ask = async |model: &str| {
        let content = json!({ "model": model, "messages": [{ "role": "user", "content": "one two three" }] });
        let request = client().post(format!("{}/v1/chat/completions", proxy.url)).json(&content);
        let response = within(request.send()).await.unwrap();
        (response.status().as_u16(), within(response.json::<Value>()).await.unwrap()["usage"]["prompt_tokens"].as_u64())
    };
    let first = ask("gpt-4o").await;
    assert_eq!(ask("made-up-1").await, (404, None));
    assert_eq!((first.0, first.1.is_some(), ask("gpt-4o").await), (200, true, first));
    proxy.get("/healthz").await;
    proxy.stop().await;

    assert!(collector.spans().is_empty(), "only metrics were asked for");
    let metrics = collector.metrics();
    assert!(!format!("{metrics:?}").contains("made-up"), "{metrics:?}");
    let of_http = points(&metrics, "http.server.request.duration");
    let counts = of_http.iter().map(|(said, count, _)| (said["http.response.status_code"].as_str(), *count));
    let mut counts: Vec<_> = counts.collect();
    counts.sort_unstable();
    assert_eq!(counts, [("200", 2), ("404", 1)], "{of_http:?}");
    assert!(of_http.iter().all(|(said, ..)| said["http.route"] == "/v1/chat/completions"), "{of_http:?}");

    let of_models = points(&metrics, "gen_ai.client.operation.duration");
    assert_eq!(of_models.iter().map(|(_, count, _)| count).sum::<u64>(), 3, "{of_models:?}");
    let failed = of_models.iter().find(|(said, ..)| said.contains_key("error.type")).unwrap();
    assert!(!failed.0.contains_key("gen_ai.request.model"), "{failed:?}");
    let first_bytes = points(&metrics, "aoai_proxy.time_to_first_byte");
    assert_eq!(first_bytes.iter().map(|(_, count, _)| count).sum::<u64>(), 2, "{first_bytes:?}");

    let tokens = points(&metrics, "gen_ai.client.token.usage");
    let input = tokens.iter().find(|(said, ..)| said["gen_ai.token.type"] == "input").unwrap();
    assert_eq!((input.1, input.2.to_string().as_str()), (2, &*(2 * first.1.unwrap()).to_string()), "{tokens:?}");
    for (name, value) in [
        ("gen_ai.request.model", "gpt-4o"),
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "azure.ai.openai"),
        ("aoai_proxy.app", "-"),
    ] {
        assert_eq!(input.0[name], value, "{input:?}");
    }
    assert!(tokens.iter().any(|(said, ..)| said["gen_ai.token.type"] == "output"));

    let active = metrics.iter().find(|metric| metric.name == "http.server.active_requests").unwrap();
    let Some(Data::Sum(active)) = &active.data else { panic!("{active:?}") };
    assert_eq!(
        (active.is_monotonic, active.aggregation_temporality),
        (false, AggregationTemporality::Cumulative as i32)
    );
}

#[tokio::test]
async fn metrics_come_once_an_interval() {
    let (azure, collector) = (emulator().await, Collector::start(Does::Takes).await);
    let proxy = Running::start(telling(&azure, &collector).env("OTEL_METRIC_EXPORT_INTERVAL", "20")).await;
    proxy.get("/v1/models").await;
    collector.until("/v1/metrics", 3).await;
    proxy.stop().await;
}

/// As for Prometheus: a conversation lasts as long as somebody has something to say, which tells nothing of how fast anything is.
#[tokio::test]
async fn a_conversation_takes_no_time_here_either() {
    let (azure, collector) = (emulator().await, Collector::start(Does::Takes).await);
    let proxy = Running::start(telling(&azure, &collector).env("OTEL_TRACES_EXPORTER", "none")).await;
    let stream = TcpStream::connect(proxy.address()).await.unwrap();
    let url = format!("ws://{}/v1/realtime?model=gpt-realtime", proxy.address());
    let (mut socket, _) = within(client_async(url, stream)).await.unwrap();
    within(socket.close(None)).await.unwrap();
    drop(socket);
    let (code, log) = proxy.stop().await;
    assert_eq!(code, 0, "{log}");
    let metrics = collector.metrics();
    for name in ["http.server.request.duration", "gen_ai.client.operation.duration", "aoai_proxy.time_to_first_byte"] {
        let named: Vec<_> = metrics.iter().filter(|metric| metric.name == name).cloned().collect();
        if !named.is_empty() {
            let points = points(&named, name);
            assert_eq!(points.iter().map(|(_, count, _)| count).sum::<u64>(), 0, "{name}: {points:?}");
        }
    }
}
