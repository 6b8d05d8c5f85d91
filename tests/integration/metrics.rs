//! `/metrics`: each number after what is known to have happened, and no more numbers than there is room for.

#![expect(clippy::float_cmp, reason = "counts are whole numbers")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::{Duration, UNIX_EPOCH};

use aoai_auth_proxy::clock::Clock;
use aoai_auth_proxy::emulator::{Action, Fault, Route};
use axum::body::Body;
use futures_util::{StreamExt, stream};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::caller::Caller;
use crate::support::{World, chat, code, within};
use crate::websocket::{hear_until, open, say};

/// What is promised about metrics.
const PAGE: &str = include_str!("../../docs/metrics.md");

const CHAT: &str = "/v1/chat/completions";
const DATA: &str = "https://cognitiveservices.azure.com/.default";
const MANAGEMENT: &str = "https://management.azure.com/.default";

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Values by name and labels, as they are written.
type Samples = BTreeMap<String, f64>;

async fn text(world: &World) -> String {
    let answer = world.get("/metrics").await;
    assert_eq!(answer.status(), 200);
    within(answer.text()).await.unwrap()
}

fn samples(text: &str) -> Samples {
    let lines = text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap());
    let samples: Vec<_> = lines.map(|(series, value)| (series.to_owned(), value.parse().unwrap())).collect();
    let found = samples.len();
    let samples = Samples::from_iter(samples);
    assert_eq!(samples.len(), found, "no series is there twice");
    samples
}

/// Asks until all of these are so: what is counted at the end of a request is counted a moment after its caller saw that.
async fn until(world: &World, expected: &[(String, f64)]) -> Samples {
    let mut last = Samples::new();
    let come = timeout(PATIENCE, async {
        loop {
            last = samples(&text(world).await);
            if expected.iter().all(|(series, value)| last.get(series) == Some(value)) {
                return;
            }
        }
    });
    let has_come = come.await.is_ok();
    assert!(has_come, "{expected:#?} {last:#?}");
    last
}

fn requests(route: &str, method: &str, status: &str, app: &str) -> String {
    format!(r#"aoai_proxy_requests_total{{app="{app}",method="{method}",route="{route}",status="{status}"}}"#)
}

fn tokens(app: &str, model: &str, kind: &str) -> String {
    format!(r#"aoai_proxy_model_tokens_total{{app="{app}",kind="{kind}",model="{model}"}}"#)
}

fn unknown(app: &str, model: &str) -> String {
    format!(r#"aoai_proxy_responses_of_unknown_usage_total{{app="{app}",model="{model}"}}"#)
}

fn errors(code: &str) -> String {
    format!(r#"aoai_proxy_upstream_errors_total{{code="{code}"}}"#)
}

fn refreshes(scope: &str, result: &str) -> String {
    format!(r#"aoai_proxy_credential_refreshes_total{{scope="{scope}",result="{result}"}}"#)
}

fn expiry(scope: &str) -> String {
    format!(r#"aoai_proxy_credential_expiry_timestamp_seconds{{scope="{scope}"}}"#)
}

fn duration(what: &str, route: &str) -> String {
    format!(r#"aoai_proxy_request_duration_seconds_{what}{{route="{route}"}}"#)
}

fn first_byte(what: &str, route: &str) -> String {
    format!(r#"aoai_proxy_time_to_first_byte_seconds_{what}{{route="{route}"}}"#)
}

/// Posts this as an app; the answer to its end.
async fn post(world: &World, path: &str, key: &str, content: &Value) -> String {
    let request = world.client.post(world.url(path)).header("api-key", key).json(content);
    let answer = within(request.send()).await.unwrap();
    assert_eq!(answer.status(), 200);
    within(answer.text()).await.unwrap()
}

#[tokio::test]
async fn the_answer_is_prometheus_text() {
    let world = World::new().await;
    let answer = world.get("/metrics").await;
    assert_eq!(answer.headers()[CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(answer.headers()[CACHE_CONTROL], "no-store");
    let text = within(answer.text()).await.unwrap();
    assert!(text.ends_with('\n') && text.starts_with("# HELP "), "{text}");
    let url = world.url("/metrics");
    let head = within(world.client.head(&url).send()).await.unwrap();
    assert_eq!(head.status(), 200);
    assert_eq!(head.headers()[CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
    assert!(within(head.bytes()).await.unwrap().is_empty());
    let posted = within(world.client.post(&url).send()).await.unwrap();
    assert_eq!((posted.status().as_u16(), &posted.headers()[ALLOW]), (405, &"GET, HEAD".parse().unwrap()));
    let page = within(world.client.get(&url).header(ORIGIN, "https://evil.example").send()).await.unwrap();
    assert_eq!(code(page).await, "origin_denied");
}

#[tokio::test]
async fn what_is_known_beforehand_is_there_from_the_start() {
    let world = World::with(&["apps.alice.key=alices-key"], |azure| {
        azure.control().fault(Fault::new(Route::Imds, Action::Hang));
    })
    .await;
    let samples = samples(&text(&world).await);
    for code in ["broke_off", "upstream_protocol", "upstream_timeout", "upstream_tls", "upstream_unreachable"] {
        assert_eq!(samples.get(&errors(code)), Some(&0.0), "{code}");
    }
    for scope in [DATA, MANAGEMENT] {
        for result in ["success", "failure"] {
            assert_eq!(samples.get(&refreshes(scope, result)), Some(&0.0), "{scope} {result}");
        }
        assert!(!samples.contains_key(&expiry(scope)), "there is no token");
    }
    assert_eq!(samples["aoai_proxy_denied_peers_total"], 0.0);
    let build = format!(r#"aoai_proxy_build_info{{version="{}"}}"#, env!("CARGO_PKG_VERSION"));
    assert_eq!(samples[&build], 1.0);
    let began = world.clock.now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((samples["process_start_time_seconds"] - began).abs() < 1.0);
    #[cfg(target_os = "linux")]
    {
        assert!(samples["process_resident_memory_bytes"] > 1e6 && samples["process_cpu_seconds_total"] > 0.0);
        let (open, most) = (samples["process_open_fds"], samples["process_max_fds"]);
        assert!(3.0 < open && open < most, "{open} {most}");
    }
}

#[tokio::test]
async fn requests_are_counted_by_what_they_were() {
    let world = World::with(&["apps.alice.key=alices-key"], |_| ()).await;
    post(&world, CHAT, "alices-key", &chat(false)).await;
    post(&world, "/openai/v1/chat/completions", "alices-key", &chat(true)).await;
    post(&world, CHAT, "unused", &chat(false)).await;
    let url = |path: &str| world.url(path);
    for (method, path) in [
        (Method::GET, "/v1/models"),
        (Method::HEAD, "/healthz"),
        (Method::from_bytes(b"PROPFIND").unwrap(), "/status"),
        (Method::GET, "/nowhere"),
    ] {
        within(world.client.request(method, url(path)).send()).await.unwrap();
    }
    let wrong = within(world.client.get(url("/v1/models")).header(HOST, "evil.example").send()).await.unwrap();
    assert_eq!(wrong.status(), 421);
    let mut garbage = TcpStream::connect(world.proxy.address).await.unwrap();
    garbage.write_all(b"garbage\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    within(garbage.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");

    let counted = [
        (CHAT, "POST", "200", "alice", 2.0),
        (CHAT, "POST", "200", "-", 1.0),
        ("/v1/models/*", "GET", "200", "-", 1.0),
        ("/v1/models/*", "GET", "421", "-", 1.0),
        ("/healthz", "HEAD", "200", "-", 1.0),
        ("/status", "other", "405", "-", 1.0),
        ("*", "GET", "404", "-", 1.0),
        ("*", "-", "400", "-", 1.0),
    ];
    let mut expected: Vec<_> = counted
        .iter()
        .map(|(route, method, status, app, count)| (requests(route, method, status, app), *count))
        .collect();
    expected.push((errors("broke_off"), 0.0));
    let samples = until(&world, &expected).await;
    let is_other =
        |series: &&String| series.starts_with("aoai_proxy_requests_total") && !series.contains(r#"route="/metrics""#);
    let all: BTreeSet<_> = samples.keys().filter(is_other).collect();
    assert_eq!(all.len(), counted.len(), "{all:?}");

    // What the proxy itself refuses, nobody has waited for.
    for (route, count, waited) in
        [(CHAT, 3.0, 3.0), ("/v1/models/*", 2.0, 1.0), ("/healthz", 1.0, 1.0), ("/status", 1.0, 0.0), ("*", 1.0, 0.0)]
    {
        let first = |what: &str| samples.get(&first_byte(what, route)).copied().unwrap_or_default();
        assert_eq!((samples[&duration("count", route)], first("count")), (count, waited), "{route}");
        let (whole, first) = (samples[&duration("sum", route)], first("sum"));
        assert!((first > 0.0) == (waited > 0.0) && first <= whole && whole < 60.0, "{route}: {first} {whole}");
        let all = format!(r#"aoai_proxy_request_duration_seconds_bucket{{route="{route}",le="600"}}"#);
        assert_eq!(samples[&all], count);
    }
}

#[tokio::test]
async fn who_has_no_key_is_counted_as_nobody() {
    let world = World::with(&["access.require_key=true", "apps.alice.key=alices-key"], |_| ()).await;
    let answer = within(world.client.post(world.url(CHAT)).json(&chat(false)).send()).await.unwrap();
    assert_eq!(code(answer).await, "invalid_key");
    let samples = until(&world, &[(requests(CHAT, "POST", "401", "-"), 1.0)]).await;
    assert_eq!(samples.keys().filter(|series| series.starts_with("aoai_proxy_upstream_errors_total")).count(), 5);
}

#[tokio::test]
async fn failures_of_the_way_to_azure_are_counted_by_code() {
    let world = World::over(false, &["upstream.response_timeout=100ms"], |_| ()).await;
    world.fault(Route::Chat, Action::Hang, Some(1));
    assert_eq!(code(world.chat().await).await, "upstream_timeout");
    world.fault(Route::Chat, Action::Close, None);
    assert_eq!(code(world.chat().await).await, "upstream_protocol");
    world.azure.control().clear_faults();
    for stream in [false, true] {
        world.fault(Route::Chat, Action::Cut { after_bytes: 64 }, Some(1));
        let answer = if stream { world.chat_stream().await } else { world.chat().await };
        assert_eq!(answer.status(), 200);
        assert!(within(answer.bytes()).await.is_err());
    }
    let expected = [
        (errors("upstream_timeout"), 1.0),
        (errors("upstream_protocol"), 1.0),
        (errors("upstream_tls"), 0.0),
        (errors("upstream_unreachable"), 0.0),
        (errors("broke_off"), 2.0),
        (requests(CHAT, "POST", "504", "-"), 1.0),
        (requests(CHAT, "POST", "502", "-"), 1.0),
        (requests(CHAT, "POST", "200", "-"), 2.0),
    ];
    until(&world, &expected).await;

    let world = World::with(&["upstream.endpoint=http://127.0.0.1:9"], |_| ()).await;
    assert_eq!(code(world.chat().await).await, "upstream_unreachable");
    until(&world, &[(errors("upstream_unreachable"), 1.0), (errors("broke_off"), 0.0)]).await;
}

/// What the resource answers from now on, whatever it is asked.
fn answers(world: &World, content: &Value) {
    let headers = BTreeMap::from([("content-type".to_owned(), "application/json".to_owned())]);
    world.fault(Route::Chat, Action::Status { status: 200, body: Some(content.to_string()), headers }, None);
}

#[tokio::test]
async fn tokens_are_counted_as_azure_says() {
    let world = World::with(&["apps.alice.key=alices-key"], |_| ()).await;
    let mut asked = chat(true);
    asked["stream_options"] = json!({ "include_usage": true });
    let told = post(&world, CHAT, "alices-key", &asked).await;
    let last = told.lines().rev().filter_map(|line| line.strip_prefix("data: ")).nth(1).unwrap();
    let usage = &serde_json::from_str::<Value>(last).unwrap()["usage"];
    let of_stream = ["prompt_tokens", "completion_tokens"].map(|name| usage[name].as_f64().unwrap());
    assert!(of_stream.iter().all(|tokens| *tokens > 0.0), "{usage}");
    // A stream that was not asked to say it, and does not.
    post(&world, CHAT, "alices-key", &chat(true)).await;
    answers(
        &world,
        &json!({ "model": "o3-2025-04-16", "usage": {
            "prompt_tokens": 100, "prompt_tokens_details": { "cached_tokens": 64 },
            "completion_tokens": 20, "completion_tokens_details": { "reasoning_tokens": 8 },
        }}),
    );
    for _ in 0..2 {
        post(&world, CHAT, "unused", &json!({ "model": "my \"o3\"", "messages": [] })).await;
        post(&world, CHAT, "unused", &json!({ "model": "a\\b", "messages": [] })).await;
    }
    let samples = until(
        &world,
        &[
            (tokens("alice", "gpt-4o-mini", "input"), of_stream[0]),
            (tokens("alice", "gpt-4o-mini", "output"), of_stream[1]),
            (unknown("alice", "gpt-4o-mini"), 1.0),
            // What is no name gives way to that of the answer.
            (tokens("-", "o3-2025-04-16", "input"), 200.0),
            (tokens("-", "o3-2025-04-16", "cached"), 128.0),
            (tokens("-", "o3-2025-04-16", "output"), 40.0),
            (tokens("-", "o3-2025-04-16", "reasoning"), 16.0),
            // And what could be taken for the end of a label is not.
            (tokens("-", r"a\\b", "output"), 40.0),
        ],
    )
    .await;
    assert!(!samples.keys().any(|series| series.contains(r#"unknown_usage_total{app="-""#)), "{samples:?}");
}

#[tokio::test]
async fn a_conversation_is_counted_and_takes_no_time() {
    let world = World::with(&["apps.alice.key=alices-key"], |_| ()).await;
    let (mut socket, _) =
        open(&world.proxy, "/v1/realtime?model=gpt-realtime", &[("api-key", "alices-key")]).await.unwrap();
    let mut told = [0.0, 0.0];
    for _ in 0..2 {
        say(&mut socket, json!({ "type": "response.create" })).await;
        let events = hear_until(&mut socket, "response.done").await;
        let usage = &events.last().unwrap()["response"]["usage"];
        for (told, name) in told.iter_mut().zip(["input_tokens", "output_tokens"]) {
            *told += usage[name].as_f64().unwrap();
        }
    }
    assert!(told[1] > 0.0);
    // It goes on, and what it has cost so far is known.
    let [input, output] = ["input", "output"].map(|kind| tokens("alice", "gpt-realtime", kind));
    let switched = requests("/v1/realtime", "GET", "101", "alice");
    let in_flight = ("aoai_proxy_in_flight_requests".to_owned(), 1.0);
    let samples = until(&world, &[(input, told[0]), (output, told[1]), in_flight]).await;
    assert!(!samples.contains_key(&switched));
    within(socket.close(None)).await.unwrap();
    while within(socket.next()).await.is_some() {}
    drop(socket);
    let samples = until(&world, &[(switched, 1.0), ("aoai_proxy_in_flight_requests".to_owned(), 0.0)]).await;
    assert!(!samples.contains_key(&duration("count", "/v1/realtime")), "a conversation is no request that takes long");
    assert!(!samples.contains_key(&first_byte("count", "/v1/realtime")));
}

/// Asks for a chat, and leaves once `asked` is so.
async fn leave(world: &World, content: &Value, asked: impl Future<Output = ()>) {
    let mut caller = Caller::connect(world.proxy.address, false).await;
    let request = Request::post(CHAT).header("content-type", "application/json").body(Body::from(content.to_string()));
    {
        let mut asking = std::pin::pin!(caller.send(request.unwrap()));
        tokio::select! {
            answer = &mut asking => panic!("{answer:?}"),
            () = within(asked) => {}
        }
    }
    caller.vanish().await;
}

/// Leaves once the resource has been asked, and before it has answered.
async fn leave_unanswered(world: &World, content: &Value) {
    let chats = world.azure.control().count(Route::Chat);
    world.fault(Route::Chat, Action::Hang, Some(1));
    leave(world, content, async {
        world.azure.control().until(|state| state.count(Route::Chat) == chats + 1).await;
    })
    .await;
}

#[tokio::test]
async fn what_nobody_waited_for_may_have_cost_something() {
    let world = World::new().await;
    leave_unanswered(&world, &chat(false)).await;
    until(&world, &[(unknown("-", "-"), 1.0)]).await;
    post(&world, CHAT, "unused", &chat(false)).await;
    leave_unanswered(&world, &chat(false)).await;
    leave_unanswered(&world, &json!({ "model": "made-up", "messages": [] })).await;
    let expected = [(unknown("-", "-"), 2.0), (unknown("-", "gpt-4o-mini"), 1.0)];
    let samples = until(&world, &expected).await;
    assert!(!samples.keys().any(|series| series.contains("made-up")), "{samples:?}");
}

#[tokio::test]
async fn what_was_never_sent_costs_nothing() {
    let world = World::with(&[], |azure| {
        azure.control().fault(Fault::new(Route::Imds, Action::Hang));
    })
    .await;
    let in_flight = "aoai_proxy_in_flight_requests".to_owned();
    leave(&world, &chat(false), async {
        until(&world, &[(in_flight, 1.0)]).await;
    })
    .await;
    let samples = until(&world, &[(requests(CHAT, "POST", "-", "-"), 1.0)]).await;
    assert!(!samples.keys().any(|series| series.contains("unknown_usage_total{")), "{samples:?}");
}

#[tokio::test]
async fn who_leaves_before_the_answer_has_no_status() {
    let world = World::new().await;
    leave_unanswered(&world, &chat(false)).await;
    let samples = until(&world, &[(requests(CHAT, "POST", "-", "-"), 1.0), (duration("count", CHAT), 1.0)]).await;
    assert!(!samples.contains_key(&first_byte("count", CHAT)), "nothing came");
    assert_eq!(samples[&errors("broke_off")], 0.0);
}

#[tokio::test]
async fn what_goes_on_is_told() {
    let world = World::new().await;
    let now = |requests: f64, connections: f64| {
        [
            ("aoai_proxy_in_flight_requests".to_owned(), requests),
            ("aoai_proxy_open_connections".to_owned(), connections),
        ]
    };
    until(&world, &now(0.0, 1.0)).await;
    world.fault(Route::Chat, Action::Hold { after_events: 1 }, Some(1));
    let mut caller = Caller::connect(world.proxy.address, true).await;
    let request =
        Request::post(CHAT).header("content-type", "application/json").body(Body::from(chat(true).to_string()));
    let mut content = within(caller.send(request.unwrap())).await.unwrap().into_body();
    within(content.frame()).await.unwrap().unwrap();
    until(&world, &now(1.0, 2.0)).await;
    world.azure.control().release();
    within(content.collect()).await.unwrap();
    until(&world, &now(0.0, 2.0)).await;
    drop(caller);
    until(&world, &now(0.0, 1.0)).await;
}

#[tokio::test]
async fn tokens_of_ours_are_told_by_scope() {
    let world = World::with(&[], |azure| azure.control().fault(Fault::new(Route::Imds, Action::status(500)))).await;
    assert_eq!(world.get("/v1/models").await.status(), 503);
    let (success, failure) = (refreshes(DATA, "success"), refreshes(DATA, "failure"));
    let samples = samples(&text(&world).await);
    assert!(
        samples[&failure] >= 1.0 && samples[&success] == 0.0 && !samples.contains_key(&expiry(DATA)),
        "{samples:?}"
    );
    world.azure.control().clear_faults();
    world.clock.advance(Duration::from_secs(120));
    within(async { while world.get("/v1/models").await.status() != 200 {} }).await;
    let samples = until(&world, &[(success, 1.0), (refreshes(MANAGEMENT, "success"), 0.0)]).await;
    let end = samples[&expiry(DATA)];
    let left = end - world.clock.now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((60.0..200_000.0).contains(&left), "{left}");
    assert!(!samples.contains_key(&expiry(MANAGEMENT)), "nobody asked for it");

    // An end that has come is still told: otherwise nobody would be woken by it.
    world.fault(Route::Imds, Action::status(500), None);
    world.clock.advance(Duration::from_secs_f64(left + 60.0));
    assert_eq!(world.get("/v1/models").await.status(), 503);
    until(&world, &[(expiry(DATA), end)]).await;
}

#[tokio::test]
async fn planes_with_one_scope_have_one_series() {
    let scope = format!("upstream.scope={MANAGEMENT}");
    let world = World::with(&[&scope], |_| ()).await;
    within(async { while world.get("/readyz").await.status() != 200 {} }).await;
    assert_eq!(world.get("/management/models").await.status(), 200);
    let samples = until(&world, &[(refreshes(MANAGEMENT, "success"), 2.0)]).await;
    assert!(samples.contains_key(&expiry(MANAGEMENT)) && !samples.contains_key(&expiry(DATA)), "{samples:?}");
}

/// Requests of which each is like no other in everything that callers and the resource can choose.
async fn flood(world: &World, numbers: Range<u32>, statuses: Range<u16>) {
    let all = numbers.end;
    world.azure.control().clear_faults();
    let known = (200..600).filter(|status| StatusCode::from_u16(*status).unwrap().canonical_reason().is_some());
    // One that makes the proxy look for another token is not passed on as it comes.
    let statuses: Vec<_> = known.filter(|status| *status != 401).chain(statuses).collect();
    for status in &statuses {
        world.azure.control().fault(Fault::new(Route::Models, Action::status(*status)).times(1));
    }
    answers(world, &json!({ "model": "any", "usage": { "prompt_tokens": 1, "completion_tokens": 1 } }));
    let ask = |method: Method, path: String, number: u32| {
        let content = json!({ "model": format!("model-{number}"), "messages": [] });
        let request = world.client.request(method, world.url(&path)).header("api-key", format!("key-{number}"));
        async move {
            within(within(request.json(&content).send()).await.unwrap().bytes()).await.unwrap();
        }
    };
    let of_models = stream::iter(&statuses).map(|_| ask(Method::GET, "/v1/models".to_owned(), 0));
    of_models.buffer_unordered(8).for_each(|()| async {}).await;
    let others = stream::iter(numbers).flat_map(|number| {
        let method = Method::from_bytes(format!("M{number}").as_bytes()).unwrap();
        let deployment = format!("/openai/deployments/d-{number}/chat/completions?api-version=2024-10-21");
        stream::iter([
            ask(method, format!("/nowhere/{number}"), number),
            ask(Method::POST, CHAT.to_owned(), number),
            ask(Method::POST, deployment, number),
        ])
    });
    others.buffer_unordered(8).for_each(|()| async {}).await;
    let in_flight = ("aoai_proxy_in_flight_requests".to_owned(), 0.0);
    until(world, &[in_flight, (requests("*", "other", "404", "-"), f64::from(all))]).await;
}

#[tokio::test]
async fn a_flood_of_words_makes_no_flood_of_series() {
    let world = World::new().await;
    flood(&world, 0..220, 600..650).await;
    let first = text(&world).await;
    flood(&world, 220..800, 650..1000).await;
    let second = text(&world).await;
    let [before, after] = [&first, &second].map(|text| samples(text).into_keys().collect::<BTreeSet<_>>());
    assert_eq!(before, after);
    assert!(after.len() < 1300, "{}", after.len());
    // Further digits, and nothing else.
    assert!(second.len() < first.len() + 2 * after.len(), "{} {}", first.len(), second.len());
    let counted = samples(&second);
    assert_eq!(counted[&requests("*", "other", "404", "-")], 800.0);
    assert_eq!(counted[&requests("/v1/models/*", "GET", "other", "-")], 400.0);
    assert_eq!(counted[&tokens("-", "model-0", "input")], 1.0);
    let of_others = counted[&tokens("-", "others", "input")];
    assert_eq!(of_others + 199.0, 1600.0, "each of the first names has one of them");
}

/// Kinds and labels of metrics, by name.
type Described = BTreeMap<String, (String, BTreeSet<String>)>;

fn described(text: &str) -> Described {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let mut described: Described =
        types.map(|(name, kind)| (name.to_owned(), (kind.to_owned(), BTreeSet::new()))).collect();
    for series in samples(text).into_keys() {
        let Some((name, labels)) = series.split_once('{') else { continue };
        let of_histogram = ["_bucket", "_count", "_sum"].into_iter().find_map(|end| name.strip_suffix(end));
        let name = of_histogram.filter(|name| described.contains_key(*name)).unwrap_or(name);
        let labels =
            labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0)).filter(|name| *name != "le");
        described.get_mut(name).unwrap().1.extend(labels.map(str::to_owned));
    }
    described
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_page_says_what_there_is() {
    let directory = tempfile::tempdir().unwrap();
    let database = format!("usage.database={}", directory.path().join("usage.db").display());
    let world = World::with(&["usage.enabled=true", &database], |_| ()).await;
    post(&world, CHAT, "unused", &chat(false)).await;
    post(&world, CHAT, "unused", &chat(true)).await;
    let exposed = [(tokens("-", "gpt-4o-mini", "input"), 5.0), (unknown("-", "gpt-4o-mini"), 1.0)];
    until(&world, &exposed[1..]).await;
    let there_is = described(&text(&world).await);

    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let cells = rows.map(|(name, rest)| (name.to_owned(), rest.split(" | ").collect::<Vec<_>>()));
    let promised: Described = cells
        .map(|(name, cells)| {
            let labels = cells[1].split(", ").filter_map(|label| label.strip_prefix('`')?.strip_suffix('`'));
            (name, (cells[0].to_owned(), labels.map(str::to_owned).collect()))
        })
        .collect();
    assert_eq!(promised, there_is);

    let words = PAGE.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'));
    for word in words.filter(|word| word.starts_with("aoai_proxy_") || word.starts_with("process_")) {
        let of_histogram = ["_bucket", "_count", "_sum"].into_iter().find_map(|end| word.strip_suffix(end));
        let is_there = |name: &str| there_is.contains_key(name);
        assert!(is_there(word) || of_histogram.is_some_and(is_there), "{word}");
    }
}
