//! What the emulated model says in a realtime conversation, as the events of one response.

use serde_json::{Value, json};

use super::conversation::event;
use super::dialect::Dialect;
use crate::emulator::openai::prompt::{tokens, words};
use crate::emulator::openai::stream::Event;

/// One response with one message in text.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) id: String,
    pub(super) item_id: String,
    pub(super) conversation_id: String,
    pub(super) previous_item_id: Option<String>,
    pub(super) dialect: Dialect,
    pub(super) text: String,
    pub(super) input_tokens: usize,
    /// What the client wants to find on the response again.
    pub(super) metadata: Value,
}

impl Reply {
    /// The response from its beginning to its end.
    pub(super) fn events(&self) -> Vec<Event> {
        let begun = self.item("in_progress", &json!([]));
        let said = self.item("completed", &json!([{ "type": self.dialect.said(), "text": self.text }]));
        let [beginning @ .., end] = self.dialect.item_is_there() else { return Vec::new() };
        let added = beginning.first().unwrap_or(end);
        let mut events = vec![
            event("response.created", json!({ "response": self.object("in_progress", &json!([]), &Value::Null) })),
            self.within("response.output_item.added", &[("item", begun.clone())]),
            self.in_conversation(added, &begun),
            self.within("response.content_part.added", &[("content_index", json!(0)), ("part", part(""))]),
        ];
        events.extend(words(&self.text).into_iter().map(|word| {
            let fields = [("item_id", json!(self.item_id)), ("content_index", json!(0)), ("delta", json!(word))];
            self.within(self.dialect.text_delta(), &fields).spoken()
        }));
        let whole = [("item_id", json!(self.item_id)), ("content_index", json!(0)), ("text", json!(self.text))];
        events.push(self.within(self.dialect.text_done(), &whole));
        let whole = [("item_id", json!(self.item_id)), ("content_index", json!(0)), ("part", part(&self.text))];
        events.push(self.within("response.content_part.done", &whole));
        events.push(self.within("response.output_item.done", &[("item", said.clone())]));
        if added != end {
            events.push(self.in_conversation(end, &said));
        }
        let done = self.object("completed", &json!([said]), &self.usage());
        events.push(event("response.done", json!({ "response": done })));
        events
    }

    fn within(&self, kind: &str, fields: &[(&str, Value)]) -> Event {
        let mut event_fields = json!({ "response_id": self.id, "output_index": 0 });
        for (name, value) in fields {
            event_fields[*name] = value.clone();
        }
        event(kind, event_fields)
    }

    fn in_conversation(&self, kind: &str, item: &Value) -> Event {
        event(kind, json!({ "previous_item_id": self.previous_item_id, "item": item }))
    }

    fn object(&self, status: &str, output: &Value, usage: &Value) -> Value {
        let mut object = json!({
            "id": self.id,
            "object": "realtime.response",
            "status": status,
            "status_details": null,
            "conversation_id": self.conversation_id,
            "max_output_tokens": "inf",
            "output": output,
            "usage": usage,
            "metadata": self.metadata,
        });
        object[self.dialect.modalities()] = json!(["text"]);
        object
    }

    fn item(&self, status: &str, content: &Value) -> Value {
        json!({
            "id": self.item_id, "object": "realtime.item", "type": "message", "status": status, "role": "assistant",
            "content": content,
        })
    }

    fn usage(&self) -> Value {
        let output_tokens = tokens(&self.text);
        json!({
            "total_tokens": self.input_tokens + output_tokens,
            "input_tokens": self.input_tokens,
            "output_tokens": output_tokens,
            "input_token_details": {
                "text_tokens": self.input_tokens, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 0,
                "cached_tokens_details": { "text_tokens": 0, "audio_tokens": 0, "image_tokens": 0 },
            },
            "output_token_details": { "text_tokens": output_tokens, "audio_tokens": 0 },
        })
    }
}

fn part(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}
