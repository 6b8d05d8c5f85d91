//! One chat call for as few tokens as a model takes.

use http::StatusCode;
use serde_json::{Value, json};

use super::ask::Answer;
use super::data::Access;
use super::report::{Finding, Mend};
use super::setup::Setup;
use crate::error::ProxyError;
use crate::explain::Cause;
use crate::identity::tokens::Token;

/// How a model is told to be short. Models that reason take the second alone, and think a little before they speak.
const LIMITS: [(&str, u32); 2] = [("max_tokens", 1), ("max_completion_tokens", 16)];

/// Calls `deployment`.
pub(super) async fn call(setup: &Setup, token: &Token, deployment: &str) -> (Finding, Option<Access>) {
    let url = setup.url("chat/completions");
    let (answer, limit) = match ask(setup, token, deployment, &url).await {
        Ok(answered) => answered,
        Err(error) => return (Setup::unanswered(&error, &url), None),
    };
    let content = answer.json();
    let detail = json!({
        "deployment": deployment,
        "limit": limit,
        "status": answer.status.as_u16(),
        "model": content["model"].as_str(),
        "usage": usage(&content),
    });
    if answer.status.is_success() {
        let model = content["model"].as_str().unwrap_or("its model");
        let tokens = content["usage"]["total_tokens"].as_u64();
        let cost = tokens.map_or_else(String::new, |tokens| format!(", for {tokens} tokens in all"));
        let message = format!("{deployment} answered ({model}{cost})");
        return (Finding::ok(message).detail(detail), Some(Access::Allowed));
    }
    if is_cut_short(&answer) {
        let message = format!("{deployment} was reached, and had no room to answer in");
        return (Finding::ok(message).detail(detail), Some(Access::Allowed));
    }
    let refusal = setup.refusal(&answer, token, Some(deployment), &url);
    let message = format!("{deployment}: {}", refusal.message);
    match (refusal.cause, answer.status) {
        (Some(Cause::RoleMissing), _) => {
            let mend = Mend::new("see role", None);
            let message = format!("{deployment}: refused for want of a role ({})", refusal.status.as_u16());
            (Finding::failed(message, mend).detail(detail), Some(Access::NoRole(refusal)))
        }
        (None, StatusCode::TOO_MANY_REQUESTS) => {
            (Finding::warning(message).detail(detail).mend(refusal.mend), Some(Access::Allowed))
        }
        (None, StatusCode::BAD_REQUEST) if answer.says(&["does not work with the specified model"]) => {
            let command = "aoai-auth-proxy models --deployed --capability chat";
            let mend = Mend::new("this deployment does not chat: name one that does", [command.to_owned()]);
            (Finding::failed(message, mend).detail(detail), Some(Access::Allowed))
        }
        _ => (Finding::failed(message, refusal.mend).detail(detail), None),
    }
}

/// Asks with one limit, and with the other if the model does not take it.
async fn ask(setup: &Setup, token: &Token, deployment: &str, url: &str) -> Result<(Answer, &'static str), ProxyError> {
    let [(first, least), (second, more)] = LIMITS;
    let asked = |limit: &'static str, most: u32| {
        let messages = json!([{ "role": "user", "content": "Say yes." }]);
        let content = json!({ "model": deployment, "messages": messages, limit: most });
        setup.ask(setup.client.post(url).header("content-type", "application/json").body(content.to_string()), token)
    };
    let answer = asked(first, least).await?;
    let is_explained = setup.refusal(&answer, token, Some(deployment), url).cause.is_some();
    if answer.status != StatusCode::BAD_REQUEST || is_explained || is_cut_short(&answer) {
        return Ok((answer, first));
    }
    Ok((asked(second, more).await?, second))
}

/// A model that has thought for all of its tokens says so by a 400: it was called all the same.
fn is_cut_short(answer: &Answer) -> bool {
    answer.status == StatusCode::BAD_REQUEST && answer.says(&["model output limit was reached", "could not finish"])
}

fn usage(content: &Value) -> Value {
    let count = |name: &str| content["usage"][name].as_u64();
    json!({ "prompt_tokens": count("prompt_tokens"), "completion_tokens": count("completion_tokens") })
}
