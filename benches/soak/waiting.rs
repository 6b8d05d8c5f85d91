//! What a stream costs that waits for its next event.

use aoai_auth_proxy::emulator::{Action, Fault, Route};
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use serde_json::json;

use crate::caller::Caller;
use crate::process::Process;
use crate::traffic::Stage;

/// Streams at once: what the defaults let in, nearly.
const STREAMS: u32 = 1_000;
/// A stream that waits costs no more than this.
const MOST_FOR_ONE: u64 = 64 << 10;

/// Memory for each of many streams, every one on a connection of its own.
pub(crate) async fn measure(stage: &Stage, process: Process) {
    let control = stage.azure.control();
    let before = process.memory();
    control.fault(Fault::new(Route::Responses, Action::Hold { after_events: 1 }).times(STREAMS));
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let mut caller = Caller::connect(stage.address, false).await;
        let content = json!({ "model": "gpt-4o-mini", "input": stage.word(), "stream": true }).to_string();
        let request = Request::post("/v1/responses").header("content-type", "application/json");
        let response = caller.send(request.body(Body::from(content)).expect("a request")).await.expect("an answer");
        assert_eq!(response.status(), 200);
        let mut content = response.into_body();
        content.frame().await.expect("an event").expect("a whole one");
        streams.push((caller, content));
    }
    control.until(|state| state.streams_held == u64::from(STREAMS)).await;
    let each = process.memory().saturating_sub(before) / u64::from(STREAMS);
    println!("{STREAMS} streams that wait: {} KiB each, {} files open", each >> 10, process.open_files());
    if each > MOST_FOR_ONE {
        stage.tally.violation(&format!("{each} bytes for a stream that waits"));
    }
    stage.tally.note("others meanwhile", stage.chat(&crate::traffic::client(false)).await);
    control.release();
    for (caller, content) in streams {
        let ended = content.collect().await.map_err(|error| error.to_string());
        let whole = ended.and_then(|content| {
            let text = content.to_bytes();
            let last = text.windows(b"response.completed".len()).any(|words| words == b"response.completed");
            if last { Ok("answered") } else { Err("not all of it".to_owned()) }
        });
        stage.tally.note("a stream that waited", whole);
        drop(caller);
    }
    stage.nothing_open().await;
}
