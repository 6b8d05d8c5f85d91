//! When a caller goes away, whatever was done for it at the resource ends at once.

use std::time::Duration;

use aoai_auth_proxy::emulator::{Action, Route, State};
use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::Request;
use http_body_util::BodyExt;
use tokio::time::timeout;

use crate::caller::Caller;
use crate::support::{World, chat, within};

/// "At once", for a machine that is busy with other tests: still less than any deadline that would end the request anyway.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Both sides over both versions: the caller's, the resource's.
const VERSIONS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

/// How a caller goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    /// It closes its connection.
    Connection,
    /// It gives up one request, and over HTTP/2 keeps its connection.
    Request,
}

const WAYS: [Leaving; 2] = [Leaving::Connection, Leaving::Request];

async fn at_once(world: &World, what: &str, predicate: impl FnMut(&State) -> bool) {
    let ended = timeout(AT_ONCE, world.azure.control().until(predicate)).await;
    assert!(ended.is_ok(), "{what}: {:?}", world.azure.control().state());
}

fn chat_request(stream: bool) -> Request<Body> {
    let request = Request::post("/v1/chat/completions").header("content-type", "application/json");
    request.body(Body::from(chat(stream).to_string())).unwrap()
}

/// An upload of which the beginning comes, and nothing more.
fn unfinished_upload(beginning: usize) -> Request<Body> {
    let beginning = stream::iter([b"--b\r\n".to_vec(), vec![b'-'; beginning]]);
    let content = beginning.map(|bytes| Ok::<_, std::io::Error>(Bytes::from(bytes))).chain(stream::pending());
    let request = Request::post("/v1/files").header("content-type", "multipart/form-data; boundary=b");
    request.body(Body::from_stream(content)).unwrap()
}

/// Sends `request` on a connection of its own, leaves as soon as the resource is where `there` wants it, and waits until
/// nothing is open any more at the resource.
async fn leaves_while_it_waits(
    (caller, upstream): (bool, bool),
    how: Leaving,
    fault: Option<Action>,
    request: Request<Body>,
    there: impl FnMut(&State) -> bool,
) -> World {
    let what = format!("caller over HTTP/2: {caller}, resource: {upstream}, {how:?}");
    let world = World::over(upstream, &[], |_| ()).await;
    if let Some(action) = fault {
        world.fault(Route::OpenAi, action, Some(1));
    }
    let mut connected = Caller::connect(world.proxy.address, caller).await;
    {
        let mut asking = std::pin::pin!(connected.send(request));
        tokio::select! {
            answer = &mut asking => panic!("{what}: {answer:?}"),
            _ = within(world.azure.control().until(there)) => {}
        }
    }
    if how == Leaving::Connection {
        connected.vanish().await;
        at_once(&world, &what, |state| state.requests_open == 0).await;
    } else {
        at_once(&world, &what, |state| state.requests_open == 0).await;
        drop(connected);
    }
    world
}

#[tokio::test]
async fn before_the_response_begins() {
    for versions in VERSIONS {
        for how in WAYS {
            let asked = |state: &State| state.count(Route::Chat) == 1;
            let world = leaves_while_it_waits(versions, how, Some(Action::Hang), chat_request(true), asked).await;
            assert_eq!(world.azure.control().state().requests_aborted, 1, "{versions:?} {how:?}");
            assert_eq!(world.chat().await.status(), 200);
        }
    }
}

#[tokio::test]
async fn while_the_response_comes() {
    for (caller, upstream) in VERSIONS {
        for how in WAYS {
            let what = format!("caller over HTTP/2: {caller}, resource: {upstream}, {how:?}");
            let world = World::over(upstream, &[], |_| ()).await;
            world.fault(Route::Chat, Action::Hold { after_events: 2 }, Some(1));
            let mut connected = Caller::connect(world.proxy.address, caller).await;
            let response = within(connected.send(chat_request(true))).await.unwrap();
            let mut content = response.into_body();
            assert!(within(content.frame()).await.unwrap().is_ok(), "the first event");
            within(world.azure.control().until(|state| state.streams_held == 1)).await;
            if how == Leaving::Connection {
                connected.vanish().await;
                at_once(&world, &what, |state| (state.streams_open, state.streams_aborted) == (0, 1)).await;
            } else {
                drop(content);
                at_once(&world, &what, |state| (state.streams_open, state.streams_aborted) == (0, 1)).await;
                drop(connected);
            }
            assert_eq!(world.chat().await.status(), 200);
        }
    }
}

#[tokio::test]
async fn while_a_long_answer_is_on_its_way_that_nobody_reads() {
    for (caller, upstream) in VERSIONS {
        let what = format!("caller over HTTP/2: {caller}, resource: {upstream}");
        let world = World::over(upstream, &[], |_| ()).await;
        let id = world.upload(&vec![b'x'; 32 << 20]).await;
        let mut connected = Caller::connect(world.proxy.address, caller).await;
        let request = Request::get(format!("/v1/files/{id}/content")).body(Body::empty()).unwrap();
        let response = within(connected.send(request)).await.unwrap();
        within(world.azure.control().until(|state| state.streams_open == 1)).await;
        connected.vanish().await;
        at_once(&world, &what, |state| (state.streams_open, state.streams_aborted) == (0, 1)).await;
        drop(response);
    }
}

#[tokio::test]
async fn while_content_is_sent() {
    for versions in VERSIONS {
        for how in WAYS {
            let some_came = |state: &State| state.bytes_received > 5;
            let world = leaves_while_it_waits(versions, how, None, unfinished_upload(10_000), some_came).await;
            let files: serde_json::Value = within(world.get("/v1/files").await.json()).await.unwrap();
            assert_eq!(files["data"], serde_json::json!([]), "{versions:?} {how:?}: taken for a whole one");
        }
    }
}
