//! The realtime interface: conversations over WebSockets, and the way to those over WebRTC, whose media it has none of.
//!
//! The emulated model neither hears nor speaks: it takes audio silently and answers in text.

pub(super) mod calls;
pub(super) mod client_secrets;
mod conversation;
mod dialect;
mod reply;
mod session;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;

use super::DataPlane;
use super::authorize::Caller;
use super::refusal::Refusal;
use super::socket::{self, Handshake};
use crate::emulator::catalogue::{self, Deployment, Kind};
use crate::emulator::listen::Connection;
use conversation::Realtime;
use dialect::Dialect;

/// What a client names in its query; it does so differently in the older interface.
#[derive(Debug, Deserialize)]
struct Named {
    model: Option<String>,
    deployment: Option<String>,
}

/// The operations.
pub(super) fn operations() -> Router<Arc<DataPlane>> {
    Router::new()
        .route("/openai/v1/realtime", get(open))
        .route("/openai/realtime", get(open_older))
        .route("/openai/v1/realtime/client_secrets", post(client_secrets::create))
        .route(calls::PATH, post(calls::create))
}

/// `GET /openai/v1/realtime?model=`
async fn open(
    State(plane): State<Arc<DataPlane>>,
    Extension(caller): Extension<Caller>,
    Extension(connection): Extension<Connection>,
    Query(named): Query<Named>,
    handshake: Handshake,
) -> Result<Response, Refusal> {
    let upgrade = socket::asked_for(handshake)?;
    let deployment = deployment(named.model.as_deref().ok_or(Refusal::Missing("model"))?)?;
    let conversation = Realtime::new(&plane, caller, deployment, Dialect::V1);
    Ok(socket::open(&plane, connection, upgrade, conversation))
}

/// `GET /openai/realtime?api-version=&deployment=`
async fn open_older(
    State(plane): State<Arc<DataPlane>>,
    Extension(caller): Extension<Caller>,
    Extension(connection): Extension<Connection>,
    Query(named): Query<Named>,
    handshake: Handshake,
) -> Result<Response, Refusal> {
    let upgrade = socket::asked_for(handshake)?;
    let deployment = deployment(named.deployment.as_deref().ok_or(Refusal::Missing("deployment"))?)?;
    let conversation = Realtime::new(&plane, caller, deployment, Dialect::Older);
    Ok(socket::open(&plane, connection, upgrade, conversation))
}

/// The deployment called `name`, if its model is one for conversations.
fn deployment(name: &str) -> Result<Deployment, Refusal> {
    let deployment = catalogue::deployment(name).ok_or(Refusal::DeploymentNotFound)?;
    if deployment.model.kind == Kind::Realtime {
        Ok(deployment)
    } else {
        Err(Refusal::OperationNotSupported { operation: "realtime", model: deployment.model.name })
    }
}
