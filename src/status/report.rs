//! `GET /status`: who we are, with which tokens, how they were come by, and what they were used for.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use http::header::CACHE_CONTROL;
use serde::Serialize;

use super::traffic::{RequestError, Requests};
use super::{Obstacle, Readiness};
use crate::apps;
use crate::identity::CredentialError;
use crate::identity::claims::Claims;
use crate::identity::tokens::{Failure, TokenSlot};
use crate::ledger::Condition;
use crate::telemetry::denials::Who;
use crate::telemetry::history::usage::Used;
use crate::telemetry::tally::Counted;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    version: &'static str,
    now: String,
    uptime_seconds: u64,
    ready: bool,
    reasons: Vec<Obstacle>,
    upstream: String,
    credential: Credential,
    identity: Option<Identity>,
    tokens: Vec<Token>,
    apps: Vec<App>,
    refusals: Vec<Refused>,
    denied_peers: Vec<DeniedPeer>,
    lists_deployments: bool,
    requires_key: bool,
    requests: Requests,
    usage: Vec<Used>,
    usage_left_out: usize,
    ledger: Option<Ledger>,
    errors: Vec<RequestError>,
}

/// How the usage ledger does.
#[derive(Debug, Serialize)]
struct Ledger {
    failing: bool,
    waiting: u64,
    dropped: u64,
}

/// Connections of a user that may not connect.
#[derive(Debug, Serialize)]
struct DeniedPeer {
    /// Its number; nothing if the system does not say, `others` for those who are too many to be told apart.
    uid: Who,
    count: u64,
    last_at: String,
}

/// What an app has used since the start.
#[derive(Debug, Serialize)]
struct App {
    /// `-`: whoever is no known app.
    name: String,
    requests: u64,
    refused: u64,
    /// Counted for apps with `tokens_per_minute`.
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<u64>,
}

/// What the resource refused and the proxy can explain.
#[derive(Debug, Serialize)]
struct Refused {
    cause: &'static str,
    count: u64,
    last_at: String,
    hint: String,
}

#[derive(Debug, Serialize)]
struct Credential {
    /// As configured.
    kind: &'static str,
    /// What gives the tokens for the resource; of several, nothing while none has given one.
    source: Option<&'static str>,
    /// What `auto` tried before that, in vain.
    passed_over: Vec<PassedOver>,
}

#[derive(Debug, Serialize)]
struct PassedOver {
    credential: &'static str,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_mend_it: Option<String>,
}

/// What the token for the resource says about its holder; nobody has verified it.
#[derive(Debug, Serialize)]
struct Identity {
    tenant_id: Option<String>,
    object_id: Option<String>,
    app_id: Option<String>,
    audience: Option<String>,
    verified: bool,
}

#[derive(Debug, Serialize)]
struct Token {
    plane: &'static str,
    scope: String,
    state: TokenState,
    expires_at: Option<String>,
    last_renewal: Option<String>,
    next_renewal: Option<String>,
    renewals: u64,
    failures: u64,
    failures_in_a_row: u32,
    last_failure: Option<LastFailure>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum TokenState {
    /// It may be sent.
    Valid,
    /// It was not renewed in time.
    Expired,
    /// It was asked for and none has come.
    Unavailable,
    /// Nobody has asked for it yet, or the first answer is awaited.
    Pending,
}

#[derive(Debug, Serialize)]
struct LastFailure {
    at: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_mend_it: Option<String>,
}

/// The handler.
pub async fn status(State(readiness): State<Arc<Readiness>>) -> impl IntoResponse {
    ([(CACHE_CONTROL, "no-store")], Json(Report::of(&readiness)))
}

impl Report {
    pub(super) fn of(readiness: &Readiness) -> Self {
        let reasons = readiness.obstacles();
        let totals = readiness.history.totals();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            now: humantime::format_rfc3339_millis(readiness.clock.now()).to_string(),
            uptime_seconds: readiness.started.elapsed().as_secs(),
            ready: reasons.is_empty(),
            reasons,
            upstream: readiness.upstream.clone(),
            credential: Credential::of(readiness),
            identity: readiness.tokens.held().map(|token| Identity::of(&token.claims)),
            tokens: vec![Token::of("data", &readiness.tokens), Token::of("management", &readiness.management)],
            apps: readiness.apps.all().map(App::of).collect(),
            refusals: readiness.refusals.seen().into_iter().map(Refused::of).collect(),
            denied_peers: readiness.denials.seen().into_iter().map(DeniedPeer::of).collect(),
            lists_deployments: readiness.lists_deployments,
            requires_key: readiness.requires_key,
            requests: Requests::of(&totals, &readiness.recorder),
            usage: totals.usage,
            usage_left_out: 0,
            ledger: readiness.ledger.as_ref().map(Ledger::of),
            errors: totals.mishaps.into_iter().map(RequestError::of).collect(),
        }
    }

    /// The same with no more rows of `usage` than `most`: those with the most tokens.
    pub(super) fn at_most(mut self, most: usize) -> Self {
        let mut tokens: Vec<_> =
            self.usage.iter().map(|row| row.counts.input.saturating_add(row.counts.output)).enumerate().collect();
        // Of equal ones the first, so that what is left out does not change from one time to the next.
        tokens.sort_by_key(|(_, tokens)| Reverse(*tokens));
        let kept: HashSet<usize> = tokens.into_iter().take(most).map(|(at, _)| at).collect();
        self.usage_left_out = self.usage.len() - kept.len();
        let mut at = 0..;
        self.usage.retain(|_| at.next().is_some_and(|at| kept.contains(&at)));
        self
    }

    /// Without what always changes.
    pub(super) fn but_for_time(self) -> Self {
        Self { now: String::new(), uptime_seconds: 0, ..self }
    }
}

impl Ledger {
    fn of(ledger: &Condition) -> Self {
        Self { failing: ledger.is_failing(), waiting: ledger.waiting(), dropped: ledger.dropped() }
    }
}

impl App {
    fn of(app: &apps::App) -> Self {
        Self {
            name: app.name().to_owned(),
            requests: app.used.requests(),
            refused: app.used.refused(),
            tokens: app.counts_tokens().then(|| app.used.tokens()),
        }
    }
}

impl Credential {
    fn of(readiness: &Readiness) -> Self {
        let source = readiness.tokens.source();
        let passed_over = source.passed_over().iter().map(PassedOver::of).collect();
        Self { kind: readiness.credential, source: readiness.source(), passed_over }
    }
}

impl PassedOver {
    fn of(error: &CredentialError) -> Self {
        Self {
            credential: error.credential,
            reason: error.cause.to_string(),
            to_mend_it: error.advice().map(str::to_owned),
        }
    }
}

impl Identity {
    fn of(claims: &Claims) -> Self {
        Self {
            tenant_id: claims.tenant.clone(),
            object_id: claims.object_id.clone(),
            app_id: claims.application().map(str::to_owned),
            audience: claims.audience.clone(),
            verified: false,
        }
    }
}

impl Token {
    fn of(plane: &'static str, slot: &TokenSlot) -> Self {
        let account = slot.account();
        let held = slot.held();
        let state = match (&held, account.renewals, account.failures) {
            (Some(_), ..) => TokenState::Valid,
            (None, 0, 0) => TokenState::Pending,
            (None, 0, _) => TokenState::Unavailable,
            (None, ..) => TokenState::Expired,
        };
        Self {
            plane,
            scope: slot.scope().to_string(),
            state,
            expires_at: held.map(|token| written(token.expires_at)),
            last_renewal: account.renewed_at.map(written),
            next_renewal: account.next_at.map(written),
            renewals: account.renewals,
            failures: account.failures,
            failures_in_a_row: account.failures_in_a_row,
            last_failure: account.last_failure.as_deref().map(LastFailure::of),
        }
    }
}

impl Refused {
    fn of((cause, refusal): (&'static str, Counted<String>)) -> Self {
        Self { cause, count: refusal.count, last_at: written(refusal.last_at), hint: refusal.note }
    }
}

impl DeniedPeer {
    fn of((uid, denial): (Who, Counted<()>)) -> Self {
        Self { uid, count: denial.count, last_at: written(denial.last_at) }
    }
}

impl LastFailure {
    fn of(failure: &Failure) -> Self {
        let error = &failure.error;
        Self { at: written(failure.at), message: error.to_string(), to_mend_it: error.advice().map(str::to_owned) }
    }
}

/// As RFC 3339 writes a time.
pub(super) fn written(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}
