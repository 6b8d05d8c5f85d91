//! Whether there is a token, which credential gave it, and what became of the others; then what the token says.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::report::{Finding, Mend, word};
use super::setup::Setup;
use crate::config::CredentialSource;
use crate::identity::chain::{Attempt, Outcome};
use crate::identity::claims::{Claims, PrincipalType};
use crate::identity::credential;
use crate::identity::schedule::nearly_over;
use crate::identity::tokens::Token;
use crate::identity::trial::Trial;
use crate::identity::{Cause, CredentialError};

/// Asks for a token for the resource.
pub(super) async fn credential(setup: &Setup) -> (Finding, Option<Token>) {
    let source = &setup.config.credential.source;
    let Trial { attempts, untried, outcome } = setup.credentials.trial(&setup.config.upstream.scope).await;
    let links = attempts.iter().map(detail).chain(untried.iter().map(
        |name| json!({ "credential": name, "outcome": "not_tried", "duration_ms": 0, "reason": null, "mend": null }),
    ));
    let detail = json!({ "kind": credential::name(source), "links": links.collect::<Vec<_>>() });
    // Of one alone, the message says it all.
    let notes = match source {
        CredentialSource::Auto(_) => notes(&attempts, &untried),
        _ => Vec::new(),
    };
    match outcome {
        Ok(token) => {
            let giver = attempts.last().map_or("auto", |attempt| attempt.credential);
            let auto = if matches!(source, CredentialSource::Auto(_)) { "auto: " } else { "" };
            (Finding::ok(format!("{auto}{giver} gave a token")).notes(notes).detail(detail), Some(token))
        }
        Err(error) => {
            let message = match (&error.cause, source) {
                (Cause::NoneWorked(_), _) => "auto: no credential gave a token".to_owned(),
                (_, CredentialSource::Auto(_)) => format!("auto: {error}"),
                _ => error.to_string(),
            };
            (Finding::failed(message, mend(&error)).notes(notes).detail(detail), None)
        }
    }
}

/// What a person can do about a credential that gives no token.
pub(super) fn mend(error: &CredentialError) -> Mend {
    let service = match &error.cause {
        Cause::Refused { service, .. } | Cause::Unreachable { service, .. } | Cause::NoToken { service, .. } => {
            Some(format!("curl -v {}", word(&service)))
        }
        _ => None,
    };
    match error.advice() {
        Some(advice) => {
            let mut mend = Mend::quoting(advice);
            if mend.commands.is_empty() {
                mend.commands.extend(service);
            }
            mend
        }
        None => Mend::new("this may pass by itself, and the proxy tries again; to see what answers", service),
    }
}

fn detail(attempt: &Attempt) -> Value {
    let (outcome, error) = told(attempt);
    json!({
        "credential": attempt.credential,
        "outcome": outcome,
        "duration_ms": u64::try_from(attempt.took.as_millis()).unwrap_or(u64::MAX),
        "reason": error.map(|error| error.cause.to_string()),
        "mend": error.and_then(CredentialError::advice),
    })
}

fn told(attempt: &Attempt) -> (&'static str, Option<&CredentialError>) {
    match &attempt.outcome {
        Outcome::Gave => ("gave_a_token", None),
        Outcome::PassedOver(error) => ("passed_over", Some(error)),
        Outcome::Failed(error) => ("failed", Some(error)),
    }
}

fn notes(attempts: &[Attempt], untried: &[&'static str]) -> Vec<String> {
    let width = attempts.iter().map(|attempt| attempt.credential).chain(untried.iter().copied()).map(str::len).max();
    let width = width.unwrap_or_default();
    let asked = attempts.iter().map(|attempt| {
        let (outcome, error) = told(attempt);
        let reason = error.map_or_else(String::new, |error| format!(": {}", error.cause));
        let took = attempt.took.as_millis();
        format!("{:width$}  {}{reason} ({took} ms)", attempt.credential, outcome.replace('_', " "))
    });
    asked.chain(untried.iter().map(|name| format!("{name:width$}  not tried"))).collect()
}

/// What the token says of itself. Nobody has verified it.
pub(super) fn token(token: &Token, now: SystemTime) -> Finding {
    let claims = &token.claims;
    let kind = claims.principal_type().map(|kind| match kind {
        PrincipalType::ServicePrincipal => "application",
        PrincipalType::User => "user",
    });
    let expires = humantime::format_rfc3339_seconds(token.expires_at).to_string();
    let detail = json!({
        "tenant_id": claims.tenant,
        "object_id": claims.object_id,
        "app_id": claims.application(),
        "user_name": claims.user_name(),
        "principal_type": kind,
        "audience": claims.audience,
        "expires_at": expires,
    });
    let left = token.expires_at.duration_since(now).unwrap_or_default().as_secs() / 60 * 60;
    let left = humantime::format_duration(Duration::from_secs(left));
    let message = format!("{}; expires in {left}, at {expires}", principal(kind, claims));
    if nearly_over(token.expires_at, now) {
        let advice = "a token that is nearly over when it comes: is this machine's clock right?";
        return Finding::warning(message).detail(detail).mend(Mend::new(advice, ["timedatectl".to_owned()]));
    }
    Finding::ok(message).detail(detail)
}

fn principal(kind: Option<&str>, claims: &Claims) -> String {
    let ids = [
        ("", claims.user_name()),
        ("object id ", claims.object_id.as_deref()),
        ("application id ", claims.application()),
        ("tenant ", claims.tenant.as_deref()),
        ("audience ", claims.audience.as_deref()),
    ];
    let known: Vec<_> = ids.iter().filter_map(|(what, id)| id.map(|id| format!("{what}{id}"))).collect();
    match (kind, known.join(", ")) {
        (_, known) if known.is_empty() => "it does not say whose it is".to_owned(),
        (None, known) => known,
        (Some(kind), known) => format!("{kind}: {known}"),
    }
}
