//! Streams: each event as it comes, and an end that is told from a break.

use aoai_auth_proxy::emulator::{Action, Route};

use crate::support::{World, within};

async fn rest(response: &mut reqwest::Response) -> Result<String, reqwest::Error> {
    let mut text = String::new();
    while let Some(chunk) = within(response.chunk()).await? {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    Ok(text)
}

#[tokio::test]
async fn an_event_reaches_the_caller_while_the_resource_still_writes() {
    for http2 in [false, true] {
        let world = World::over(http2, &[], |_| ()).await;
        world.fault(Route::Chat, Action::Hold { after_events: 2 }, Some(1));
        let mut response = world.chat_stream().await;
        assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
        let first = within(response.chunk()).await.unwrap().expect("an event");
        assert!(first.starts_with(b"data: {"));
        let state = within(world.azure.control().until(|state| state.streams_held == 1)).await;
        assert_eq!((state.streams_open, state.streams_finished), (1, 0), "the resource has not finished");

        world.azure.control().release();
        let text = rest(&mut response).await.unwrap();
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
        within(world.azure.control().until(|state| state.streams_finished == 1)).await;
    }
}

#[tokio::test]
async fn when_the_caller_goes_away_the_upstream_request_is_cancelled() {
    for http2 in [false, true] {
        let world = World::over(http2, &[], |_| ()).await;
        world.fault(Route::Chat, Action::Hold { after_events: 2 }, Some(1));
        let mut response = world.chat_stream().await;
        within(response.chunk()).await.unwrap().expect("an event");
        drop(response);
        within(world.azure.control().until(|state| state.streams_aborted == 1)).await;
    }
}

#[tokio::test]
async fn also_when_it_goes_away_before_the_response() {
    for http2 in [false, true] {
        let world = World::over(http2, &[], |_| ()).await;
        world.fault(Route::Chat, Action::Hang, Some(1));
        let waiting = tokio::spawn({
            let request = world.client.post(world.url("/v1/chat/completions")).json(&crate::support::chat(false));
            async move { request.send().await }
        });
        within(world.azure.control().until(|state| state.count(Route::Chat) == 1)).await;
        waiting.abort();
        within(world.azure.control().until(|state| state.requests_aborted == 1)).await;
    }
}

#[tokio::test]
async fn a_response_that_breaks_off_is_broken_off_to_the_caller() {
    for http2 in [false, true] {
        for stream in [false, true] {
            let world = World::over(http2, &[], |_| ()).await;
            world.fault(Route::Chat, Action::Cut { after_bytes: 64 }, Some(1));
            let mut response = if stream { world.chat_stream().await } else { world.chat().await };
            assert_eq!(response.status(), 200);
            assert!(rest(&mut response).await.is_err(), "http2: {http2}, stream: {stream}");
            // The next request is none the worse for it.
            assert_eq!(world.chat().await.status(), 200);
        }
    }
}

#[tokio::test]
async fn silence_inside_a_response_has_a_deadline() {
    let world = World::with(&["upstream.idle_timeout=100ms"], |_| ()).await;
    world.fault(Route::Chat, Action::Hold { after_events: 2 }, Some(1));
    let mut response = world.chat_stream().await;
    assert!(rest(&mut response).await.is_err(), "the response is broken off, not ended");
    within(world.azure.control().until(|state| state.streams_aborted == 1)).await;
}

#[tokio::test]
async fn callers_who_do_not_read_hold_nobody_else_up() {
    let world = World::new().await;
    let id = world.upload(&vec![b'x'; 16 << 20]).await;
    let path = format!("/v1/files/{id}/content");
    let mut unread = Vec::new();
    for _ in 0..8 {
        unread.push(world.get(&path).await);
    }
    within(world.azure.control().until(|state| state.streams_open == 8)).await;
    for _ in 0..3 {
        let answer: serde_json::Value = within(world.chat().await.json()).await.unwrap();
        assert!(answer["choices"].is_array());
    }
    assert_eq!(world.upstream_connections(), 1, "all over one connection");
}
