//! Apps that want more than they were given.

use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::program::{Running, emulator, serve};
use crate::support::{client, within};
use crate::wire::{Caller, Framing, Front, Message, Resource};

const ALICE: &str = "apps.alice.key=alices-key";
const KEY: (&str, &str) = ("authorization", "Bearer alices-key");
const MODELS: &str = "apps.alice.models=gpt-4o-mini";
const GOOD: &str = r#"{"model":"gpt-4o-mini","input":"x"}"#;
const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn ok(content: &str) -> Vec<u8> {
    let kind = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    format!("{kind}content-length: {}\r\n\r\n{content}", content.len()).into_bytes()
}

/// A resource that says yes to everything, and a proxy before it that asks for keys.
async fn front(settings: &[&str]) -> (Resource, Front) {
    let resource = Resource::new(|_| ok("")).await;
    let front = before(&resource, settings).await;
    (resource, front)
}

async fn before(resource: &Resource, settings: &[&str]) -> Front {
    Front::of(&resource.origin, &[&["access.require_key=true", ALICE], settings].concat()).await
}

fn post(path: &str, fields: &str) -> String {
    let (name, value) = KEY;
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{name}: {value}\r\n{fields}\r\n"
    )
}

fn with_length(path: &str, content: &str) -> String {
    post(path, &format!("content-length: {}\r\n", content.len())) + content
}

/// The answer to this, on a connection of its own.
async fn answer(front: &Front, request: impl AsRef<[u8]>) -> Message {
    let mut caller = front.call().await;
    caller.say(request.as_ref()).await;
    within(caller.hear(false)).await.unwrap()
}

/// The tokens that alice has used, as `/status` has them.
async fn tokens(front: &Front) -> u64 {
    let asked = client().get(format!("http://{}/status", front.proxy.address)).send();
    let status: Value = within(within(asked).await.unwrap().json()).await.unwrap();
    status["apps"][0]["tokens"].as_u64().unwrap()
}

const COUNTED: &str = "apps.alice.tokens_per_minute=1000000000";

#[tokio::test]
async fn a_query_names_no_model_for_what_messages_name() {
    let (resource, front) = front(&[MODELS]).await;
    for path in ["/v1/responses?model=gpt-4o-mini", "/openai/v1/responses?deployment=gpt-4o-mini"] {
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{UPGRADE}{}: {}\r\n\r\n", KEY.0, KEY.1);
        let answer = answer(&front, head).await;
        assert_eq!((answer.status(), &*answer.code()), (403, "model_denied"), "{path}");
    }
    assert_eq!(resource.take().1, 0);
}

#[tokio::test]
async fn a_model_at_the_top_is_none_where_it_stands_below() {
    let (resource, front) = front(&[MODELS]).await;
    for (path, content) in [
        (
            "/v1/realtime/client_secrets",
            r#"{"model":"gpt-4o-mini","session":{"type":"realtime","model":"gpt-realtime"}}"#,
        ),
        ("/v1/batches", r#"{"model":"gpt-4o-mini","input_file_id":"file-1","endpoint":"/v1/chat/completions"}"#),
        ("/v1/evals/e/runs", r#"{"model":"gpt-4o-mini","data_source":{"type":"completions","model":"o3"}}"#),
        ("/v1/threads/t/runs", r#"{"model":"gpt-4o-mini","assistant_id":"a"}"#),
    ] {
        let answer = answer(&front, with_length(path, content)).await;
        assert_eq!((answer.status(), &*answer.code()), (403, "model_denied"), "{path}");
    }
    assert_eq!(resource.take().1, 0);
}

#[tokio::test]
async fn a_key_in_a_subprotocol_stays_here() {
    let (resource, front) = front(&[]).await;
    for (what, fields) in [
        ("no upgrade", &b"sec-websocket-protocol: realtime, openai-insecure-api-key.alices-key\r\n"[..]),
        (
            "beside what is no text",
            &[UPGRADE.as_bytes(), b"sec-websocket-protocol: OpenAI-insecure-api-key.alices-key, \xff\r\n"].concat(),
        ),
    ] {
        let head = [b"GET /v1/realtime?model=m HTTP/1.1\r\nhost: localhost\r\n", fields, b"\r\n"].concat();
        assert_eq!(answer(&front, head).await.status(), 200, "{what}: known by the key");
        let (requests, _) = resource.take();
        let sent = requests.unwrap().pop().unwrap().values("sec-websocket-protocol").concat();
        assert!(!sent.is_empty() && !sent.contains("key"), "{what}: {sent}");
    }
}

#[tokio::test]
async fn a_key_of_ours_that_looks_like_the_resources_stays_here() {
    let resource = Resource::new(|_| ok("")).await;
    let front = Front::of(&resource.origin, &["access.require_key=true", "apps.alice.key=ek_alices"]).await;
    let head = "POST /v1/realtime/calls HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ek_alices\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(answer(&front, head).await.status(), 200);
    let sent = resource.take().0.unwrap().pop().unwrap().values("authorization");
    assert!(sent.len() == 1 && !sent[0].contains("ek_"), "{sent:?}");
}

#[tokio::test]
async fn a_prompt_costs_the_same_however_it_is_framed() {
    let stream = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 12\r\n\r\ndata: {}\n\n\n\n";
    let resource = Resource::new(|_| stream.into()).await;
    let front = before(&resource, &[COUNTED]).await;
    let content = format!(r#"{{"model":"m","stream":true,"messages":"{}"}}"#, "x".repeat(40_000));
    let chunked = post("/v1/responses", "transfer-encoding: chunked\r\n")
        + &format!("{:x}\r\n{content}\r\n0\r\n\r\n", content.len());
    let mut told = Vec::new();
    for request in [with_length("/v1/responses", &content), chunked] {
        let before = tokens(&front).await;
        assert_eq!(answer(&front, request).await.status(), 200);
        told.push(tokens(&front).await - before);
    }
    let expected = content.len() as u64 / 4 + 1;
    assert_eq!(told, [expected, expected], "with a length, in chunks");
}

#[tokio::test]
async fn a_compressed_stream_is_not_free() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    for n in 0..1000 {
        write!(gzip, "data: {{\"n\":{n}}}\n\n").unwrap();
    }
    let content = gzip.finish().unwrap();
    let cost = content.len() as u64 / 4;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\n";
    let stream = [format!("{head}content-length: {}\r\n\r\n", content.len()).as_bytes(), &content].concat();
    let resource = Resource::new(move |_| stream.clone()).await;
    let front = before(&resource, &[COUNTED]).await;
    assert_eq!(answer(&front, with_length("/v1/responses", GOOD)).await.status(), 200);
    assert_eq!(tokens(&front).await, GOOD.len() as u64 / 4 + cost);
}

#[tokio::test]
async fn a_refusal_costs_nothing_and_what_is_left_costs_what_was_sent() {
    let resource = Resource::new(|request| {
        if request.text().contains("refuse") {
            b"HTTP/1.1 400 no\r\ncontent-length: 0\r\n\r\n".to_vec()
        } else {
            Vec::new()
        }
    })
    .await;
    let front = before(&resource, &[COUNTED]).await;
    assert_eq!(answer(&front, with_length("/v1/responses", r#"{"refuse":true}"#)).await.status(), 400);
    assert_eq!(tokens(&front).await, 0);
    let content = format!(r#"{{"model":"m","input":"{}"}}"#, "x".repeat(40_000));
    let mut caller = front.call().await;
    resource.take().0.unwrap();
    caller.say(with_length("/v1/responses", &content).as_bytes()).await;
    within(async {
        while !resource.take().0.unwrap().iter().any(|request| request.content.len() == content.len()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(caller);
    within(async {
        while tokens(&front).await == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(tokens(&front).await, content.len() as u64 / 4);
}

#[tokio::test]
async fn a_refused_models_name_is_cut_short() {
    let azure = emulator().await;
    let mut command = serve(&azure);
    for setting in ["access.require_key=true", ALICE, MODELS] {
        command.args(["--set", setting]);
    }
    let proxy = Running::start(&mut command).await;
    let url = format!("{}/v1/responses", proxy.url);
    let name = "x".repeat(30_000);
    let asked = client().get(format!("{url}?model={name}")).header(KEY.0, KEY.1);
    let told = within(within(asked.send()).await.unwrap().text()).await.unwrap();
    assert!(told.contains("model_denied") && told.contains("xxx…") && told.len() < 400, "{told}");
    let asked = client().post(&url).header(KEY.0, KEY.1).body(r#"{"model":"a\u202eb"}"#);
    assert_eq!(within(asked.send()).await.unwrap().status(), 403);
    let (_, log) = proxy.stop().await;
    let longest = log.lines().map(str::len).max().unwrap();
    assert!(longest < 600, "a line of {longest} bytes");
}

#[tokio::test]
async fn every_line_about_a_request_has_its_app() {
    let azure = emulator().await;
    let mut command = serve(&azure);
    command.args(["--set", ALICE]);
    let proxy = Running::start(&mut command).await;
    for key in ["alices-key", "unused"] {
        let asked = client().get(format!("{}/v1/models", proxy.url)).bearer_auth(key);
        assert_eq!(within(asked.send()).await.unwrap().status(), 200);
    }
    let mut caller = Caller::to(proxy.address()).await;
    caller.say(post("/v1/responses", "content-length: x\r\n").as_bytes()).await;
    assert_eq!(within(caller.hear(false)).await.unwrap().status(), 400);
    let (_, log) = proxy.stop().await;
    let lines: Vec<_> = log.lines().filter(|line| line.contains(" id=")).collect();
    let of = |app: &str| lines.iter().filter(|line| line.contains(&format!("app={app} "))).count();
    assert_eq!((of("alice"), of("-"), lines.len()), (1, 2, 3), "{log}");
    assert!(!log.contains("alices-key"), "{log}");
}

/// However a request ends whose content is looked at, it gives back the one place that there is.
#[tokio::test]
async fn looking_at_content_gives_the_place_back() {
    let (resource, front) = front(&[MODELS, "limits.max_in_flight=1", "upstream.idle_timeout=1s"]).await;
    let bad = GOOD.replace("gpt-4o-mini", "o3");
    for round in 0..3 {
        // Held back until it is wanted.
        for (content, status) in [(GOOD, 200), (&bad, 403)] {
            let mut caller = front.call().await;
            let held = format!("content-length: {}\r\nexpect: 100-continue\r\n", content.len());
            caller.say(post("/v1/responses", &held).as_bytes()).await;
            assert_eq!(within(caller.hear(false)).await.unwrap().status(), 100, "{round}");
            caller.say(content.as_bytes()).await;
            assert_eq!(within(caller.hear(false)).await.unwrap().status(), status, "{round}");
            let passed: Vec<_> = resource.take().0.unwrap().iter().map(Message::text).collect();
            assert_eq!(passed, if status == 200 { vec![GOOD] } else { vec![] });
        }
        // With trailers.
        let head = post("/v1/responses", "transfer-encoding: chunked\r\ntrailer: x-sum\r\n");
        let all = format!("{head}{:x}\r\n{GOOD}\r\n0\r\nx-sum: 1\r\n\r\n", GOOD.len());
        assert_eq!(answer(&front, all).await.status(), 200, "{round}");
        let request = resource.take().0.unwrap().pop().unwrap();
        assert_eq!((request.text().as_str(), request.trailers.len(), request.framing), (GOOD, 1, Framing::Chunked));
        // Byte by byte.
        let head = post("/v1/responses", "transfer-encoding: chunked\r\n");
        let bytes =
            GOOD.chars().fold(String::new(), |chunks, byte| chunks + "1\r\n" + byte.encode_utf8(&mut [0; 4]) + "\r\n");
        assert_eq!(answer(&front, format!("{head}{bytes}0\r\n\r\n")).await.status(), 200, "{round}");
        assert_eq!(resource.take().0.unwrap().last().unwrap().text(), GOOD);
        // Left, and then one that stalls: its place is free once the first is known to have gone.
        let unfinished = post("/v1/responses", "content-length: 100\r\n") + "{";
        let mut caller = front.call().await;
        caller.say(unfinished.as_bytes()).await;
        drop(caller);
        let stalled = loop {
            let answer = answer(&front, &unfinished).await;
            if answer.status() != 503 {
                break answer;
            }
        };
        assert_eq!((stalled.status(), &*stalled.code()), (408, "request_timeout"), "{round}");
        resource.take().0.unwrap();
    }
    let http2 = reqwest::Client::builder().tls_backend_preconfigured(aoai_auth_proxy::tls::client(&[]).unwrap());
    let http2 = http2.http2_prior_knowledge().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
    let url = format!("http://{}/v1/responses", front.proxy.address);
    let long = format!(r#"{{"input":"{}","model":"gpt-4o-mini"}}"#, "x".repeat(200_000));
    for content in [GOOD, &long] {
        let asked = http2.post(&url).header(KEY.0, KEY.1).body(content.to_owned());
        assert_eq!(within(asked.send()).await.unwrap().status(), 200);
        assert_eq!(resource.take().0.unwrap().last().unwrap().text(), *content);
        let asked = http2.post(&url).header(KEY.0, KEY.1).json(&json!({"input": content, "model": "o3"}));
        assert_eq!(within(asked.send()).await.unwrap().status(), 403);
        assert!(resource.take().0.unwrap().is_empty());
    }
}
