//! What a span says of a request, and whose child it is.

use std::collections::BTreeMap;

use aoai_auth_proxy::emulator::{Action, Fault, Route};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use rustix::process::Signal;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;

use super::collector::{Collector, Does, attributes};
use super::telling;
use crate::program::{Running, emulator};
use crate::support::{chat, client, last, within};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

fn only(collector: &Collector) -> (Span, BTreeMap<String, String>) {
    let spans = collector.spans();
    let [span] = spans.as_slice() else { panic!("{spans:?}") };
    (span.clone(), attributes(&span.attributes))
}

async fn ask(proxy: &Running, path: &str, fields: &[(&str, &str)], content: &serde_json::Value) -> (u16, String) {
    let request = client().post(format!("{}{path}", proxy.url)).json(content);
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let response = within(request.send()).await.unwrap();
    // Some break off.
    (response.status().as_u16(), within(response.text()).await.unwrap_or_default())
}

/// The number behind a name, wherever in an answer it is.
fn number(answer: &str, name: &str) -> String {
    let (_, behind) = answer.split_once(&format!("\"{name}\":")).unwrap_or_else(|| panic!("{name}: {answer}"));
    behind.trim_start().chars().take_while(char::is_ascii_digit).collect()
}

#[tokio::test]
async fn a_request_is_a_child_of_the_callers_span() {
    let (azure, collector) = (emulator().await, Collector::start(Does::Takes).await);
    let proxy = Running::start(&mut telling(&azure, &collector)).await;
    let parent = format!("00-{TRACE}-{PARENT}-01");
    let fields =
        [("traceparent", &*parent), ("tracestate", "vendor=1"), ("tracestate", "other=2"), ("x-request-id", "id-1")];
    let (status, answer) = ask(&proxy, "/v1/chat/completions?x=hidden", &fields, &chat(false)).await;
    assert_eq!(status, 200);
    let (input, output) = (number(&answer, "prompt_tokens"), number(&answer, "completion_tokens"));

    let sent = last(&azure, Route::OpenAi).headers;
    let lines =
        |name: &str| sent.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(
        (lines("traceparent"), lines("tracestate")),
        (vec![parent.clone()], vec!["vendor=1".to_owned(), "other=2".to_owned()])
    );

    let upstream = azure.openai().trim_start_matches("https://").trim_end_matches('/').to_owned();
    let (code, log) = proxy.stop().await;
    assert_eq!(code, 0, "{log}");
    let (span, said) = only(&collector);
    assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (TRACE.to_owned(), PARENT.to_owned()));
    assert_ne!(hex(&span.span_id), PARENT);
    assert_eq!((span.trace_state.as_str(), span.kind), ("vendor=1,other=2", SpanKind::Server as i32));
    assert_eq!(span.name, "chat gpt-4o-mini");
    assert!(span.start_time_unix_nano > 0 && span.start_time_unix_nano <= span.end_time_unix_nano);
    assert_eq!(span.status.as_ref().map_or(0, |status| status.code), StatusCode::Unset as i32);
    for (name, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/v1/chat/completions"),
        ("http.response.status_code", "200"),
        ("url.scheme", "http"),
        ("network.protocol.version", "1.1"),
        ("aoai_proxy.upstream", &*upstream),
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "azure.ai.openai"),
        ("gen_ai.request.model", "gpt-4o-mini"),
        ("gen_ai.usage.input_tokens", &*input),
        ("gen_ai.usage.output_tokens", &*output),
        ("aoai_proxy.app", "-"),
        ("aoai_proxy.outcome", "completed"),
        ("aoai_proxy.request_id", "id-1"),
    ] {
        assert_eq!(said.get(name).map(String::as_str), Some(value), "{name}: {said:?}");
    }
    for name in ["gen_ai.response.model", "aoai_proxy.time_to_first_byte"] {
        assert!(said.contains_key(name), "{name}: {said:?}");
    }
    // A span of a server would say of itself where it is.
    for name in ["error.type", "server.address", "server.port"] {
        assert!(!said.contains_key(name), "{name}: {said:?}");
    }
    let all = format!("{:?}", collector.spans());
    for hidden in ["hidden", "three four", "Bearer"] {
        assert!(!all.contains(hidden), "{hidden}: {all}");
    }
    let resource = collector.resource();
    assert_eq!(resource["service.name"], "aoai-auth-proxy");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn a_streamed_answer_tells_its_tokens() {
    let (azure, collector) = (emulator().await, Collector::start(Does::Takes).await);
    let proxy = Running::start(&mut telling(&azure, &collector)).await;
    let mut asked = chat(true);
    asked["stream_options"] = json!({ "include_usage": true });
    let (_, answer) =
        ask(&proxy, "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21", &[], &asked).await;
    proxy.stop().await;
    let (span, said) = only(&collector);
    assert_eq!((span.name.as_str(), span.parent_span_id.is_empty()), ("chat gpt-4o", true));
    assert_eq!(said["gen_ai.usage.input_tokens"], number(&answer, "prompt_tokens"));
    assert_eq!(said["gen_ai.usage.output_tokens"], number(&answer, "completion_tokens"));
    assert_eq!(said["http.route"], "/openai/deployments/{deployment}/chat/completions");
}

#[tokio::test]
async fn what_goes_wrong_is_told_in_a_word() {
    let (azure, collector) = (emulator().await, Collector::start(Does::Takes).await);
    let proxy = Running::start(&mut telling(&azure, &collector)).await;
    let failed = StatusCode::Error as i32;
    let cut = Action::Cut { after_bytes: 10 };
    let cases = [
        (Some(Action::status(429)), "429", StatusCode::Unset as i32, Some("429"), "chat"),
        (Some(Action::status(500)), "500", failed, Some("500"), "chat"),
        (Some(cut), "broke_off", failed, Some("200"), "chat gpt-4o-mini"),
        (Some(Action::Close), "upstream_protocol", failed, Some("502"), "chat"),
    ];
    for (number, (action, ..)) in cases.iter().enumerate() {
        azure.control().clear_faults();
        azure.control().fault(Fault { route: Route::Chat, action: action.clone().unwrap(), count: None });
        ask(&proxy, "/v1/chat/completions", &[("x-request-id", &number.to_string())], &chat(false)).await;
    }
    let (_, log) = proxy.stop().await;
    let spans = collector.spans();
    for (number, (action, error, status, code, name)) in cases.iter().enumerate() {
        let span =
            spans.iter().find(|span| attributes(&span.attributes)["aoai_proxy.request_id"] == number.to_string());
        let span = span.unwrap_or_else(|| panic!("{action:?}: {log}"));
        let said = attributes(&span.attributes);
        assert_eq!(said["error.type"], *error, "{action:?}: {said:?}");
        assert_eq!((span.name.as_str(), &*said["gen_ai.request.model"]), (*name, "gpt-4o-mini"), "{action:?}");
        assert_eq!(span.status.as_ref().map_or(0, |status| status.code), *status, "{action:?}");
        assert_eq!(said.get("http.response.status_code").map(String::as_str), *code, "{action:?}");
    }
}

#[tokio::test]
async fn the_caller_decides_whether_there_is_a_span() {
    let (azure, collector) = (emulator().await, Collector::start(Does::Takes).await);
    let proxy = Running::start(&mut telling(&azure, &collector)).await;
    let sampled = format!("00-{TRACE}-{PARENT}-01");
    for (number, fields) in [
        // Not this one.
        vec![("traceparent", format!("00-{TRACE}-{PARENT}-00"))],
        // No parent: one that is malformed, and two.
        vec![("traceparent", sampled.to_uppercase())],
        vec![("traceparent", sampled.clone()), ("traceparent", sampled.clone())],
    ]
    .into_iter()
    .enumerate()
    {
        let id = ("x-request-id", number.to_string());
        let fields: Vec<_> = fields.iter().chain([&id]).map(|(name, value)| (*name, &**value)).collect();
        ask(&proxy, "/v1/embeddings", &fields, &json!({ "model": "text-embedding-3-small", "input": "x" })).await;
    }
    proxy.stop().await;
    let spans = collector.spans();
    let mut ids: Vec<_> =
        spans.iter().map(|span| attributes(&span.attributes)["aoai_proxy.request_id"].clone()).collect();
    ids.sort();
    assert_eq!(ids, ["1", "2"]);
    for span in spans {
        assert_eq!(span.name, "embeddings text-embedding-3-small");
        assert!(span.parent_span_id.is_empty() && hex(&span.trace_id) != TRACE, "{span:?}");
    }
}

#[tokio::test]
async fn a_websocket_is_one_span_from_its_beginning_to_its_end() {
    let (azure, collector) = (emulator().await, Collector::start(Does::Takes).await);
    let proxy = Running::start(&mut telling(&azure, &collector)).await;
    let stream = TcpStream::connect(proxy.address()).await.unwrap();
    let url = format!("ws://{}/v1/realtime?model=gpt-realtime", proxy.address());
    let (mut socket, _) = within(client_async(url, stream)).await.unwrap();
    within(socket.close(None)).await.unwrap();
    while let Some(Ok(_)) = within(futures_util::StreamExt::next(&mut socket)).await {}
    drop(socket);
    proxy.stop().await;
    let (span, said) = only(&collector);
    assert_eq!(span.name, "chat gpt-realtime");
    assert_eq!((said["http.response.status_code"].as_str(), said["http.route"].as_str()), ("101", "/v1/realtime"));
}

#[tokio::test]
async fn probes_and_pages_are_nothing_to_tell_of() {
    let (azure, collector) = (emulator().await, Collector::start(Does::Takes).await);
    let proxy = Running::start(&mut telling(&azure, &collector)).await;
    for path in ["/healthz", "/readyz", "/", "/status", "/nowhere", "/v1/../x"] {
        proxy.get(path).await;
    }
    let (code, log) = proxy.stop().await;
    assert_eq!((code, collector.received().len()), (0, 0), "{log}");
}

#[tokio::test]
async fn the_management_plane_has_its_spans() {
    let (azure, collector) = (emulator().await, Collector::start(Does::Takes).await);
    let proxy = Running::start(&mut telling(&azure, &collector)).await;
    assert_eq!(proxy.get("/management/models").await.status(), 200);
    proxy.stop().await;
    let (span, said) = only(&collector);
    assert_eq!(span.name, "GET /management/models");
    assert!(
        azure.management().contains(&said["aoai_proxy.upstream"]) && !said.contains_key("gen_ai.provider.name"),
        "{said:?}"
    );
}

/// What is cut off when the grace is over is what somebody will look for.
#[tokio::test]
async fn a_request_that_was_cut_off_has_a_span() {
    let (azure, collector) = (emulator().await, Collector::start(Does::Takes).await);
    let mut command = telling(&azure, &collector);
    let proxy = Running::start(command.args(["--set", "limits.shutdown_grace=100ms"])).await;
    azure.control().fault(Fault::new(Route::Chat, Action::Hang));
    let url = format!("{}/v1/chat/completions", proxy.url);
    let asking = tokio::spawn(async move { client().post(url).json(&chat(false)).send().await.is_ok() });
    within(azure.control().until(|state| state.count(Route::Chat) == 1)).await;
    proxy.process().signal(Signal::TERM);
    let (_, log) = proxy.end().await;
    assert!(log.contains("cut off"), "{log}");
    assert!(!within(asking).await.unwrap());
    assert_eq!(collector.spans().len(), 1, "{log}");
}
