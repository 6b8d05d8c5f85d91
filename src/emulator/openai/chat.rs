//! Chat completions, whole and streamed.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::DataPlane;
use super::authorize::Caller;
use super::prompt::{Message, Prompt, tokens, words};
use super::refusal::Refusal;
use super::sent::Sent;
use super::stream::{self, Event};
use crate::emulator::catalogue::{self, Deployment, Kind};

/// What the client asks for; what the emulator does not need is ignored.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    model: Option<String>,
    messages: Option<Vec<Message>>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

/// `POST /openai/v1/chat/completions`: the body names the deployment.
pub(super) async fn create(
    State(plane): State<Arc<DataPlane>>,
    Extension(caller): Extension<Caller>,
    Sent(asked): Sent<Asked>,
) -> Result<Response, Refusal> {
    let model = asked.model.clone().ok_or(Refusal::Missing("model"))?;
    complete(&plane, &caller, &model, asked)
}

/// `POST /openai/deployments/{deployment}/chat/completions`: the path names the deployment.
pub(super) async fn create_on_deployment(
    State(plane): State<Arc<DataPlane>>,
    Extension(caller): Extension<Caller>,
    Path(deployment): Path<String>,
    Sent(asked): Sent<Asked>,
) -> Result<Response, Refusal> {
    complete(&plane, &caller, &deployment, asked)
}

fn complete(plane: &DataPlane, caller: &Caller, deployment: &str, asked: Asked) -> Result<Response, Refusal> {
    let deployment = catalogue::deployment(deployment).ok_or(Refusal::DeploymentNotFound)?;
    if deployment.model.kind != Kind::Chat {
        let model = deployment.model.name;
        return Err(Refusal::OperationNotSupported { operation: "chatCompletion", model });
    }
    let messages = asked.messages.filter(|messages| !messages.is_empty()).ok_or(Refusal::Missing("messages"))?;
    let prompt = Prompt::of(&messages);
    if prompt.filtered {
        return Err(Refusal::ContentFilter);
    }
    let completion = Completion::new(plane, caller, deployment, &prompt);
    if asked.stream == Some(true) {
        let with_usage = asked.stream_options.and_then(|options| options.include_usage) == Some(true);
        Ok(stream::answer(completion.events(with_usage), plane.word_delay))
    } else {
        Ok(Json(completion.whole()).into_response())
    }
}

/// One answer, in whichever form it is sent.
struct Completion {
    id: String,
    created: u64,
    model: String,
    text: String,
    prompt_tokens: usize,
}

impl Completion {
    fn new(plane: &DataPlane, caller: &Caller, deployment: Deployment, prompt: &Prompt) -> Self {
        Self {
            id: format!("chatcmpl-{}", Uuid::new_v4().simple()),
            created: plane.control.tokens.now(),
            model: deployment.model.id(),
            text: prompt.answer(deployment.name, caller),
            prompt_tokens: prompt.tokens,
        }
    }

    fn whole(&self) -> Value {
        json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": "fp_emulator",
            "prompt_filter_results": prompt_filter_results(),
            "choices": [{
                "index": 0,
                "finish_reason": "stop",
                "logprobs": null,
                "content_filter_results": content_filter_results(),
                "message": { "role": "assistant", "content": self.text, "refusal": null, "annotations": [] },
            }],
            "usage": self.usage(),
        })
    }

    /// Azure's stream: first what the filter thinks of the prompt, with no choice in it; then role, words and end.
    fn events(&self, with_usage: bool) -> Vec<Event> {
        let mut events = vec![
            Event::data(&json!({
                "id": "", "object": "", "created": 0, "model": "",
                "choices": [], "prompt_filter_results": prompt_filter_results(),
            })),
            Event::data(&self.chunk(&json!({ "role": "assistant", "content": "", "refusal": null }), None, with_usage)),
        ];
        for word in words(&self.text) {
            events.push(Event::data(&self.chunk(&json!({ "content": word }), None, with_usage)).spoken());
        }
        events.push(Event::data(&self.chunk(&json!({}), Some("stop"), with_usage)));
        if with_usage {
            let mut last = self.chunk(&json!({}), None, true);
            last["choices"] = json!([]);
            last["usage"] = self.usage();
            events.push(Event::data(&last));
        }
        events.push(Event::done());
        events
    }

    fn chunk(&self, delta: &Value, finish_reason: Option<&str>, with_usage: bool) -> Value {
        let filtered = if delta.get("content").is_some() { content_filter_results() } else { json!({}) };
        let mut chunk = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": "fp_emulator",
            "choices": [{
                "index": 0,
                "delta": delta,
                "finish_reason": finish_reason,
                "logprobs": null,
                "content_filter_results": filtered,
            }],
        });
        if with_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn usage(&self) -> Value {
        let completion_tokens = tokens(&self.text);
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": self.prompt_tokens + completion_tokens,
            "prompt_tokens_details": { "audio_tokens": 0, "cached_tokens": 0 },
            "completion_tokens_details": {
                "accepted_prediction_tokens": 0, "audio_tokens": 0, "reasoning_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        })
    }
}

fn prompt_filter_results() -> Value {
    let mut results = content_filter_results();
    results["jailbreak"] = json!({ "filtered": false, "detected": false });
    json!([{ "prompt_index": 0, "content_filter_results": results }])
}

fn content_filter_results() -> Value {
    let safe = json!({ "filtered": false, "severity": "safe" });
    json!({ "hate": safe, "self_harm": safe, "sexual": safe, "violence": safe })
}
