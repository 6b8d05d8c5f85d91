//! Apps that share one identity: each is known, and has what it was given.

use aoai_auth_proxy::emulator::{Action, Route};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{World, chat, code, within};
use crate::wire::{Front, Resource};

const ALICE: &str = "apps.alice.key=alices-key";
const BOB: &str = "apps.bob.key=sha256:d4dec180a993cd5fa065cac46b9bbfd1528c39080afa14d683a5bc657c453892";

fn keyed(settings: &[&'static str]) -> Vec<&'static str> {
    [&["access.require_key=true", ALICE], settings].concat()
}

/// A chat with this content and these fields.
async fn post(
    world: &World,
    path: &str,
    content: impl Into<reqwest::Body>,
    fields: &[(&str, &str)],
) -> reqwest::Response {
    let request = world.client.post(world.url(path)).header("content-type", "application/json").body(content);
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    within(request.send()).await.unwrap()
}

const KEY: (&str, &str) = ("authorization", "Bearer alices-key");

async fn chat_as(world: &World, fields: &[(&str, &str)]) -> reqwest::Response {
    post(world, "/v1/chat/completions", chat(false).to_string(), fields).await
}

/// What `/status` says of each app: name, requests, refused.
async fn used(world: &World) -> Vec<(String, u64, u64)> {
    let status: Value = world.get("/status").await.json().await.unwrap();
    let apps = status["apps"].as_array().unwrap();
    apps.iter()
        .map(|app| {
            (
                app["name"].as_str().unwrap().to_owned(),
                app["requests"].as_u64().unwrap(),
                app["refused"].as_u64().unwrap(),
            )
        })
        .collect()
}

#[tokio::test]
async fn where_a_key_is_needed_nothing_else_will_do() {
    let world = World::with(&keyed(&["apps.third.key=third"]), |_| ()).await;
    for fields in [
        [].as_slice(),
        &[("authorization", "Bearer ")],
        &[("authorization", "Bearer wrong")],
        &[("authorization", "Bearer alices-ke")],
        &[("authorization", "Bearer alices-keyy")],
        &[("authorization", "Bearer ALICES-KEY")],
        &[("authorization", "Bearer alice")],
        &[("authorization", "Basic alices-key")],
        &[("authorization", "alices-key")],
        &[("x-api-key", "alices-key")],
        &[("cookie", "api-key=alices-key")],
    ] {
        let response = chat_as(&world, fields).await;
        assert_eq!(response.status(), 401, "{fields:?}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        assert_eq!(code(response).await, "invalid_key");
    }
    // A key in an URL is seen by everybody who sees the URL.
    let response = post(&world, "/v1/chat/completions?api-key=alices-key", chat(false).to_string(), &[]).await;
    assert_eq!(code(response).await, "invalid_key");
    let response = world.get("/management/models").await;
    assert_eq!(code(response).await, "invalid_key");
    assert_eq!(world.azure.control().count(Route::OpenAi) + world.azure.control().count(Route::Management), 0);
    for fields in [
        [KEY].as_slice(),
        &[("authorization", "bearer alices-key")],
        &[("authorization", "BEARER  alices-key")],
        &[("api-key", "alices-key")],
        &[("authorization", "Bearer unused"), ("api-key", "alices-key")],
    ] {
        assert_eq!(chat_as(&world, fields).await.status(), 200, "{fields:?}");
        let sent = world.last(Route::Chat);
        assert!(!format!("{sent:?}").contains("alices-key"), "the key stays here");
    }
    // What lends nothing needs no key: probes have none.
    for path in ["/healthz", "/readyz", "/status", "/"] {
        assert_eq!(world.get(path).await.status(), 200, "{path}");
    }
    assert_eq!(used(&world).await, [("alice".into(), 5, 0), ("third".into(), 0, 0), ("-".into(), 0, 0)]);
}

#[tokio::test]
async fn a_name_is_a_label_where_there_is_no_key() {
    let world = World::with(&[ALICE, "apps.notebook.models=gpt-4o-mini"], |_| ()).await;
    for key in ["notebook", "alices-key", "alice", "unused"] {
        assert_eq!(chat_as(&world, &[("authorization", &format!("Bearer {key}"))]).await.status(), 200, "{key}");
    }
    assert_eq!(chat_as(&world, &[]).await.status(), 200);
    // Whoever has a key is known by that alone.
    assert_eq!(used(&world).await, [("alice".into(), 1, 0), ("notebook".into(), 1, 0), ("-".into(), 3, 0)]);
}

#[tokio::test]
async fn a_digest_stands_for_the_key_and_is_none() {
    let world = World::with(&["access.require_key=true", BOB], |_| ()).await;
    assert_eq!(chat_as(&world, &[("api-key", "bobs-key")]).await.status(), 200);
    let digest = BOB.split_once('=').unwrap().1;
    for shown in [digest, digest.trim_start_matches("sha256:")] {
        assert_eq!(chat_as(&world, &[("api-key", shown)]).await.status(), 401);
    }
}

#[tokio::test]
async fn only_listed_models_are_asked_for() {
    let world = World::with(&keyed(&["apps.alice.models=gpt-4o-mini,text-embedding-3-small"]), |_| ()).await;
    let long = "x".repeat(300_000);
    let allowed = [
        r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}]}"#.to_owned(),
        r#"{"messages":[{"role":"user","content":"\"model\":\"o3\""}],"model":"GPT-4o-mini"}"#.to_owned(),
        format!(r#"{{"messages":[{{"role":"user","content":"{long}"}}],"model":"gpt-4o-mini"}}"#),
    ];
    for content in allowed {
        let length = content.len();
        assert_eq!(post(&world, "/v1/chat/completions", content, &[KEY]).await.status(), 200, "{length}");
    }
    let before = world.azure.control().count(Route::OpenAi);
    let denied = [
        r#"{"model":"o3","messages":[]}"#,
        r#"{"messages":[],"model":"o3"}"#,
        r#"{"model":"gpt-4o-mini","messages":[],"model":"o3"}"#,
        r#"{"model":"gpt-4o-mini","m\u006fdel":"o3"}"#,
        r#"{"model":"gpt-4o-mini","Model":"o3"}"#,
        r#"{"model":"gpt-4o-mini"}{"model":"o3"}"#,
        r#"{"messages":[]}"#,
        r#"{"nested":{"model":"gpt-4o-mini"}}"#,
        r#"{"model":["gpt-4o-mini"]}"#,
        r#"{"model":null}"#,
        r#"["gpt-4o-mini"]"#,
        r#"{"model":"gpt-4o-mini" // "
        "model":"o3"}"#,
        "model=gpt-4o-mini",
        "{",
    ];
    for content in denied {
        let response = post(&world, "/v1/chat/completions", content, &[KEY]).await;
        assert_eq!(response.status(), 403, "{content}");
        let told: Value = within(response.json()).await.unwrap();
        assert_eq!(told["error"]["code"], "model_denied", "{content}");
        let message = told["error"]["message"].as_str().unwrap();
        assert!(message.contains("alice") && message.contains("gpt-4o-mini, text-embedding-3-small"), "{message}");
    }
    let path = "/openai/deployments/o3/chat/completions?api-version=2024-10-21";
    assert_eq!(code(post(&world, path, chat(false).to_string(), &[KEY]).await).await, "model_denied");
    assert_eq!(
        code(post(&world, "/v1/files", "--x\r\n", &[KEY, ("content-encoding", "gzip")]).await).await,
        "model_denied"
    );
    assert_eq!(world.azure.control().count(Route::OpenAi), before, "the resource has heard of none");

    let path = "/openai/deployments/gpt-4o-mini/chat/completions?api-version=2024-10-21";
    assert_eq!(
        post(&world, path, json!({"messages": [{"role": "user", "content": "hi"}]}).to_string(), &[KEY]).await.status(),
        200
    );
    // What asks for no model needs none.
    let list = world.client.get(world.url("/v1/models")).header(KEY.0, KEY.1);
    assert_eq!(within(list.send()).await.unwrap().status(), 200);
    assert_eq!(used(&world).await[0].2, denied.len() as u64 + 2, "each was counted");
}

/// A second model behind content that is already on its way: the resource must not get the whole of it.
#[tokio::test]
async fn a_model_that_comes_late_is_seen_all_the_same() {
    let resource = Resource::new(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
    let front = Front::of(&resource.origin, &keyed(&["apps.alice.models=gpt-4o-mini"])).await;
    let long = "x".repeat(2_000_000);
    let one_late = format!(r#"{{"messages":"{long}","model":"gpt-4o-mini"}}"#);
    for (content, is_allowed) in [
        (one_late, true),
        (format!(r#"{{"model":"gpt-4o-mini","messages":"{long}","model":"o3"}}"#), false),
        (format!(r#"{{"messages":"{long}","model":"o3"}}"#), false),
        (format!(r#"{{"messages":"{long}"}}"#), false),
        (format!(r#"{{"model":"gpt-4o-mini","messages":"{long}""#), false),
    ] {
        for chunked in [false, true] {
            let mut caller = front.call().await;
            let framing = if chunked {
                "transfer-encoding: chunked".to_owned()
            } else {
                format!("content-length: {}", content.len())
            };
            let head =
                format!("POST /v1/responses HTTP/1.1\r\nhost: localhost\r\n{}: {}\r\n{framing}\r\n\r\n", KEY.0, KEY.1);
            caller.say(head.as_bytes()).await;
            if chunked {
                for piece in content.as_bytes().chunks(65_536) {
                    caller.say(&[format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()).await;
                }
                caller.say(b"0\r\n\r\n").await;
            } else {
                caller.say(content.as_bytes()).await;
            }
            let answer = within(caller.hear(false)).await.unwrap();
            let (whole, _) = resource.take();
            if is_allowed {
                assert_eq!((answer.status(), whole.unwrap()[0].content.len()), (200, content.len()));
            } else {
                assert_eq!((answer.status(), &*answer.code()), (403, "model_denied"));
                assert!(whole.unwrap().is_empty(), "{}", &content[content.len() - 40..]);
            }
        }
    }
}

#[tokio::test]
async fn so_many_requests_a_minute() {
    let world = World::with(&keyed(&["apps.alice.requests_per_minute=2", "apps.other.key=other"]), |_| ()).await;
    for _ in 0..2 {
        assert_eq!(chat_as(&world, &[KEY]).await.status(), 200);
    }
    let response = chat_as(&world, &[KEY]).await;
    assert_eq!(response.status(), 429);
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((29..=30).contains(&wait), "{wait}");
    assert_eq!(code(response).await, "rate_limited");
    assert_eq!(chat_as(&world, &[("api-key", "other")]).await.status(), 200, "another app's is its own");
    assert_eq!(used(&world).await[..2], [("alice".into(), 3, 1), ("other".into(), 1, 0)]);
}

#[tokio::test]
async fn so_many_tokens_a_minute_as_the_resource_counts_them() {
    let settings =
        keyed(&["apps.alice.tokens_per_minute=20", "apps.other.key=other", "apps.other.tokens_per_minute=1000000"]);
    let world = World::with(&settings, |_| ()).await;
    let response = chat_as(&world, &[KEY]).await;
    let answer: Value = within(response.json()).await.unwrap();
    let total = answer["usage"]["total_tokens"].as_u64().unwrap();
    assert!(total > 0);
    let tokens = async |app: usize| {
        let status: Value = world.get("/status").await.json().await.unwrap();
        status["apps"][app]["tokens"].as_u64().unwrap()
    };
    assert_eq!(tokens(0).await, total);
    // A stream that says so itself, and one that does not: then each event counts.
    let other = ("api-key", "other");
    let mut streamed = chat(true);
    streamed["stream_options"] = json!({"include_usage": true});
    let text = within(post(&world, "/v1/chat/completions", streamed.to_string(), &[other]).await.text()).await.unwrap();
    let events = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter_map(|event| serde_json::from_str::<Value>(event).ok());
    let said = events.filter_map(|event| event["usage"]["total_tokens"].as_u64()).next_back().unwrap();
    assert_eq!(tokens(1).await, said);
    let content = chat(true).to_string();
    let sent = content.len() as u64 / 4;
    let text = within(post(&world, "/v1/chat/completions", content, &[other]).await.text()).await.unwrap();
    let events = text.lines().filter(|line| line.starts_with("data: {")).count() as u64;
    assert_eq!(tokens(1).await, said + sent + events);
    // Used up, more or less: no more until it has come back.
    let mut refused = None;
    for _ in 0..20 {
        let response = chat_as(&world, &[KEY]).await;
        if response.status() == 429 {
            refused = Some(response);
            break;
        }
        within(response.bytes()).await.unwrap();
    }
    let refused = refused.expect("20 tokens are not enough for 20 chats");
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(code(refused).await, "rate_limited");
}

#[tokio::test]
async fn one_apps_flood_leaves_room_for_another() {
    let settings = ["limits.max_in_flight=32", "access.require_key=true", ALICE, "apps.other.key=other"];
    let world = World::with(&settings, |_| ()).await;
    world.fault(Route::Chat, Action::Hold { after_events: 1 }, None);
    let stream = chat(true).to_string();
    let flood = join_all((0..40).map(|_| post(&world, "/v1/chat/completions", stream.clone(), &[KEY]))).await;
    let (held, refused): (Vec<_>, Vec<_>) = flood.into_iter().partition(|response| response.status() == 200);
    assert_eq!((held.len(), refused.len()), (30, 10), "all but what is kept free for the other");
    for response in refused {
        assert_eq!(response.headers()["retry-after"], "1");
        let told: Value = within(response.json()).await.unwrap();
        assert_eq!(told["error"]["code"], "overloaded");
        assert!(told["error"]["message"].as_str().unwrap().contains("kept for others"), "{told}");
    }
    let other = ("api-key", "other");
    let theirs = post(&world, "/v1/chat/completions", stream.clone(), &[other]).await;
    assert_eq!(theirs.status(), 200, "the other is let in at once");
}
