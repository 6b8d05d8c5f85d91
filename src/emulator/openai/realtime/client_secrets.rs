//! Short-lived keys: whoever has a token makes one, and a web page opens a call with it.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::dialect::Dialect;
use super::{deployment, session};
use crate::emulator::lock::Lock;
use crate::emulator::openai::DataPlane;
use crate::emulator::openai::authorize::Caller;
use crate::emulator::openai::refusal::Refusal;
use crate::emulator::openai::sent::Sent;

/// How every such key begins.
const BEGINNING: &str = "ek_";

/// How long a key lives unless the client wants it otherwise, in seconds.
const LIFETIME: u64 = 600;

/// How many keys are kept; with more, all are forgotten.
const KEPT: usize = 1_000;

/// The keys that were made: for whom, and until when they are good.
#[derive(Debug, Default)]
pub(in crate::emulator::openai) struct ClientSecrets(Lock<HashMap<String, (Caller, u64)>>);

/// What the client asks for.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    session: Option<Value>,
    expires_after: Option<ExpiresAfter>,
}

#[derive(Debug, Deserialize)]
struct ExpiresAfter {
    seconds: Option<u64>,
}

/// Whether a bearer is meant to be such a key.
pub(in crate::emulator::openai) fn is_one(bearer: &str) -> bool {
    bearer.starts_with(BEGINNING)
}

/// `POST /openai/v1/realtime/client_secrets`
pub(super) async fn create(
    State(plane): State<Arc<DataPlane>>,
    Extension(caller): Extension<Caller>,
    Sent(asked): Sent<Asked>,
) -> Result<Json<Value>, Refusal> {
    let wanted = asked.session.unwrap_or_default();
    let deployment = deployment(wanted["model"].as_str().ok_or(Refusal::Missing("session.model"))?)?;
    let now = plane.control.tokens.now();
    let lifetime = asked.expires_after.and_then(|expiry| expiry.seconds).unwrap_or(LIFETIME);
    let expires_at = now.saturating_add(lifetime);
    let value = format!("{BEGINNING}{}", Uuid::new_v4().simple());
    plane.secrets.keep(value.clone(), caller, expires_at);
    let mut session = session::new(deployment, Dialect::V1, now);
    session::update(&mut session, &wanted);
    Ok(Json(json!({ "value": value, "expires_at": expires_at, "session": session })))
}

impl ClientSecrets {
    /// For whom a key was made, if it is good at second `now`.
    pub(in crate::emulator::openai) fn owner(&self, key: &str, now: u64) -> Option<Caller> {
        let secrets = self.0.open();
        let (owner, expires_at) = secrets.get(key)?;
        (now < *expires_at).then(|| owner.clone())
    }

    fn keep(&self, key: String, owner: Caller, expires_at: u64) {
        let mut secrets = self.0.open();
        if secrets.len() == KEPT {
            secrets.clear();
        }
        secrets.insert(key, (owner, expires_at));
    }
}
