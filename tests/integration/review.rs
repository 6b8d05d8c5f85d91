//! Findings of a review: each of these fails until what it names is mended.

use std::collections::BTreeMap;

use aoai_auth_proxy::emulator::{Action, Route};
use axum::body::Body;
use http::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::history::settled;
use crate::program::{Running, emulator, serve};
use crate::support::{World, within};

/// What the resource answers from now on to whatever it is asked on `route`.
fn answers(world: &World, route: Route, content: &Value) {
    let headers = BTreeMap::from([("content-type".to_owned(), "application/json".to_owned())]);
    world.fault(route, Action::Status { status: 200, body: Some(content.to_string()), headers }, None);
}

async fn post(world: &World, path: &str, content: &Value) {
    let answer = within(world.client.post(world.url(path)).json(content).send()).await.unwrap();
    assert_eq!(answer.status(), 200);
    within(answer.bytes()).await.unwrap();
}

/// `AzureOpenAI(...).responses.create` posts to `/openai/responses?api-version=…`.
#[tokio::test]
async fn review_the_responses_api_of_dated_clients_is_counted() {
    let world = World::new().await;
    let answer = json!({ "id": "resp_1", "object": "response", "model": "gpt-4o", "usage": { "input_tokens": 7, "output_tokens": 3 } });
    answers(&world, Route::OpenAi, &answer);
    post(&world, "/openai/responses?api-version=2025-03-01-preview", &json!({ "model": "gpt-4o", "input": "x" })).await;
    let status = settled(&world, 1).await;
    let usage = status["usage"].as_array().unwrap();
    assert_eq!(usage.len(), 1, "the answer said what it cost: {status}");
    assert_eq!((&usage[0]["input"], &usage[0]["output"]), (&json!(7), &json!(3)));
}

/// Compacting a conversation is the model's work, and its answer says what it cost.
#[tokio::test]
async fn review_a_compacted_response_is_counted() {
    let world = World::new().await;
    let answer =
        json!({ "id": "resp_1", "object": "response.compaction", "usage": { "input_tokens": 7, "output_tokens": 3 } });
    answers(&world, Route::OpenAi, &answer);
    post(&world, "/v1/responses/compact", &json!({ "model": "gpt-4o", "input": "x" })).await;
    assert_eq!(settled(&world, 1).await["usage"].as_array().unwrap().len(), 1);
}

/// Azure does not tell upper from lower case in names of deployments: else one caller uses up all 200 names with one of them.
#[tokio::test]
async fn review_one_deployment_has_one_name_however_it_is_written() {
    let world = World::new().await;
    answers(&world, Route::Chat, &json!({ "model": "m", "usage": { "prompt_tokens": 1, "completion_tokens": 1 } }));
    for model in ["gpt-4o", "GPT-4o", "gPt-4O"] {
        post(&world, "/v1/chat/completions", &json!({ "model": model, "messages": [] })).await;
    }
    let status = settled(&world, 3).await;
    assert_eq!(status["usage"].as_array().unwrap().len(), 1, "{}", status["usage"]);
}

/// The page says of OpenTelemetry's variables that none of them keeps the proxy from starting; collectors that speak gRPC are
/// often named without a scheme, or with their own.
#[tokio::test]
async fn review_a_collectors_address_for_others_keeps_nothing_from_starting() {
    let azure = emulator().await;
    for endpoint in ["collector:4317", "grpc://collector:4317"] {
        let mut command = serve(&azure);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        let proxy = Running::start(&mut command).await;
        assert_eq!(proxy.stop().await.0, 0);
    }
}

/// A viewer that takes nothing (a browser that is stopped, a debugger, a window of HTTP/2 that is used up) must not hold the end
/// up: nothing that it is told is worth waiting for.
#[tokio::test]
async fn review_a_viewer_that_takes_nothing_does_not_hold_the_end_up() {
    let azure = emulator().await;
    let proxy = Running::start(serve(&azure).args(["--set", "limits.shutdown_grace=2s"])).await;
    let stream = TokioIo::new(TcpStream::connect(proxy.address()).await.unwrap());
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(1);
    let (mut sender, connection) = within(builder.handshake(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("http://localhost/status/events").body(Body::empty()).unwrap();
    let viewer = within(sender.send_request(request)).await.unwrap();
    assert_eq!(viewer.status(), 200);
    let (code, log) = proxy.stop().await;
    assert!(code == 0 && !log.contains("cut off"), "{log}");
    drop((viewer, sender));
    connection.abort();
}
