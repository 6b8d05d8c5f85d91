//! One response object, whole and as the typed events of a stream.

use serde_json::{Value, json};

use super::prompt::{tokens, words};
use super::stream::Event;

/// What the emulated model answers, with all that surrounds it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) id: String,
    pub(super) item_id: String,
    pub(super) created: u64,
    pub(super) text: String,
    pub(super) input_tokens: usize,
    /// What the response repeats of its request.
    pub(super) repeated: Value,
}

impl Answer {
    /// The response at its end.
    pub(super) fn completed(&self) -> Value {
        let output_tokens = tokens(&self.text);
        let usage = json!({
            "input_tokens": self.input_tokens,
            "input_tokens_details": { "cached_tokens": 0, "cache_write_tokens": 0 },
            "output_tokens": output_tokens,
            "output_tokens_details": { "reasoning_tokens": 0 },
            "total_tokens": self.input_tokens + output_tokens,
        });
        self.object("completed", &json!([self.item("completed", &json!([Self::part(&self.text)]))]), &usage)
    }

    /// The response as a stream, each event with its number.
    pub(super) fn events(&self) -> Vec<Event> {
        let begun = self.object("in_progress", &json!([]), &Value::Null);
        let part = Self::part(&self.text);
        let mut events = vec![
            json!({ "type": "response.created", "response": begun }),
            json!({ "type": "response.in_progress", "response": begun }),
            json!({
                "type": "response.output_item.added", "output_index": 0, "item": self.item("in_progress", &json!([])),
            }),
            self.within("response.content_part.added", "part", Self::part("")),
        ];
        let first_word = events.len();
        let deltas = words(&self.text).into_iter().map(Value::String);
        events.extend(deltas.map(|word| self.within("response.output_text.delta", "delta", word)));
        let last_word = events.len() - 1;
        events.extend([
            self.within("response.output_text.done", "text", Value::String(self.text.clone())),
            self.within("response.content_part.done", "part", part.clone()),
            json!({
                "type": "response.output_item.done",
                "output_index": 0,
                "item": self.item("completed", &json!([part])),
            }),
            json!({ "type": "response.completed", "response": self.completed() }),
        ]);
        let numbered = events.into_iter().enumerate().map(|(number, mut event)| {
            event["sequence_number"] = json!(number);
            let is_word = (first_word..=last_word).contains(&number);
            if is_word { Event::typed(&event).spoken() } else { Event::typed(&event) }
        });
        numbered.collect()
    }

    /// An event about the one text of the one message.
    fn within(&self, kind: &str, name: &str, value: Value) -> Value {
        let mut event = json!({ "type": kind, "item_id": self.item_id, "output_index": 0, "content_index": 0 });
        if name != "part" {
            event["logprobs"] = json!([]);
        }
        event[name] = value;
        event
    }

    fn object(&self, status: &str, output: &Value, usage: &Value) -> Value {
        let mut object = json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": false,
            "error": null,
            "incomplete_details": null,
            "max_output_tokens": null,
            "output": output,
            "parallel_tool_calls": true,
            "reasoning": { "effort": null, "summary": null },
            "service_tier": "default",
            "temperature": 1.0,
            "text": { "format": { "type": "text" } },
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": usage,
            "user": null,
        });
        if let (Some(object), Some(repeated)) = (object.as_object_mut(), self.repeated.as_object()) {
            object.extend(repeated.clone());
        }
        object
    }

    fn item(&self, status: &str, content: &Value) -> Value {
        json!({ "id": self.item_id, "type": "message", "status": status, "role": "assistant", "content": content })
    }

    fn part(text: &str) -> Value {
        json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_numbered_from_zero() {
        let answer = Answer {
            id: "resp_1".to_owned(),
            item_id: "msg_1".to_owned(),
            created: 0,
            text: "two words".to_owned(),
            input_tokens: 1,
            repeated: json!({ "model": "gpt-4o" }),
        };
        assert_eq!(answer.events().len(), 4 + 2 + 4);
        assert_eq!(answer.completed()["output"][0]["content"][0]["text"], "two words");
        assert_eq!(answer.completed()["model"], "gpt-4o");
    }
}
