//! What the program holds while very long content passes between sides of which one is slow.

use std::time::{Duration, Instant};

use aoai_auth_proxy::emulator::Emulator;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::bulk::{Bulk, Check, Content};
use crate::caller::Caller;
use crate::process::MIB;
use crate::program::Program;

const ANSWER: u64 = 1024 * MIB;
const UPLOAD: u64 = 512 * MIB;
/// What the whole program may ever hold.
const MOST_MEMORY: u64 = 64 * MIB;
/// How long nothing must move before it is taken to stand still.
const STILL: Duration = Duration::from_millis(500);

/// An answer that is not read for a while, then an upload that is not; what was not as it should be.
pub(crate) async fn measure(azure: &Emulator, http2: bool) -> Vec<String> {
    let mut violations = Vec::new();
    for caller_http2 in [false, true] {
        let bulk = Bulk::start(http2, ANSWER).await;
        let program = Program::start(azure, &bulk.settings()).await;
        let began = Instant::now();
        let caller = Caller::connect(program.address, caller_http2).await;
        let waited = answer(&bulk, caller).await;
        report("an answer", ANSWER, waited, began, &program, &mut violations);
        violations.extend(program.stop().await.1);

        let program = Program::start(azure, &bulk.settings()).await;
        let began = Instant::now();
        let caller = Caller::connect(program.address, caller_http2).await;
        let waited = upload(&bulk, caller).await;
        report("an upload", UPLOAD, waited, began, &program, &mut violations);
        violations.extend(program.stop().await.1);
    }
    violations
}

fn report(what: &str, length: u64, waited: u64, began: Instant, program: &Program, violations: &mut Vec<String>) {
    let most = program.process().most_memory();
    let (length, waited, held, took) = (length / MIB, waited / MIB, most / MIB, began.elapsed());
    println!("{what} of {length} MiB, {waited} MiB of it before anybody read, in {took:.1?}: at most {held} MiB held");
    if most > MOST_MEMORY {
        violations.push(format!("{what} of {length} MiB made the program hold {held} MiB"));
    }
}

/// Reads an answer, but not at first; how much the resource had given by then.
async fn answer(bulk: &Bulk, mut caller: Caller) -> u64 {
    let request = Request::get("/v1/long").body(Body::empty()).expect("a request");
    let response = caller.send(request).await.expect("an answer");
    let waited = stands_still(bulk.moved()).await;
    let (mut content, mut check) = (response.into_body(), Check::default());
    while let Some(frame) = content.frame().await {
        check.next(frame.expect("all of it").data_ref().expect("no trailers"));
    }
    assert_eq!(check.bytes, ANSWER);
    waited
}

/// Uploads to a resource that does not read at first; how much the caller had sent by then.
async fn upload(bulk: &Bulk, mut caller: Caller) -> u64 {
    let (content, taken) = Content::counted(UPLOAD);
    let asking = tokio::spawn(async move {
        let request = Request::post("/v1/files").body(Body::new(content)).expect("a request");
        let response = caller.send(request).await.expect("an answer");
        response.into_body().collect().await.expect("all of it").to_bytes()
    });
    let waited = stands_still(taken).await;
    bulk.read();
    assert_eq!(asking.await.expect("a caller does not panic"), UPLOAD.to_string());
    waited
}

/// Waits until content stands still; how much has passed by then.
async fn stands_still(mut moved: watch::Receiver<u64>) -> u64 {
    moved.wait_for(|moved| *moved > 0).await.expect("it moves");
    while timeout(STILL, moved.changed()).await.is_ok() {}
    *moved.borrow()
}
