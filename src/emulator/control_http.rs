//! The control interface over HTTP: what [`Control`] does, for programs in any language.
//!
//! | request | JSON body | what it does |
//! | --- | --- | --- |
//! | `POST /faults` | a fault, see below | [`Control::fault`] |
//! | `DELETE /faults` | | [`Control::clear_faults`] |
//! | `POST /release` | | [`Control::release`] |
//! | `POST /revoke` | `{"flush": false}` | [`Control::revoke_tokens`] |
//! | `POST /role` | `{"data_plane": false, "management": true}`, either may be left out | [`Control::set_role`], [`Control::set_management_role`] |
//! | `POST /tokens` | `{"lifetime": 60, "metadata_cache": false}`, either may be left out | [`Control::set_token_lifetime`] in seconds, [`Control::set_metadata_cache`] |
//! | `POST /secret` | `{"expired": true}` | [`Control::expire_client_secret`] |
//! | `POST /next-link` | `{"evil": "https://evil.example"}`, or `null` | [`Control::set_evil_next_link`] |
//! | `GET /requests` | | the requests that came, oldest first; `authorization` is masked |
//! | `DELETE /requests` | | [`Control::clear_requests`] |
//! | `GET /state` | | [`State`](super::State) |
//! | `GET /healthz` | | answers `{"status":"ok"}` |
//!
//! A fault names a route, an action, and how many requests meet it (all, if `count` is left out):
//!
//! ```json
//! {"route": "chat", "action": {"kind": "status", "status": 429}, "count": 2}
//! {"route": "imds", "action": {"kind": "status", "status": 500, "body": "{}", "headers": {"retry-after": "3"}}}
//! {"route": "entra", "action": {"kind": "delay", "ms": 500}}
//! {"route": "open_ai", "action": {"kind": "hang"}}
//! {"route": "management", "action": {"kind": "close"}}
//! {"route": "files", "action": {"kind": "cut", "after_bytes": 10}}
//! {"route": "responses", "action": {"kind": "hold", "after_events": 3}}
//! {"route": "chat", "action": {"kind": "error_event", "after_events": 3}}
//! ```
//!
//! Routes are `imds`, `metadata`, `app_service`, `entra`, `chat`, `responses`, `embeddings`, `files`, `models`, `realtime`, `open_ai`
//! (the whole data plane) and `management`. A WebSocket meets its fault in the handshake, or not at all. What changes
//! something answers 204. A body that cannot be read gets 400 and `{"error": "…"}`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::control::Control;
use super::fault::{Action, Fault};

/// The control interface as a service.
pub(super) fn router(control: Arc<Control>) -> Router {
    Router::new()
        .route("/faults", post(fault).delete(clear_faults))
        .route("/release", post(release))
        .route("/revoke", post(revoke))
        .route("/role", post(role))
        .route("/tokens", post(tokens))
        .route("/secret", post(secret))
        .route("/next-link", post(next_link))
        .route("/requests", get(requests).delete(clear_requests))
        .route("/state", get(state))
        .route("/healthz", get(healthz))
        .fallback(|| async { (StatusCode::NOT_FOUND, Json(json!({ "error": "no such control" }))) })
        .with_state(control)
}

/// The body of `POST /revoke`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoke {
    #[serde(default)]
    flush: bool,
}

/// The body of `POST /role`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Role {
    data_plane: Option<bool>,
    management: Option<bool>,
}

/// The body of `POST /secret`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Secret {
    expired: bool,
}

/// The body of `POST /tokens`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tokens {
    lifetime: Option<u64>,
    metadata_cache: Option<bool>,
}

/// The body of `POST /next-link`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NextLink {
    evil: Option<String>,
}

type Answer = Result<StatusCode, Complaint>;

/// Why a body cannot be used.
struct Complaint(String);

impl IntoResponse for Complaint {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, Json(json!({ "error": self.0 }))).into_response()
    }
}

async fn fault(State(control): State<Arc<Control>>, body: Bytes) -> Answer {
    let fault: Fault = read(&body)?;
    if let Action::Status { status, headers, .. } = &fault.action {
        StatusCode::from_u16(*status).map_err(|_| Complaint(format!("{status} is no status")))?;
        for (name, value) in headers {
            HeaderName::try_from(name).map_err(|_| Complaint(format!("`{name}` is no field name")))?;
            HeaderValue::try_from(value).map_err(|_| Complaint(format!("the value of `{name}` cannot be sent")))?;
        }
    }
    control.fault(fault);
    Ok(StatusCode::NO_CONTENT)
}

async fn clear_faults(State(control): State<Arc<Control>>) -> StatusCode {
    control.clear_faults();
    StatusCode::NO_CONTENT
}

async fn release(State(control): State<Arc<Control>>) -> StatusCode {
    control.release();
    StatusCode::NO_CONTENT
}

async fn revoke(State(control): State<Arc<Control>>, body: Bytes) -> Answer {
    let Revoke { flush } = if body.is_empty() { Revoke::default() } else { read(&body)? };
    control.revoke_tokens(flush);
    Ok(StatusCode::NO_CONTENT)
}

async fn role(State(control): State<Arc<Control>>, body: Bytes) -> Answer {
    let role: Role = read(&body)?;
    if let Some(present) = role.data_plane {
        control.set_role(present);
    }
    if let Some(present) = role.management {
        control.set_management_role(present);
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn secret(State(control): State<Arc<Control>>, body: Bytes) -> Answer {
    let Secret { expired } = read(&body)?;
    control.expire_client_secret(expired);
    Ok(StatusCode::NO_CONTENT)
}

async fn tokens(State(control): State<Arc<Control>>, body: Bytes) -> Answer {
    let tokens: Tokens = read(&body)?;
    if let Some(seconds) = tokens.lifetime {
        control.set_token_lifetime(Duration::from_secs(seconds));
    }
    if let Some(on) = tokens.metadata_cache {
        control.set_metadata_cache(on);
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn next_link(State(control): State<Arc<Control>>, body: Bytes) -> Answer {
    let NextLink { evil } = read(&body)?;
    control.set_evil_next_link(evil);
    Ok(StatusCode::NO_CONTENT)
}

async fn requests(State(control): State<Arc<Control>>) -> Response {
    Json(control.requests()).into_response()
}

async fn clear_requests(State(control): State<Arc<Control>>) -> StatusCode {
    control.clear_requests();
    StatusCode::NO_CONTENT
}

async fn state(State(control): State<Arc<Control>>) -> Response {
    Json(control.state()).into_response()
}

async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

fn read<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, Complaint> {
    serde_json::from_slice(body).map_err(|error| Complaint(error.to_string()))
}
