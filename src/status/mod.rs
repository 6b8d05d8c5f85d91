//! Whether the proxy is alive, and whether it can serve.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

use crate::clock::SharedClock;
use crate::identity::tokens::TokenSlot;
use crate::server::Lifecycle;

/// What readiness depends on.
#[derive(Debug)]
pub struct Readiness {
    tokens: Arc<TokenSlot>,
    lifecycle: Lifecycle,
    clock: SharedClock,
}

impl Readiness {
    /// Ready while a usable token of `tokens` is held and `lifecycle` has not begun to end.
    #[must_use]
    pub fn new(tokens: Arc<TokenSlot>, lifecycle: Lifecycle, clock: SharedClock) -> Self {
        Self { tokens, lifecycle, clock }
    }

    /// What is in the way of serving.
    fn obstacles(&self) -> Vec<Value> {
        let mut obstacles = Vec::new();
        if self.lifecycle.is_ending() {
            obstacles.push(json!({ "code": "shutting_down", "message": "the proxy is shutting down" }));
        }
        if self.tokens.held().is_none() {
            obstacles.push(match self.tokens.failure() {
                Some(failure) => json!({
                    "code": "credential_unavailable",
                    "message": failure.error.to_string(),
                    "retry_after": failure.retry_after(self.clock.now()),
                }),
                None => json!({ "code": "credential_pending", "message": "the first token is being fetched" }),
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
