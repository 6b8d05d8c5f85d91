//! The data plane: whether the resource answers, with the token, at the least that it can be asked for.

use std::net::IpAddr;

use http::StatusCode;
use serde_json::json;

use super::ask::Refusal;
use super::network::reach;
use super::report::{Finding, Mend, word};
use super::setup::Setup;
use crate::explain::Cause;
use crate::identity::tokens::Token;

/// What the resource thinks of us.
#[derive(Debug)]
pub(super) enum Access {
    /// It does as asked.
    Allowed,
    /// The token is good, and its principal lacks a role.
    NoRole(Refusal),
}

/// Asks for the list of models. `addresses`: where the resource's name leads to from here, if that is known.
pub(super) async fn models(setup: &Setup, token: &Token, addresses: Option<&[IpAddr]>) -> (Finding, Option<Access>) {
    let url = setup.url("models");
    let answer = match setup.ask(setup.client.get(&url), token).await {
        Ok(answer) => answer,
        Err(error) => return (Setup::unanswered(&error, &url), None),
    };
    if answer.status.is_success() {
        let Some(models) = answer.json()["data"].as_array().map(Vec::len) else {
            let advice = "what answers there is not Azure OpenAI: is upstream.endpoint right?";
            let mend = Mend::new(advice, [format!("curl -v {}", word(&url))]);
            return (Finding::failed(format!("GET {url} gives no list of models"), mend), None);
        };
        let message = format!("GET {url} lists {models} models of the region");
        return (Finding::ok(message).detail(json!({ "status": 200, "models": models })), Some(Access::Allowed));
    }
    let refusal = setup.refusal(&answer, token, None, &url);
    let cause = refusal.cause.map(Cause::name);
    let detail = json!({ "status": answer.status.as_u16(), "cause": cause });
    match refusal.cause {
        Some(Cause::RoleMissing) => {
            let status = refusal.status.as_u16();
            let message = format!("the resource takes the token and refuses to list models ({status}): see role");
            (Finding::warning(message).detail(detail), Some(Access::NoRole(refusal)))
        }
        Some(Cause::NetworkRules | Cause::VirtualNetworkEndpoint | Cause::PublicAccessDisabled) => {
            // What the hint asks people to find out is known here.
            let place = addresses.map_or_else(String::new, |addresses| {
                let host = setup.config.upstream.endpoint.authority().host();
                let listed = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                format!("; from here {host} leads to {listed} ({})", reach(addresses))
            });
            (Finding::failed(format!("{}{place}", refusal.message), refusal.mend).detail(detail), None)
        }
        // It takes the token, and is busy.
        None if answer.status == StatusCode::TOO_MANY_REQUESTS => {
            (Finding::warning(refusal.message).detail(detail).mend(refusal.mend), None)
        }
        _ => (Finding::failed(refusal.message, refusal.mend).detail(detail), None),
    }
}
