//! The settings of a conversation, as events show them.

use serde_json::{Value, json};
use uuid::Uuid;

use super::dialect::Dialect;
use crate::emulator::catalogue::Deployment;

/// How long a conversation may last, in seconds.
const LIFETIME: u64 = 3_600;

/// The settings that a conversation begins with, at second `now`.
pub(super) fn new(deployment: Deployment, dialect: Dialect, now: u64) -> Value {
    let mut session = json!({
        "id": format!("sess_{}", Uuid::new_v4().simple()),
        "object": "realtime.session",
        "model": deployment.name,
        "instructions": "You are an emulated model: repeat what you are told.",
        "tools": [],
        "tool_choice": "auto",
        "expires_at": now + LIFETIME,
    });
    session[dialect.modalities()] = json!(["text"]);
    if dialect == Dialect::V1 {
        session["type"] = json!("realtime");
        session["max_output_tokens"] = json!("inf");
        session["tracing"] = Value::Null;
        session["audio"] = json!({
            "input": { "format": { "type": "audio/pcm", "rate": 24_000 }, "turn_detection": null },
            "output": { "format": { "type": "audio/pcm", "rate": 24_000 }, "voice": "alloy", "speed": 1.0 },
        });
    }
    session
}

/// Takes over what a client wants to be different.
pub(super) fn update(session: &mut Value, wanted: &Value) {
    if let (Some(session), Some(wanted)) = (session.as_object_mut(), wanted.as_object()) {
        session.extend(wanted.clone());
    }
}
