//! Whether the proxy is alive, whether it can serve, and how it does: for probes, for Prometheus, and on a page for people.

mod events;
mod metrics;
mod page;
mod process;
mod report;
mod traffic;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use crate::apps::Apps;
use crate::clock::SharedClock;
use crate::error::ToMendIt;
use crate::identity::tokens::TokenSlot;
use crate::ledger::Condition;
use crate::lifecycle::Lifecycle;
use crate::telemetry::denials::PeerDenials;
use crate::telemetry::history::History;
use crate::telemetry::recorder::Recorder;
use crate::telemetry::refusals::Refusals;

pub use events::{Events, events};
pub use metrics::{metrics, tell};
pub use page::page;
pub use report::status;

/// What readiness depends on, and what the page says besides.
#[derive(Debug)]
pub struct Readiness {
    /// The tokens for the resource.
    pub tokens: Arc<TokenSlot>,
    /// The tokens for the management plane.
    pub management: Arc<TokenSlot>,
    /// Who shares the identity.
    pub apps: Arc<Apps>,
    /// What the resource refused.
    pub refusals: Arc<Refusals>,
    /// Who may not connect, and has.
    pub denials: Arc<PeerDenials>,
    /// What is under way.
    pub recorder: Arc<Recorder>,
    /// What has happened.
    pub history: Arc<History>,
    /// When the process began to serve.
    pub began: SystemTime,
    /// The same, where no clock can be set.
    pub started: Instant,
    /// How the usage ledger does, if there is one.
    pub ledger: Option<Condition>,
    /// Whether requests for Azure need an app's key.
    pub requires_key: bool,
    /// Whether the end has begun.
    pub lifecycle: Lifecycle,
    /// What time it is.
    pub clock: SharedClock,
    /// The resource's address.
    pub upstream: String,
    /// The credential's kind.
    pub credential: &'static str,
    /// Whether the account's deployments can be listed.
    pub lists_deployments: bool,
}

/// Something that is in the way of serving.
#[derive(Debug, Serialize)]
pub struct Obstacle {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

impl Readiness {
    /// What gives the tokens for the resource, once one has.
    fn source(&self) -> Option<&'static str> {
        let name = self.tokens.source().name();
        // Of several, the chain's own name stands for none of them.
        (self.tokens.account().renewals > 0 && name != "auto").then_some(name)
    }

    /// The tokens of both planes.
    fn slots(&self) -> [&TokenSlot; 2] {
        [&self.tokens, &self.management]
    }

    /// What is in the way of serving: nothing while a usable token is held and the end has not begun.
    fn obstacles(&self) -> Vec<Obstacle> {
        let mut obstacles = Vec::new();
        if self.lifecycle.is_ending() {
            let message = "the proxy is shutting down".to_owned();
            obstacles.push(Obstacle { code: "shutting_down", message, retry_after: None });
        }
        if self.tokens.held().is_none() {
            obstacles.push(match self.tokens.failure() {
                Some(failure) => Obstacle {
                    code: "credential_unavailable",
                    message: format!("{}{}", failure.error, ToMendIt(failure.error.advice())),
                    retry_after: Some(failure.retry_after(self.clock.now())),
                },
                None => Obstacle {
                    code: "credential_pending",
                    message: "the first token is being fetched".to_owned(),
                    retry_after: None,
                },
            });
        }
        obstacles
    }
}

/// `GET /healthz`: 200 while the process serves.
pub async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// `GET /readyz`: 200 while requests would be passed on, else 503; says why.
pub async fn readyz(State(readiness): State<Arc<Readiness>>) -> Response {
    let obstacles = readiness.obstacles();
    if obstacles.is_empty() {
        return Json(json!({ "status": "ready" })).into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "not ready", "reasons": obstacles }))).into_response()
}
