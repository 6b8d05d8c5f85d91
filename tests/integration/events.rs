//! `/status/events`: whoever watches sees what happens, costs little, and holds nothing up.

use std::collections::BTreeMap;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use reqwest::Response;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::caller::Caller;
use crate::program::{Running, emulator, serve};
use crate::schema::check;
use crate::support::{World, code, within};

const PATH: &str = "/status/events";

/// A viewer, as the page is one: it knows the last status, and the slots by name.
#[derive(Debug)]
pub(crate) struct Watch {
    response: Response,
    text: String,
    status: Value,
    slots: BTreeMap<u64, Value>,
}

impl Watch {
    /// Connects, and has the status and the history.
    pub(crate) async fn begin(world: &World) -> Self {
        let response = world.get(PATH).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        let mut watch = Self { response, text: String::new(), status: Value::Null, slots: BTreeMap::new() };
        assert_eq!(watch.next().await.unwrap(), ("retry: 2000".to_owned(), Value::Null));
        assert_eq!(watch.next().await.unwrap().0, "status");
        assert_eq!(watch.next().await.unwrap().0, "history");
        watch
    }

    /// The next event, checked and taken in; nothing at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        let end = loop {
            if let Some(end) = self.text.find("\n\n") {
                break end;
            }
            let chunk = within(self.response.chunk()).await.expect("no break")?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        };
        let event: String = self.text.drain(..end + 2).collect();
        let Some((name, data)) = event.trim_end().split_once('\n') else {
            return Some((event.trim_end().to_owned(), Value::Null));
        };
        let name = name.strip_prefix("event: ").unwrap();
        let content: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        check(name, &content);
        match name {
            "status" => self.status = content.clone(),
            "history" => {
                assert_eq!(content["step_seconds"], 5);
                let slots = content["slots"].as_array().unwrap();
                self.slots = slots.iter().map(|slot| (slot["at"].as_u64().unwrap(), slot.clone())).collect();
                assert_eq!(self.slots.len(), 180);
            }
            "slot" => drop(self.slots.insert(content["at"].as_u64().unwrap(), content.clone())),
            other => panic!("an event {other}"),
        }
        Some((name.to_owned(), content))
    }

    /// Watches until something is so.
    async fn until(&mut self, mut is_so: impl FnMut(&Self) -> bool) {
        while !is_so(self) {
            self.next().await.expect("no end");
        }
    }

    /// Watches until it ends; the last status.
    pub(crate) async fn last_status(&mut self) -> Value {
        while self.next().await.is_some() {}
        self.status.take()
    }

    fn sum(&self, of: impl Fn(&Value) -> u64) -> u64 {
        self.slots.values().map(of).sum()
    }
}

#[tokio::test]
async fn whoever_watches_sees_what_happens() {
    let world = World::new().await;
    let (mut one, mut other) = (Watch::begin(&world).await, Watch::begin(&world).await);
    assert_eq!(one.sum(|slot| slot["requests"].as_u64().unwrap()), 0);
    let answer: Value = world.chat().await.json().await.unwrap();
    let tokens = answer["usage"]["total_tokens"].as_u64().unwrap();
    world.get("/v1/nothing").await;
    for watch in [&mut one, &mut other] {
        watch.until(|watch| watch.status["requests"]["total"] == 2 && watch.status["ready"] == true).await;
        watch.until(|watch| watch.sum(|slot| slot["requests"].as_u64().unwrap()) == 2).await;
        assert_eq!(watch.sum(|slot| slot["errors"].as_u64().unwrap()), 1);
        let spent =
            |slot: &Value| slot["tokens"].as_array().unwrap().iter().map(|one| one["total"].as_u64().unwrap()).sum();
        assert_eq!(watch.sum(spent), tokens);
        let is_timed = |slot: &&Value| slot["requests"] != 0 && slot["first_byte_ms"]["p50"].as_f64().unwrap() > 0.0;
        assert!(watch.slots.values().any(|slot| is_timed(&slot)), "{watch:?}");
        // Watching is no request that is under way.
        assert_eq!(watch.status["requests"]["in_flight"], 0);
    }
    assert_eq!(Watch::begin(&world).await.sum(|slot| slot["requests"].as_u64().unwrap()), 2, "who comes later, too");
}

#[tokio::test]
async fn there_is_something_to_hear_when_nothing_happens() {
    let world = World::new().await;
    let mut watch = Watch::begin(&world).await;
    // More than once, or it might be the last that was begun with.
    for _ in 0..2 {
        watch.next().await.unwrap();
    }
    assert_eq!(watch.slots.last_key_value().unwrap().1["requests"], 0);
}

#[tokio::test]
async fn no_web_page_may_watch_that_may_not_call() {
    let world = World::new().await;
    for (field, value) in
        [("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("origin", "https://evil.example")]
    {
        let response = within(world.client.get(world.url(PATH)).header(field, value).send()).await.unwrap();
        assert_eq!((response.status().as_u16(), &*code(response).await), (403, "origin_denied"), "{value}");
    }
    let own = within(world.client.get(world.url(PATH)).header("sec-fetch-site", "same-origin").send()).await.unwrap();
    assert_eq!(own.status(), 200);
    let post = within(world.client.post(world.url(PATH)).send()).await.unwrap();
    assert_eq!(post.status(), 405);
    let head = within(world.client.head(world.url(PATH)).send()).await.unwrap();
    assert_eq!((head.status(), within(head.bytes()).await.unwrap().len()), (reqwest::StatusCode::OK, 0));
}

#[tokio::test]
async fn there_is_room_for_some_and_again_when_they_have_left() {
    for http2 in [false, true] {
        let world = World::new().await;
        let mut viewers = Vec::new();
        for _ in 0..32 {
            let mut caller = Caller::connect(world.proxy.address, http2).await;
            let response = within(caller.send(Request::get(PATH).body(Body::empty()).unwrap())).await.unwrap();
            assert_eq!(response.status(), 200);
            viewers.push((caller, response));
        }
        let refused = world.get(PATH).await;
        assert_eq!((refused.status().as_u16(), &*code(refused).await), (503, "overloaded"));
        let (caller, _) = viewers.pop().unwrap();
        caller.vanish().await;
        within(async { while world.get(PATH).await.status() != 200 {} }).await;
    }
}

#[tokio::test]
async fn a_signal_ends_it_at_once() {
    let azure = emulator().await;
    let running = Running::start(&mut serve(&azure)).await;
    let mut viewers = Vec::new();
    for http2 in [false, true] {
        let mut caller = Caller::connect(running.address(), http2).await;
        let response = within(caller.send(Request::get(PATH).body(Body::empty()).unwrap())).await.unwrap();
        viewers.push((caller, response.into_body()));
    }
    running.process().signal(Signal::TERM);
    for (_caller, content) in viewers {
        let text = within(content.collect()).await.expect("no break").to_bytes();
        let text = std::str::from_utf8(&text).unwrap();
        assert!(text.starts_with("retry: 2000\n\nevent: status\ndata: {"), "{text}");
        let (_, last) = text.trim_end().rsplit_once("data: ").unwrap();
        let last: Value = serde_json::from_str(last).unwrap();
        assert!(last["reasons"].as_array().unwrap().iter().any(|reason| reason["code"] == json!("shutting_down")));
    }
    let (code, log) = running.end().await;
    assert_eq!(code, 0, "{log}");
    assert!(!log.contains("cut off") && !log.contains("panicked"), "{log}");
}
