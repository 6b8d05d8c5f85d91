//! How soon the resource hears that a caller has left.

use std::time::{Duration, Instant};

use aoai_auth_proxy::emulator::{Action, Fault, Route};
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use serde_json::json;
use tokio::time::timeout;

use crate::caller::Caller;
use crate::tally::Latency;
use crate::traffic::Stage;

/// Callers who leave while they wait for an answer to begin; as many leave in the middle of one.
const TIMES: u64 = 100;
/// The resource has heard of nearly all within this time.
const AT_ONCE: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(10);

/// From the moment at which a caller begins to close its connection until the resource has seen the request end.
pub(crate) async fn measure(stage: &Stage) {
    let (mut before, mut within) = (Latency::new(), Latency::new());
    for number in 0..TIMES {
        let http2 = number % 2 == 1;
        let measured = timeout(PATIENCE, async {
            before.record(before_the_answer(stage, http2).await);
            within.record(within_the_answer(stage, http2).await);
        });
        if measured.await.is_err() {
            let open = stage.azure.control().state();
            stage.tally.violation(&format!("the resource does not hear that a caller leaves: {open:?}"));
            return;
        }
    }
    for (when, latency) in [("before an answer began", before), ("in the middle of one", within)] {
        println!("callers left {when}, the resource heard of it: {latency}");
        if latency.at(0.99) > AT_ONCE {
            stage.tally.violation(&format!("callers left {when}, and the resource heard of it late"));
        }
    }
}

fn request(stage: &Stage) -> Request<Body> {
    let content = json!({ "model": "gpt-4o-mini", "input": stage.word(), "stream": true });
    let request = Request::post("/v1/responses").header("content-type", "application/json");
    request.body(Body::from(content.to_string())).expect("a request")
}

async fn before_the_answer(stage: &Stage, http2: bool) -> Duration {
    let control = stage.azure.control();
    control.fault(Fault::new(Route::Responses, Action::Hang).times(1));
    let mut caller = Caller::connect(stage.address, http2).await;
    let began;
    {
        let mut asking = std::pin::pin!(caller.send(request(stage)));
        tokio::select! {
            answer = &mut asking => panic!("an answer that was not to come: {answer:?}"),
            _ = control.until(|state| state.requests_open == 1) => {}
        }
        began = Instant::now();
    }
    caller.vanish().await;
    heard(stage, began).await
}

async fn within_the_answer(stage: &Stage, http2: bool) -> Duration {
    let control = stage.azure.control();
    control.fault(Fault::new(Route::Responses, Action::Hold { after_events: 3 }).times(1));
    let mut caller = Caller::connect(stage.address, http2).await;
    let response = caller.send(request(stage)).await.expect("an answer");
    let mut content = response.into_body();
    content.frame().await.expect("an event").expect("a whole one");
    control.until(|state| state.streams_held == 1).await;
    let began = Instant::now();
    caller.vanish().await;
    heard(stage, began).await
}

/// Waits until the resource has nothing open any more; how long ago that began.
async fn heard(stage: &Stage, began: Instant) -> Duration {
    stage.azure.control().until(|state| state.requests_open == 0 && state.streams_open == 0).await;
    began.elapsed()
}
