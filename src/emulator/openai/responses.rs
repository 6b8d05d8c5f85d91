//! Responses, whole and streamed; what was answered can be fetched again.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::authorize::Caller;
use super::prompt::{Message, Prompt, words};
use super::sent::Sent;
use super::stream::{self, Event};
use super::{DataPlane, errors};
use crate::emulator::catalogue::{self, Deployment, Kind};
use crate::emulator::lock::Lock;

/// How many responses are kept; with more, all are forgotten.
const KEPT: usize = 1_000;

/// The responses that can be fetched again, by id.
#[derive(Debug, Default)]
pub(super) struct Stored(Lock<HashMap<String, Value>>);

/// What the client asks for; what the emulator does not need is ignored or repeated.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    model: Option<String>,
    input: Option<Input>,
    instructions: Option<String>,
    previous_response_id: Option<String>,
    metadata: Option<Value>,
    stream: Option<bool>,
    store: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Messages(Vec<Message>),
}

/// `POST /openai/v1/responses`
pub(super) async fn create(
    State(plane): State<Arc<DataPlane>>,
    Extension(caller): Extension<Caller>,
    Sent(asked): Sent<Asked>,
) -> Response {
    respond(&plane, &caller, asked).unwrap_or_else(|refusal| refusal)
}

/// `GET /openai/v1/responses/{id}`
pub(super) async fn retrieve(State(plane): State<Arc<DataPlane>>, Path(id): Path<String>) -> Response {
    match plane.responses.0.open().get(&id) {
        Some(response) => Json(response).into_response(),
        None => errors::item_not_found("Response", &id),
    }
}

/// `DELETE /openai/v1/responses/{id}`
pub(super) async fn delete(State(plane): State<Arc<DataPlane>>, Path(id): Path<String>) -> Response {
    match plane.responses.0.open().remove(&id) {
        Some(_) => Json(json!({ "id": id, "object": "response", "deleted": true })).into_response(),
        None => errors::item_not_found("Response", &id),
    }
}

fn respond(plane: &DataPlane, caller: &Caller, asked: Asked) -> Result<Response, Response> {
    let missing = |name: &str| errors::bad_request(&format!("Missing required parameter: '{name}'."), Some(name));
    let model = asked.model.as_deref().ok_or_else(|| missing("model"))?;
    let deployment = catalogue::deployment(model).ok_or_else(errors::deployment_not_found)?;
    if deployment.model.kind != Kind::Chat {
        return Err(errors::operation_not_supported("responses", deployment.model.name));
    }
    if let Some(previous) = &asked.previous_response_id
        && !plane.responses.0.open().contains_key(previous)
    {
        let message = format!("Previous response with id '{previous}' not found.");
        let (param, code) = (Some("previous_response_id"), "previous_response_not_found");
        return Err(errors::bad_request_with_code(&message, param, code));
    }
    let messages = match asked.input {
        Some(Input::Text(text)) => vec![Message::of_user(text)],
        Some(Input::Messages(messages)) => messages,
        None => return Err(missing("input")),
    };
    let prompt = Prompt::of(&messages);
    if prompt.filtered {
        return Err(errors::content_filter());
    }
    let answer = Answer::new(plane, deployment, &prompt, prompt.answer(deployment.name, caller), &asked.echo());
    if asked.store != Some(false) {
        plane.responses.keep(&answer.id, answer.completed());
    }
    if asked.stream == Some(true) {
        Ok(stream::answer(answer.events(), plane.word_delay))
    } else {
        Ok(Json(answer.completed()).into_response())
    }
}
