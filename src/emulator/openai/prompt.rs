//! What the client said, what the emulated model answers, and how many tokens both would have cost.

use serde::Deserialize;
use serde_json::Value;

use super::authorize::Caller;

/// A prompt with this word in it meets the content filter.
pub const CONTENT_FILTER_MARKER: &str = "[[content-filter]]";

/// How much of the last message an answer repeats.
const REPEATED: usize = 2_000;

/// Roughly how many characters make a token.
const CHARACTERS_PER_TOKEN: usize = 4;

/// One message of a conversation; its content is a text or a list of parts.
#[derive(Debug, Deserialize)]
pub(super) struct Message {
    #[serde(default)]
    role: String,
    #[serde(default)]
    content: Value,
}

/// What of a conversation matters to the emulated model.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Prompt {
    /// The last thing the user said.
    pub(super) last: String,
    /// Roughly the size of the whole conversation.
    pub(super) tokens: usize,
    /// Whether the content filter objects.
    pub(super) filtered: bool,
}

impl Message {
    /// What a user says.
    pub(super) fn of_user(text: String) -> Self {
        Self { role: "user".to_owned(), content: Value::String(text) }
    }
}

impl Prompt {
    /// Reads a conversation.
    pub(super) fn of(messages: &[Message]) -> Self {
        let texts: Vec<_> = messages.iter().map(|message| (&message.role, text(&message.content))).collect();
        let last = texts.iter().rfind(|(role, _)| *role == "user").map(|(_, text)| text.clone());
        Self {
            last: last.unwrap_or_default(),
            tokens: texts.iter().map(|(_, text)| tokens(text) + CHARACTERS_PER_TOKEN).sum(),
            filtered: texts.iter().any(|(_, text)| text.contains(CONTENT_FILTER_MARKER)),
        }
    }

    /// What the emulated model says to it.
    pub(super) fn answer(&self, deployment: &str, caller: &Caller) -> String {
        let said: String = self.last.chars().take(REPEATED).collect();
        let more = if said.len() < self.last.len() { " …" } else { "" };
        let Caller { object_id, audience } = caller;
        format!(
            "You said: {said}{more}\n\nThis is the deployment {deployment} of an emulated Azure OpenAI resource. The \
             request came with a valid Microsoft Entra token: its principal is {object_id} and it is for {audience}."
        )
    }
}

/// Roughly how many tokens `text` has.
pub(super) fn tokens(text: &str) -> usize {
    text.len().div_ceil(CHARACTERS_PER_TOKEN)
}

/// The words of `text`, each with the space behind it.
pub(super) fn words(text: &str) -> Vec<String> {
    text.split_inclusive(' ').map(str::to_owned).collect()
}

fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn prompt(messages: Value) -> Prompt {
        Prompt::of(&serde_json::from_value::<Vec<Message>>(messages).unwrap())
    }

    #[test]
    fn the_last_user_message_counts() {
        let prompt = prompt(json!([
            { "role": "user", "content": "first" },
            { "role": "user", "content": [{ "type": "text", "text": "second" }, { "type": "image_url" }] },
            { "role": "assistant", "content": null },
        ]));
        assert_eq!(prompt.last, "second");
        assert!(!prompt.filtered);
    }

    #[test]
    fn the_marker_meets_the_filter_in_any_message() {
        assert!(prompt(json!([{ "role": "system", "content": format!("x {CONTENT_FILTER_MARKER} y") }])).filtered);
    }

    #[test]
    fn words_put_together_are_the_text() {
        let text = "You said: hello\n\nThis is  it.";
        assert_eq!(words(text).concat(), text);
    }
}
