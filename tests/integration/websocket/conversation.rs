//! Azure's own WebSockets through the proxy: with our token and without anything of the caller's that opens doors.

use aoai_auth_proxy::emulator::Route;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use serde_json::{Value, json};

use super::{Socket, hear, hear_until, open, say, types};
use crate::support::{World, within};

const V1: [&str; 2] = ["/v1/realtime?model=gpt-realtime", "/openai/v1/realtime?model=gpt-realtime"];
const OLDER: &str = "/openai/realtime?api-version=2025-04-01-preview&deployment=gpt-realtime";

/// Says hello to the model and waits for the end of its response; all events on the way.
async fn converse(socket: &mut Socket) -> Vec<Value> {
    let content = json!([{ "type": "input_text", "text": "tell me about the sea" }]);
    let item = json!({ "type": "message", "role": "user", "content": content });
    say(socket, json!({ "type": "conversation.item.create", "item": item })).await;
    say(socket, json!({ "type": "response.create" })).await;
    hear_until(socket, "response.done").await
}

/// What the pieces of a text make together.
fn text(events: &[Value], delta: &str) -> String {
    events.iter().filter(|event| event["type"] == delta).map(|event| event["delta"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_conversation_in_either_of_its_forms() {
    let world = World::new().await;
    let forms = [
        (V1[0], "conversation.item.added", "response.output_text"),
        (V1[1], "conversation.item.added", "response.output_text"),
        (OLDER, "conversation.item.created", "response.text"),
    ];
    for (path, item, said) in forms {
        let (mut socket, _) = open(&world.proxy, path, &[]).await.unwrap();
        let created = hear(&mut socket).await;
        assert_eq!(
            (&created["type"], &created["session"]["model"]),
            (&json!("session.created"), &json!("gpt-realtime"))
        );
        let events = converse(&mut socket).await;
        assert!(types(&events).contains(&item), "{path}");
        let whole = events.iter().find(|event| event["type"] == format!("{said}.done")).unwrap();
        assert_eq!(whole["text"], text(&events, &format!("{said}.delta")));
        assert!(whole["text"].as_str().unwrap().contains("tell me about the sea"));
        let done = &events.last().unwrap()["response"];
        assert_eq!(done["status"], "completed");
        assert!(done["usage"]["output_tokens"].as_u64().unwrap() > 0);
    }
}

#[tokio::test]
async fn a_session_listens_and_complains() {
    let world = World::new().await;
    let (mut socket, _) = open(&world.proxy, V1[0], &[]).await.unwrap();
    hear(&mut socket).await;
    // Audio is not answered: the next that comes is about the session.
    say(&mut socket, json!({ "type": "input_audio_buffer.append", "audio": "AAAA" })).await;
    say(&mut socket, json!({ "type": "session.update", "session": { "instructions": "be brief" } })).await;
    let updated = hear(&mut socket).await;
    assert_eq!(
        (&updated["type"], &updated["session"]["instructions"]),
        (&json!("session.updated"), &json!("be brief"))
    );
    say(&mut socket, json!({ "type": "no.such.event", "event_id": "mine" })).await;
    let error = hear(&mut socket).await;
    assert_eq!((&error["type"], &error["error"]["event_id"]), (&json!("error"), &json!("mine")));
    assert_eq!(converse(&mut socket).await.last().unwrap()["type"], "response.done");
}

#[tokio::test]
async fn responses_come_as_they_come_over_http() {
    let world = World::new().await;
    let asked = json!({ "model": "gpt-4o-mini", "input": "tell me about the sea" });
    let mut streamed = asked.clone();
    streamed["stream"] = json!(true);
    let stream = within(world.client.post(world.url("/v1/responses")).json(&streamed).send()).await.unwrap();
    let stream = within(stream.text()).await.unwrap();
    let over_http: Vec<Value> = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    for path in ["/v1/responses", "/openai/v1/responses"] {
        let (mut socket, _) = open(&world.proxy, path, &[]).await.unwrap();
        let mut event = asked.clone();
        event["type"] = json!("response.create");
        say(&mut socket, event.clone()).await;
        let events = hear_until(&mut socket, "response.completed").await;
        assert_eq!(types(&events), types(&over_http));
        let delta = "response.output_text.delta";
        assert_eq!(text(&events, delta), text(&over_http, delta));
        // One after the other, on the same socket.
        event["previous_response_id"] = events.last().unwrap()["response"]["id"].clone();
        say(&mut socket, event.clone()).await;
        assert_eq!(types(&hear_until(&mut socket, "response.completed").await), types(&over_http));
        event["previous_response_id"] = json!("resp_nowhere");
        say(&mut socket, event).await;
        let error = hear(&mut socket).await;
        assert_eq!((&error["type"], &error["status"]), (&json!("error"), &json!(400)));
        assert_eq!(error["error"]["code"], "previous_response_not_found");
    }
}

#[tokio::test]
async fn the_token_is_ours_and_no_key_of_the_callers_passes() {
    let world = World::new().await;
    let fields = [
        ("authorization", "Bearer mine"),
        ("api-key", "mine"),
        ("x-api-key", "mine"),
        ("cookie", "key=mine"),
        ("sec-websocket-protocol", "realtime, openai-insecure-api-key.mine, openai-beta.realtime-v1"),
    ];
    for (path, route) in [
        ("/v1/realtime?model=gpt-realtime&api-key=mine", Route::Realtime),
        ("/openai/v1/realtime?api-key=mine&model=gpt-realtime", Route::Realtime),
        ("/openai/realtime?api-version=2025-04-01-preview&deployment=gpt-realtime&Api-Key=mine", Route::Realtime),
        ("/v1/responses?api-key=mine", Route::Responses),
    ] {
        let (_socket, answer) = open(&world.proxy, path, &fields).await.unwrap();
        assert_eq!(answer.headers()[SEC_WEBSOCKET_PROTOCOL], "realtime");
        let came = world.last(route);
        assert!(!came.path_and_query.contains("mine"), "{}", came.path_and_query);
        assert!(came.path_and_query.starts_with("/openai/"));
        assert_eq!(came.headers.get_all(AUTHORIZATION).iter().count(), 1);
        assert!(came.headers[AUTHORIZATION].to_str().unwrap().starts_with("Bearer eyJ"));
        assert_eq!(came.headers[SEC_WEBSOCKET_PROTOCOL], "realtime, openai-beta.realtime-v1");
        for (name, value) in &came.headers {
            assert!(!value.to_str().unwrap().contains("mine"), "{name}");
        }
    }
}

#[tokio::test]
async fn a_call_is_opened_with_the_callers_short_lived_key() {
    let world = World::new().await;
    let session = json!({ "session": { "type": "realtime", "model": "gpt-realtime" } });
    let made = within(world.client.post(world.url("/v1/realtime/client_secrets")).json(&session).send()).await.unwrap();
    let made: Value = within(made.json()).await.unwrap();
    let key = made["value"].as_str().unwrap();
    assert!(key.starts_with("ek_"), "{made}");
    assert!(world.last(Route::Realtime).headers[AUTHORIZATION].to_str().unwrap().starts_with("Bearer eyJ"));
    for (bearer, passes) in [(key, true), ("unused", false)] {
        let request = world.client.post(world.url("/v1/realtime/calls")).bearer_auth(bearer);
        let request = request.header("content-type", "application/sdp").body("v=0\r\n");
        let answer = within(request.send()).await.unwrap();
        assert_eq!(answer.status(), 201);
        assert!(answer.headers()["location"].to_str().unwrap().contains("/realtime/calls/rtc_"));
        assert!(within(answer.text()).await.unwrap().starts_with("v=0"));
        let came = world.last(Route::Realtime);
        assert_eq!(came.headers[AUTHORIZATION] == format!("Bearer {bearer}"), passes);
    }
}

#[tokio::test]
async fn each_response_of_a_session_is_taken_from_the_apps_tokens() {
    let app = ["access.require_key=true", "apps.talker.key=talkers-key", "apps.talker.tokens_per_minute=1000000"];
    let world = World::with(&app, |_| ()).await;
    let tokens = async || {
        let status: Value = within(world.get("/status").await.json()).await.unwrap();
        status["apps"][0]["tokens"].as_u64().unwrap()
    };
    let compressed = ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits");
    let (mut socket, _) = open(&world.proxy, V1[0], &[("api-key", "talkers-key"), compressed]).await.unwrap();
    let sent = world.last(Route::Realtime).headers;
    assert!(!sent.contains_key("sec-websocket-extensions"), "compressed, nobody could count");
    hear(&mut socket).await;
    let mut cost = 0;
    for _ in 0..2 {
        let events = converse(&mut socket).await;
        cost += events.last().unwrap()["response"]["usage"]["total_tokens"].as_u64().unwrap();
        // While the session goes on.
        assert_eq!(tokens().await, cost);
    }
    assert!(cost > 0);
}
