//! Requests that meet a fault, each the one that was asked for it, on routes where no other requests come.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aoai_auth_proxy::emulator::{Action, Fault, Route};
use futures_util::future::join_all;
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::traffic::{Stage, chain, client, told};

/// How long the proxy waits for a response, and for more of one.
pub(crate) const DEADLINE: Duration = Duration::from_secs(4);
/// Between two faults.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two that wait for a deadline.
const BETWEEN_DEADLINES: Duration = Duration::from_secs(4);
/// Between two revocations of all tokens: the proxy renews out of turn thrice in three minutes at most.
const BETWEEN_REVOCATIONS: Duration = Duration::from_secs(120);
/// Callers who meet a token that has gone stale together.
const CROWD: usize = 8;

/// Faults that are over at once, one after the other until `end`.
pub(crate) async fn quick(stage: Arc<Stage>, end: Instant) {
    let client = client(false);
    let mut revoked: Option<Instant> = None;
    while Instant::now() < end {
        for status in [429, 500, 503] {
            stage.tally.note("a refusal", refusal(&stage, &client, status).await);
        }
        if let Ok(_nobody_waits) = stage.waiting.try_lock() {
            stage.tally.note("a connection that closes", closing(&stage, &client).await);
            stage.tally.note("an answer that breaks off", breaking_off(&stage, &client, false).await);
            stage.tally.note("a stream that breaks off", breaking_off(&stage, &client, true).await);
        }
        if revoked.is_none_or(|at| at.elapsed() > BETWEEN_REVOCATIONS) {
            revoked = Some(Instant::now());
            stage.tally.note("a token that has gone stale", stale(&stage, &client).await);
        }
        sleep(PAUSE).await;
    }
}

/// Faults that are over when a deadline has passed, one after the other until `end`.
pub(crate) async fn slow(stage: Arc<Stage>, end: Instant) {
    let client = client(true);
    while Instant::now() + DEADLINE < end {
        for silent in [false, true] {
            let waiting = stage.waiting.lock().await;
            if silent {
                stage.tally.note("an answer that falls silent", falling_silent(&stage, &client).await);
            } else {
                stage.tally.note("an answer that never comes", hanging(&stage, &client).await);
            }
            drop(waiting);
            sleep(BETWEEN_DEADLINES).await;
        }
    }
}

/// The next request on the route meets this.
fn arm(stage: &Stage, route: Route, action: Action) {
    stage.azure.control().fault(Fault::new(route, action).times(1));
}

fn respond(stage: &Stage, client: &Client, stream: bool) -> reqwest::RequestBuilder {
    let content = json!({ "model": "gpt-4o-mini", "input": stage.word(), "stream": stream });
    client.post(stage.url("/v1/responses")).json(&content)
}

fn embed(stage: &Stage, client: &Client) -> reqwest::RequestBuilder {
    let content = json!({ "model": "text-embedding-3-small", "input": stage.word() });
    client.post(stage.url("/v1/embeddings")).json(&content)
}

/// The `code` of an error, if it is the proxy's.
async fn code(response: Response) -> Result<String, String> {
    let status = response.status();
    if !response.headers().contains_key("proxy-status") {
        return Err(format!("{status} that does not come from the proxy"));
    }
    let content: Value = response.json().await.map_err(chain)?;
    Ok(format!("{status} {}", content["error"]["code"].as_str().unwrap_or_default()))
}

/// The resource's own refusals pass.
async fn refusal(stage: &Stage, client: &Client, status: u16) -> Result<&'static str, String> {
    let _beside = stage.alone.read().await;
    arm(stage, Route::Responses, Action::status(status));
    let response = told(respond(stage, client, false), status).await?;
    let waits = response.headers().get("retry-after").is_some_and(|seconds| seconds == "1");
    if response.headers().contains_key("proxy-status") || waits != (status == 429) {
        return Err(format!("changed on its way: {response:?}"));
    }
    let content: Value = response.json().await.map_err(chain)?;
    if content["error"]["message"].is_string() { Ok("passed on") } else { Err(format!("changed: {content}")) }
}

/// A request on a kept connection is sent once more; on a new one it has failed.
async fn closing(stage: &Stage, client: &Client) -> Result<&'static str, String> {
    let _alone = stage.alone.write().await;
    let before = stage.azure.control().count(Route::Responses);
    arm(stage, Route::Responses, Action::Close);
    let response = respond(stage, client, false).send().await.map_err(chain)?;
    let attempts = stage.azure.control().count(Route::Responses) - before;
    let outcome = match (attempts, response.status().as_u16()) {
        (2, 200) => "sent once more",
        (1, 502) if code(response).await?.ends_with("upstream_protocol") => "told",
        (attempts, status) => return Err(format!("{status} after {attempts} attempts")),
    };
    stage.chat(client).await.map_err(|error| format!("the next one: {error}"))?;
    Ok(outcome)
}

/// What breaks off is not ended as if it were whole.
async fn breaking_off(stage: &Stage, client: &Client, stream: bool) -> Result<&'static str, String> {
    let _alone = stage.alone.write().await;
    arm(stage, Route::Responses, Action::Cut { after_bytes: fastrand::u64(1..400) });
    let response = told(respond(stage, client, stream), 200).await?;
    if let Ok(content) = response.bytes().await {
        return Err(format!("ended well after {} bytes", content.len()));
    }
    stage.chat(client).await.map_err(|error| format!("the next one: {error}"))?;
    Ok("broken off")
}

/// A crowd with a stale token sees nothing of that, and one token is fetched.
async fn stale(stage: &Stage, client: &Client) -> Result<&'static str, String> {
    let _alone = stage.alone.write().await;
    let before = stage.azure.control().count(Route::Imds);
    stage.azure.control().revoke_tokens(true);
    for answer in join_all((0..CROWD).map(|_| stage.chat(client))).await {
        answer?;
    }
    match stage.azure.control().count(Route::Imds) - before {
        1 => Ok("renewed"),
        fetched => Err(format!("{fetched} tokens fetched")),
    }
}

async fn hanging(stage: &Stage, client: &Client) -> Result<&'static str, String> {
    arm(stage, Route::Embeddings, Action::Hang);
    let began = Instant::now();
    let code = code(told(embed(stage, client), 504).await?).await?;
    let took = began.elapsed();
    if code.ends_with("upstream_timeout") && took >= DEADLINE { Ok("told") } else { Err(format!("{code} in {took:?}")) }
}

async fn falling_silent(stage: &Stage, client: &Client) -> Result<&'static str, String> {
    arm(stage, Route::Embeddings, Action::Hold { after_events: 0 });
    let response = told(embed(stage, client), 200).await?;
    if response.bytes().await.is_ok() { Err("ended well".to_owned()) } else { Ok("broken off") }
}
