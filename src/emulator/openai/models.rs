//! The data plane's list of models: those of the region, not the account's deployments.

use axum::Json;
use axum::extract::Path;
use serde_json::{Value, json};

use super::refusal::Refusal;
use crate::emulator::catalogue::{Kind, MODELS, Model};

/// `GET /openai/v1/models`
pub(super) async fn list() -> Json<Value> {
    let models: Vec<_> = MODELS.iter().map(entry).collect();
    Json(json!({ "object": "list", "data": models }))
}

/// `GET /openai/v1/models/{id}`
pub(super) async fn retrieve(Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    let model = MODELS.iter().find(|model| model.id() == id);
    model.map(|model| Json(entry(model))).ok_or(Refusal::ItemNotFound { kind: "Model", id })
}

fn entry(model: &Model) -> Value {
    let chat = model.kind == Kind::Chat;
    json!({
        "id": model.id(),
        "object": "model",
        "created": model.created,
        "created_at": model.created,
        "owned_by": "system",
        "status": "succeeded",
        "lifecycle_status": "generally-available",
        "deprecation": { "inference": model.retires() },
        "capabilities": {
            "fine_tune": false,
            "inference": true,
            "completion": false,
            "chat_completion": chat,
            "embeddings": matches!(model.kind, Kind::Embeddings { .. }),
        },
    })
}
