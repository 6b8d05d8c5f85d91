//! Faults that are asked for happen, on HTTP/1.1 and HTTP/2 alike, and are counted.

use http::{StatusCode, Version};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::client::{Connection, chat, emulator, get, post};
use crate::emulator::{Action, Fault, Route};

#[tokio::test]
async fn a_status_fault_looks_like_azure() {
    let emulator = emulator().await;
    emulator.control().fault(Fault::new(Route::Chat, Action::status(429)).times(1));
    let [mut client, _] = Connection::both(&emulator).await;
    let throttled = client.fetch(chat(&emulator, false)).await;
    assert_eq!(throttled.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(throttled.headers["retry-after-ms"], "1000");
    assert!(throttled.headers.contains_key("apim-request-id"));
    assert_eq!(throttled.json()["error"]["code"], "429");
    assert_eq!(client.fetch(chat(&emulator, false)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_hanging_request_is_noticed_when_it_is_given_up() {
    let emulator = emulator().await;
    emulator.control().fault(Fault::new(Route::OpenAi, Action::Hang));
    for mut client in Connection::both(&emulator).await {
        let before = emulator.control().state().requests_aborted;
        let request = chat(&emulator, false);
        let waiting = tokio::spawn(async move { client.send(request).await.map(|_| ()) });
        emulator.control().until(|state| state.requests_open == 1).await;
        waiting.abort();
        emulator.control().until(|state| state.requests_aborted == before + 1 && state.requests_open == 0).await;
    }
}

#[tokio::test]
async fn a_closed_connection_brings_no_answer() {
    let emulator = emulator().await;
    emulator.control().fault(Fault::new(Route::Chat, Action::Close));
    for mut client in Connection::both(&emulator).await {
        assert!(client.send(chat(&emulator, false)).await.is_err());
    }
}

#[tokio::test]
async fn a_cut_body_begins_and_breaks() {
    let emulator = emulator().await;
    for stream in [false, true] {
        emulator.control().clear_faults();
        emulator.control().fault(Fault::new(Route::Chat, Action::Cut { after_bytes: 10 }));
        for mut client in Connection::both(&emulator).await {
            let mut body = client.send(chat(&emulator, stream)).await.unwrap().into_body();
            let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(first.len(), 10);
            assert!(body.frame().await.unwrap().is_err());
        }
    }
    let state = emulator.control().until(|state| state.streams_open == 0).await;
    assert_eq!((state.streams_finished, state.streams_aborted), (0, 2));
}

#[tokio::test]
async fn a_held_stream_goes_on_when_released() {
    let emulator = emulator().await;
    emulator.control().fault(Fault::new(Route::Chat, Action::Hold { after_events: 3 }));
    for mut client in Connection::both(&emulator).await {
        let before = emulator.control().state().streams_finished;
        let mut body = client.send(chat(&emulator, true)).await.unwrap().into_body();
        emulator.control().until(|state| state.streams_held == 1).await;
        let mut received = Vec::new();
        while events(&received) < 3 {
            received.extend(body.frame().await.unwrap().unwrap().into_data().unwrap());
        }
        assert_eq!(events(&received), 3);
        emulator.control().release();
        received.extend(body.collect().await.unwrap().to_bytes());
        assert!(received.ends_with(b"data: [DONE]\n\n"));
        emulator.control().until(|state| state.streams_finished == before + 1).await;
    }
}

#[tokio::test]
async fn a_stream_can_fail_in_the_middle() {
    let emulator = emulator().await;
    emulator.control().fault(Fault::new(Route::Chat, Action::ErrorEvent { after_events: 3 }));
    for mut client in Connection::both(&emulator).await {
        let failed = client.fetch(chat(&emulator, true)).await;
        let events: Vec<_> = str::from_utf8(&failed.body).unwrap().split_terminator("\n\n").collect();
        assert_eq!(events.len(), 4);
        let error: Value = serde_json::from_str(events[3].strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(error["error"]["type"], "server_error");
        let whole = client.fetch(chat(&emulator, false)).await;
        assert_eq!(whole.json()["choices"][0]["finish_reason"], "stop");
    }
}

#[tokio::test]
async fn a_stream_that_is_given_up_is_counted_as_aborted() {
    let emulator = emulator().await;
    emulator.control().fault(Fault::new(Route::Chat, Action::Hold { after_events: 2 }));
    for mut client in Connection::both(&emulator).await {
        let before = emulator.control().state().streams_aborted;
        let response = client.send(chat(&emulator, true)).await.unwrap();
        emulator.control().until(|state| state.streams_held == 1 && state.streams_open == 1).await;
        drop((response, client));
        let state = emulator.control().until(|state| state.streams_aborted == before + 1).await;
        assert_eq!((state.streams_open, state.streams_held), (0, 0));
    }
}

#[tokio::test]
async fn requests_are_recorded_as_they_came() {
    let emulator = emulator().await;
    for mut client in Connection::both(&emulator).await {
        client.fetch(chat(&emulator, false)).await;
        client.fetch(chat(&emulator, false)).await;
    }
    let requests = emulator.control().requests();
    let versions: Vec<_> = requests.iter().map(|request| request.version).collect();
    assert_eq!(versions, [Version::HTTP_11, Version::HTTP_11, Version::HTTP_2, Version::HTTP_2]);
    assert_eq!(requests[0].connection, requests[1].connection);
    assert_ne!(requests[1].connection, requests[2].connection);
    assert!(requests[0].headers["authorization"].to_str().unwrap().starts_with("Bearer "));
    assert!(!format!("{requests:?}").contains("Bearer "));
    assert_eq!(emulator.control().count(Route::OpenAi), 4);
    assert_eq!(emulator.control().count(Route::Chat), 4);
    emulator.control().clear_requests();
    assert_eq!(emulator.control().count(Route::Chat), 0);
}

#[tokio::test]
async fn the_control_interface_speaks_http() {
    let emulator = emulator().await;
    let control = emulator.control_address();
    let mut client = Connection::open(&emulator, control, "").await;
    let faults = format!("{control}/faults");
    let fault = json!({ "route": "chat", "action": { "kind": "status", "status": 503 }, "count": 1 });
    assert_eq!(client.fetch(post(&faults, &[], fault.to_string())).await.status, StatusCode::NO_CONTENT);
    let unknown = json!({ "route": "nowhere", "action": { "kind": "hang" } });
    let complaint = client.fetch(post(&faults, &[], unknown.to_string())).await;
    assert_eq!(complaint.status, StatusCode::BAD_REQUEST);
    assert!(complaint.json()["error"].as_str().unwrap().contains("nowhere"));

    let [mut openai, _] = Connection::both(&emulator).await;
    assert_eq!(openai.fetch(chat(&emulator, false)).await.status, StatusCode::SERVICE_UNAVAILABLE);
    let requests = client.fetch(get(&format!("{control}/requests"), &[])).await.json();
    assert_eq!(requests[0]["route"], "chat");
    assert!(!requests.to_string().contains("Bearer"));
    let state = client.fetch(get(&format!("{control}/state"), &[])).await.json();
    assert_eq!(state["requests"]["chat"], 1);
    assert_eq!(client.fetch(get(&format!("{control}/healthz"), &[])).await.json()["status"], Value::from("ok"));
}

fn events(received: &[u8]) -> usize {
    String::from_utf8_lossy(received).matches("data: ").count()
}
