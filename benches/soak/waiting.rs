//! What a stream costs that waits for its next event.

use std::time::Duration;

use aoai_auth_proxy::emulator::{Action, Emulator, Fault, Route};
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use rustix::process::{Resource, getrlimit};
use serde_json::json;
use tokio::time::timeout;

use crate::caller::Caller;
use crate::program::Program;

/// Streams at once.
const STREAMS: u32 = 5_000;
/// In this process: the caller's end and the resource's, and room for more.
const FILES_FOR_ONE: u64 = 3;
/// A stream that waits costs no more than this.
const MOST_FOR_ONE: u64 = 64 << 10;
/// What the last event of a stream says.
const LAST: &[u8] = b"response.completed";

/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// Memory for each of many streams, every one on a connection of its own; what was not as it should be.
pub(crate) async fn measure(azure: &Emulator) -> Vec<String> {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let count = u32::try_from(files / FILES_FOR_ONE).unwrap_or(STREAMS).min(STREAMS);
    if count < STREAMS {
        println!("no more than {count} streams: the system allows only {files} open files");
    }
    let limits = [
        format!("limits.max_connections={}", 2 * STREAMS),
        format!("limits.max_in_flight={}", 2 * STREAMS),
        "upstream.idle_timeout=10m".to_owned(),
    ];
    let program = Program::start(azure, &limits).await;
    azure.control().clear_faults();
    let measured = timeout(PATIENCE, wait(azure, &program, count)).await;
    azure.control().release();
    let mut violations = match measured {
        Ok(each) if each <= MOST_FOR_ONE => Vec::new(),
        Ok(each) => vec![format!("{each} bytes for a stream that waits")],
        Err(_) => vec![format!("{count} streams are too many: {:?}", azure.control().state())],
    };
    violations.extend(program.stop().await.1);
    violations
}

/// Opens streams, waits until all are held, and lets them end; the memory that each takes.
async fn wait(azure: &Emulator, program: &Program, count: u32) -> u64 {
    let control = azure.control();
    let mut first = Caller::connect(program.address, false).await;
    read(&mut first).await.collect().await.expect("a whole stream");
    let before = program.process().memory();
    control.fault(Fault::new(Route::Responses, Action::Hold { after_events: 1 }).times(count));
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut caller = Caller::connect(program.address, false).await;
        let mut content = read(&mut caller).await;
        content.frame().await.expect("an event").expect("a whole one");
        streams.push((caller, content));
    }
    control.until(|state| state.streams_held == u64::from(count)).await;
    let each = program.process().memory().saturating_sub(before) / u64::from(count);
    let files = program.process().open_files().map_or("unknown".to_owned(), |files| files.to_string());
    println!("{count} streams that wait: {} KiB each; files open: {files}", each >> 10);
    // Others are answered meanwhile.
    read(&mut first).await.collect().await.expect("a whole stream");
    control.release();
    for (_caller, content) in streams {
        let text = content.collect().await.expect("no break").to_bytes();
        assert!(text.windows(LAST.len()).any(|words| words == LAST), "the end of the stream");
    }
    each
}

async fn read(caller: &mut Caller) -> Incoming {
    let content = json!({ "model": "gpt-4o-mini", "input": "wait", "stream": true }).to_string();
    let request = Request::post("/v1/responses").header("content-type", "application/json");
    let response = caller.send(request.body(Body::from(content)).expect("a request")).await.expect("an answer");
    assert_eq!(response.status(), 200);
    response.into_body()
}
