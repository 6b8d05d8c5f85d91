//! What the proxy costs: content passes without being collected however slow the other side is, and a stream that waits
//! costs little.

use std::time::Duration;

use aoai_auth_proxy::emulator::{Action, Fault, Route};
use axum::body::Body;
use futures_util::future::join_all;
use http::Request;
use http_body_util::BodyExt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::bulk::{Bulk, Check, Content};
use crate::caller::Caller;
use crate::process::MIB;
use crate::program::{Running, emulator, serve, stream};
use crate::support::within;

/// What the whole program may ever hold.
const MOST_MEMORY: u64 = 64 * MIB;
/// What a stream that waits may hold.
const MOST_FOR_A_STREAM: u64 = 40 << 10;
/// Far more than the whole may hold. Unoptimised, a gibibyte takes minutes.
const ANSWER: u64 = if cfg!(debug_assertions) { 256 * MIB } else { 1024 * MIB };
const UPLOAD: u64 = if cfg!(debug_assertions) { 256 * MIB } else { 512 * MIB };
/// How long nothing must move before it is taken to stand still.
const STILL: Duration = Duration::from_millis(300);

/// Waits until content stands still; how much has passed by then.
async fn stands_still(mut moved: watch::Receiver<u64>) -> u64 {
    within(moved.wait_for(|moved| *moved > 0)).await.unwrap();
    while timeout(STILL, moved.changed()).await.is_ok() {}
    *moved.borrow()
}

async fn proxy(settings: Vec<String>) -> (aoai_auth_proxy::emulator::Emulator, Running) {
    let azure = emulator().await;
    let mut command = serve(&azure);
    for setting in settings {
        command.args(["--set", &setting]);
    }
    let running = Running::start(&mut command).await;
    (azure, running)
}

async fn ends_well(running: Running) {
    let most = running.process().most_memory();
    assert!(most < MOST_MEMORY, "it held {} MiB", most / MIB);
    let (code, log) = running.stop().await;
    assert_eq!(code, 0, "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

async fn a_long_answer(caller_http2: bool, upstream_http2: bool) {
    let bulk = Bulk::start(upstream_http2, ANSWER).await;
    let (_azure, running) = proxy(bulk.settings()).await;
    let mut caller = Caller::connect(running.address(), caller_http2).await;
    let response = within(caller.send(Request::get("/v1/long").body(Body::empty()).unwrap())).await.unwrap();
    assert_eq!(response.status(), 200);
    let given = stands_still(bulk.moved()).await;
    assert!(given < MOST_MEMORY, "the resource was let give {} MiB to nobody", given / MIB);
    let (mut content, mut check) = (response.into_body(), Check::default());
    while let Some(frame) = within(content.frame()).await {
        check.next(frame.unwrap().data_ref().unwrap());
    }
    assert_eq!(check.bytes, ANSWER);
    drop(caller);
    ends_well(running).await;
}

#[tokio::test]
async fn a_long_answer_over_http1_waits_for_its_reader() {
    a_long_answer(false, false).await;
}

#[tokio::test]
async fn a_long_answer_over_http2_waits_for_its_reader() {
    a_long_answer(false, true).await;
}

#[tokio::test]
async fn a_long_answer_waits_for_a_reader_over_http2() {
    a_long_answer(true, true).await;
}

async fn a_long_upload(caller_http2: bool, upstream_http2: bool) {
    let bulk = Bulk::start(upstream_http2, 0).await;
    let (_azure, running) = proxy(bulk.settings()).await;
    let mut caller = Caller::connect(running.address(), caller_http2).await;
    let (content, taken) = Content::counted(UPLOAD);
    let asking = tokio::spawn(async move {
        let response = caller.send(Request::post("/v1/files").body(Body::new(content)).unwrap()).await.unwrap();
        response.into_body().collect().await.unwrap().to_bytes()
    });
    let taken = stands_still(taken).await;
    assert!(taken < MOST_MEMORY, "the caller was let send {} MiB to nobody", taken / MIB);
    bulk.read();
    assert_eq!(within(asking).await.unwrap(), UPLOAD.to_string());
    ends_well(running).await;
}

#[tokio::test]
async fn a_long_upload_over_http1_waits_for_its_reader() {
    a_long_upload(false, false).await;
}

#[tokio::test]
async fn a_long_upload_over_http2_waits_for_its_reader() {
    a_long_upload(false, true).await;
}

#[tokio::test]
async fn a_long_upload_from_an_http2_caller_waits_for_its_reader() {
    a_long_upload(true, true).await;
}

#[tokio::test]
async fn thousands_of_streams_wait_and_others_are_answered() {
    // Each is a socket here and another one in the proxy. Unoptimised, five thousand take most of a minute.
    let streams = if cfg!(debug_assertions) { 1_000 } else { 5_000 }.min(open_files_allowed() / 2);
    println!("{streams} streams");
    let settings = ["limits.max_connections=6000", "limits.max_in_flight=6000"].map(str::to_owned).to_vec();
    let (azure, running) = proxy(settings).await;
    let fault = Fault::new(Route::Chat, Action::Hold { after_events: 1 });
    azure.control().fault(fault.times(u32::try_from(streams).unwrap()));
    assert_eq!(running.get("/v1/models").await.status(), 200);
    let before = running.process().memory();
    let (mut open, mut callers) = (Vec::new(), Vec::new());
    for _ in 0..streams {
        let (caller, content) = stream(&running, false).await;
        open.push(content);
        callers.push(caller);
    }
    let state = within(azure.control().until(|state| state.streams_held == streams)).await;
    assert_eq!(state.streams_open, streams);
    for _ in 0..20 {
        assert_eq!(running.get("/v1/models").await.status(), 200);
    }
    let each = running.process().memory().saturating_sub(before) / streams;
    println!("{} KiB a stream", each >> 10);
    assert!(each < MOST_FOR_A_STREAM, "{} KiB a stream", each >> 10);
    azure.control().release();
    let ends = join_all(open.into_iter().map(|content| async {
        let text = within(content.collect()).await.unwrap().to_bytes();
        assert!(text.ends_with(b"data: [DONE]\n\n"));
    }));
    ends.await;
    drop(callers);
    let (code, log) = running.stop().await;
    assert_eq!(code, 0, "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

/// How many files this process may open, raised as far as the system lets it.
fn open_files_allowed() -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    maximum.unwrap_or(u64::MAX)
}
