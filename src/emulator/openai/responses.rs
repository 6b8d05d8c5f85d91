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
use super::prompt::{Message, Prompt};
use super::refusal::Refusal;
use super::response::Answer;
use super::sent::Sent;
use super::{DataPlane, stream};
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

/// `GET /openai/v1/responses/{id}`
pub(super) async fn retrieve(
    State(plane): State<Arc<DataPlane>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    plane.responses.find(&id).map(Json).ok_or(Refusal::ItemNotFound { kind: "Response", id })
}

/// `DELETE /openai/v1/responses/{id}`
pub(super) async fn delete(
    State(plane): State<Arc<DataPlane>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    match plane.responses.0.open().remove(&id) {
        Some(_) => Ok(Json(json!({ "id": id, "object": "response", "deleted": true }))),
        None => Err(Refusal::ItemNotFound { kind: "Response", id }),
    }
}

/// `POST /openai/v1/responses`
pub(super) async fn create(
    State(plane): State<Arc<DataPlane>>,
    Extension(caller): Extension<Caller>,
    Sent(asked): Sent<Asked>,
) -> Result<Response, Refusal> {
    let streamed = asked.stream == Some(true);
    let answer = respond(&plane, &caller, asked)?;
    if streamed {
        Ok(stream::answer(answer.events(), plane.word_delay))
    } else {
        Ok(Json(answer.completed()).into_response())
    }
}

/// What the emulated model answers; it is kept unless the client does not want that.
pub(super) fn respond(plane: &DataPlane, caller: &Caller, mut asked: Asked) -> Result<Answer, Refusal> {
    let deployment = asked.deployment()?;
    if let Some(previous) = &asked.previous_response_id
        && plane.responses.find(previous).is_none()
    {
        return Err(Refusal::PreviousResponseNotFound(previous.clone()));
    }
    let messages = match asked.input.take() {
        Some(Input::Text(text)) => vec![Message::of_user(text)],
        Some(Input::Messages(messages)) => messages,
        None => return Err(Refusal::Missing("input")),
    };
    let prompt = Prompt::of(&messages);
    if prompt.filtered {
        return Err(Refusal::ContentFilter);
    }
    let store = asked.store != Some(false);
    let answer = Answer {
        id: format!("resp_{}", Uuid::new_v4().simple()),
        item_id: format!("msg_{}", Uuid::new_v4().simple()),
        created: plane.control.tokens.now(),
        text: prompt.answer(deployment.name, caller),
        input_tokens: prompt.tokens,
        repeated: asked.repeated(deployment.name, store),
    };
    if store {
        plane.responses.keep(&answer.id, answer.completed());
    }
    Ok(answer)
}

impl Asked {
    fn deployment(&self) -> Result<Deployment, Refusal> {
        let model = self.model.as_deref().ok_or(Refusal::Missing("model"))?;
        let deployment = catalogue::deployment(model).ok_or(Refusal::DeploymentNotFound)?;
        if deployment.model.kind == Kind::Chat {
            Ok(deployment)
        } else {
            Err(Refusal::OperationNotSupported { operation: "responses", model: deployment.model.name })
        }
    }

    /// What every response repeats of its request.
    fn repeated(self, deployment: &str, store: bool) -> Value {
        json!({
            "model": deployment,
            "instructions": self.instructions,
            "previous_response_id": self.previous_response_id,
            "metadata": self.metadata.unwrap_or_else(|| json!({})),
            "store": store,
        })
    }
}

impl Stored {
    fn find(&self, id: &str) -> Option<Value> {
        self.0.open().get(id).cloned()
    }

    fn keep(&self, id: &str, response: Value) {
        let mut responses = self.0.open();
        if responses.len() == KEPT {
            responses.clear();
        }
        responses.insert(id.to_owned(), response);
    }
}
