//! What `/status` counts: requests, what they cost, and what went wrong, with nothing of what was said in them.

use std::collections::BTreeMap;

use aoai_auth_proxy::emulator::{Action, Route};
use serde_json::{Value, json};

use crate::support::{World, chat, within};

/// The status once `requests` are over and none is under way: a caller may have its answer before it has been counted.
pub(crate) async fn settled(world: &World, requests: u64) -> Value {
    within(async {
        loop {
            let status: Value = world.get("/status").await.json().await.unwrap();
            if status["requests"]["total"] == requests && status["requests"]["in_flight"] == 0 {
                break status;
            }
        }
    })
    .await
}

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

#[tokio::test]
async fn requests_and_what_they_cost_are_counted() {
    let world = World::with(&["apps.talker.key=talkers-key"], |_| ()).await;
    let mut expected = [0, 0];
    for _ in 0..3 {
        let answer: Value = world.chat().await.json().await.unwrap();
        expected[0] += answer["usage"]["prompt_tokens"].as_u64().unwrap();
        expected[1] += answer["usage"]["completion_tokens"].as_u64().unwrap();
    }
    // Which does not say what it has cost.
    world.chat_stream().await.text().await.unwrap();
    let request = world.client.post(world.url("/v1/chat/completions")).header("api-key", "talkers-key");
    within(request.json(&chat(false)).send()).await.unwrap().text().await.unwrap();
    let status = settled(&world, 5).await;
    assert_eq!(status["requests"]["errors"], 0, "{status}");
    let usage = status["usage"].as_array().unwrap();
    assert_eq!(usage.len(), 2);
    let row = json!({
        "app": "-", "model": "gpt-4o-mini", "requests": 4, "unknown": 1,
        "input": expected[0], "cached": 0, "output": expected[1], "reasoning": 0,
    });
    assert_eq!(usage[0], row);
    assert_eq!(
        (&usage[1]["app"], &usage[1]["requests"], &usage[1]["unknown"]),
        (&json!("talker"), &json!(1), &json!(0))
    );
}

/// `AzureOpenAI(...).responses.create` posts to `/openai/responses?api-version=…`.
#[tokio::test]
async fn the_responses_api_of_dated_clients_is_counted() {
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
async fn a_compacted_response_is_counted() {
    let world = World::new().await;
    let answer =
        json!({ "id": "resp_1", "object": "response.compaction", "usage": { "input_tokens": 7, "output_tokens": 3 } });
    answers(&world, Route::OpenAi, &answer);
    post(&world, "/v1/responses/compact", &json!({ "model": "gpt-4o", "input": "x" })).await;
    assert_eq!(settled(&world, 1).await["usage"].as_array().unwrap().len(), 1);
}

/// Azure does not tell upper from lower case in names of deployments: else one caller uses up all 200 names with one of them.
#[tokio::test]
async fn one_deployment_has_one_name_however_it_is_written() {
    let world = World::new().await;
    answers(&world, Route::Chat, &json!({ "model": "m", "usage": { "prompt_tokens": 1, "completion_tokens": 1 } }));
    for model in ["gpt-4o", "GPT-4o", "gPt-4O"] {
        post(&world, "/v1/chat/completions", &json!({ "model": model, "messages": [] })).await;
    }
    let status = settled(&world, 3).await;
    assert_eq!(status["usage"].as_array().unwrap().len(), 1, "{}", status["usage"]);
}

#[tokio::test]
async fn what_is_the_proxys_own_is_no_traffic() {
    let world = World::new().await;
    world.chat().await.text().await.unwrap();
    for path in ["/", "/healthz", "/readyz", "/status", "/nowhere"] {
        world.get(path).await;
    }
    world.get("/management/models").await.text().await.unwrap();
    let status = settled(&world, 2).await;
    assert_eq!(status["requests"]["errors"], 0);
    assert!(status["requests"]["open_connections"].as_u64().unwrap() > 0);
    let errors = status["errors"].as_array().unwrap();
    assert_eq!((errors.len(), &errors[0]["code"], &errors[0]["status"]), (1, &json!("not_found"), &json!(404)));
}

#[tokio::test]
async fn what_is_under_way_is_counted_until_it_is_over() {
    let world = World::new().await;
    world.fault(Route::Chat, Action::Hold { after_events: 1 }, Some(1));
    let mut stream = world.chat_stream().await;
    within(stream.chunk()).await.unwrap().expect("the first event");
    let status: Value = world.get("/status").await.json().await.unwrap();
    assert_eq!((&status["requests"]["in_flight"], &status["requests"]["total"]), (&json!(1), &json!(0)));
    // Whoever leaves makes no error.
    drop(stream);
    assert_eq!(settled(&world, 1).await["requests"]["errors"], 0);
}

#[tokio::test]
async fn what_went_wrong_is_told_and_nothing_of_what_was_said() {
    let world = World::new().await;
    let ask = async |id: &str| {
        let request = world.client.post(world.url("/v1/chat/completions?secret=of-the-query"));
        let request = request.header("x-request-id", id).json(&chat(false));
        // Some of these break off.
        let _ = within(request.send()).await.unwrap().text().await;
    };
    world.fault(Route::Chat, Action::status(429), Some(3));
    for id in ["first", "second", "third"] {
        ask(id).await;
    }
    settled(&world, 3).await;
    world.fault(Route::Chat, Action::Cut { after_bytes: 20 }, Some(1));
    ask("cut").await;
    settled(&world, 4).await;
    world.azure.control().set_role(false);
    ask("without-a-role").await;
    let status = settled(&world, 5).await;
    assert_eq!(status["requests"]["errors"], 5);
    let errors = status["errors"].as_array().unwrap();
    let told = |error: &Value| (error["id"].clone(), error["status"].clone(), error["count"].clone());
    assert_eq!(told(&errors[0]), (json!("without-a-role"), json!(401), json!(1)));
    assert_eq!(told(&errors[1]), (json!("cut"), json!(200), json!(1)));
    assert_eq!(told(&errors[2]), (json!("third"), json!(429), json!(3)));
    assert_eq!(errors.len(), 3);
    assert_eq!(errors[0]["code"], status["refusals"][0]["cause"]);
    assert_eq!(errors[0]["hint"], status["refusals"][0]["hint"]);
    assert!(errors[1]["message"].as_str().unwrap().starts_with("the answer broke off: "), "{status}");
    assert_eq!(errors[2]["message"], "the resource answered 429");
    assert_eq!(
        (&errors[2]["model"], &errors[2]["hint"], &errors[2]["code"]),
        (&json!("gpt-4o-mini"), &Value::Null, &Value::Null)
    );
    let text = status.to_string();
    for secret in ["of-the-query", "one two three", "eyJ"] {
        assert!(!text.contains(secret), "{text}");
    }
}
