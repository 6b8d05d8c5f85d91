//! One realtime conversation: what a client's events change, and which events answer them.

use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use super::dialect::Dialect;
use super::reply::Reply;
use super::session;
use crate::emulator::catalogue::Deployment;
use crate::emulator::openai::DataPlane;
use crate::emulator::openai::authorize::Caller;
use crate::emulator::openai::prompt::{Message, Prompt};
use crate::emulator::openai::socket::Conversation;
use crate::emulator::openai::stream::Event;

/// The emulator's part of it.
pub(super) struct Realtime {
    caller: Caller,
    deployment: Deployment,
    dialect: Dialect,
    id: String,
    session: Value,
    messages: Vec<Message>,
    last_item: Option<String>,
}

/// Why an event of the client's cannot be answered as it wishes.
struct Complaint {
    code: &'static str,
    param: Option<&'static str>,
    message: String,
}

impl Realtime {
    pub(super) fn new(plane: &Arc<DataPlane>, caller: Caller, deployment: Deployment, dialect: Dialect) -> Self {
        Self {
            caller,
            deployment,
            dialect,
            id: new_id("conv"),
            session: session::new(deployment, dialect, plane.control.tokens.now()),
            messages: Vec::new(),
            last_item: None,
        }
    }

    fn events(&mut self, said: &Value) -> Result<Vec<Event>, Complaint> {
        match said["type"].as_str() {
            Some("session.update") => {
                session::update(&mut self.session, &said["session"]);
                Ok(vec![event("session.updated", json!({ "session": self.session }))])
            }
            Some("conversation.item.create") => self.add_item(&said["item"]),
            // Nobody listens.
            Some("input_audio_buffer.append") => Ok(Vec::new()),
            Some("input_audio_buffer.clear") => Ok(vec![event("input_audio_buffer.cleared", json!({}))]),
            Some("response.create") => Ok(self.reply(&said["response"])),
            Some("response.cancel") => Err(Complaint {
                code: "response_cancel_not_active",
                param: None,
                message: "Cancellation failed: no active response found".to_owned(),
            }),
            other => Err(Complaint {
                code: "invalid_value",
                param: Some("type"),
                message: format!("Invalid value: '{}'.", other.unwrap_or_default()),
            }),
        }
    }

    fn add_item(&mut self, item: &Value) -> Result<Vec<Event>, Complaint> {
        let message = serde_json::from_value(item.clone()).ok().filter(|_| item["type"].is_string());
        let message: Message = message.ok_or_else(|| Complaint {
            code: "missing_required_parameter",
            param: Some("item.type"),
            message: "Missing required parameter: 'item.type'.".to_owned(),
        })?;
        let mut item = item.clone();
        if !item["id"].is_string() {
            item["id"] = json!(new_id("item"));
        }
        item["object"] = json!("realtime.item");
        item["status"] = json!("completed");
        self.messages.push(message);
        Ok(self.announce(&item))
    }

    /// The events that tell of `item`, which is the last one from now on.
    fn announce(&mut self, item: &Value) -> Vec<Event> {
        let previous = self.last_item.take();
        self.last_item = item["id"].as_str().map(str::to_owned);
        let fields = json!({ "previous_item_id": previous, "item": item });
        self.dialect.item_is_there().iter().map(|name| event(name, fields.clone())).collect()
    }

    fn reply(&mut self, wanted: &Value) -> Vec<Event> {
        let prompt = Prompt::of(&self.messages);
        let reply = Reply {
            id: new_id("resp"),
            item_id: new_id("item"),
            conversation_id: self.id.clone(),
            previous_item_id: self.last_item.clone(),
            dialect: self.dialect,
            text: prompt.answer(self.deployment.name, &self.caller),
            input_tokens: prompt.tokens,
            metadata: wanted["metadata"].clone(),
        };
        self.last_item = Some(reply.item_id.clone());
        reply.events()
    }
}

impl Conversation for Realtime {
    fn greeting(&mut self) -> Vec<Event> {
        vec![event("session.created", json!({ "session": self.session }))]
    }

    fn answer(&mut self, said: &[u8]) -> Vec<Event> {
        let said = serde_json::from_slice::<Value>(said).unwrap_or_default();
        self.events(&said).unwrap_or_else(|complaint| vec![complaint.about(&said)])
    }
}

impl Complaint {
    fn about(self, said: &Value) -> Event {
        let Self { code, param, message } = self;
        let error = json!({
            "type": "invalid_request_error", "code": code, "message": message, "param": param,
            "event_id": said["event_id"],
        });
        event("error", json!({ "error": error }))
    }
}

/// An event with these fields, and an id of its own.
pub(super) fn event(kind: &str, mut fields: Value) -> Event {
    fields["type"] = json!(kind);
    fields["event_id"] = json!(new_id("event"));
    Event::typed(&fields)
}

fn new_id(kind: &str) -> String {
    format!("{kind}_{}", Uuid::new_v4().simple())
}
