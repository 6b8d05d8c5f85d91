//! What models can do, in one word each.

use std::collections::BTreeSet;

use clap::ValueEnum;
use serde::Serialize;
use serde_json::Value;

use crate::management::Capabilities;

/// What a model can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Capability {
    Chat,
    Responses,
    Completion,
    Embeddings,
    Realtime,
    Audio,
    Images,
    Video,
    Rerank,
    Assistants,
    Agents,
    FineTune,
}

impl Capability {
    /// The words for what ARM says. What it says besides, such as how much at once, has none.
    pub(super) fn of(capabilities: &Capabilities) -> BTreeSet<Self> {
        let said = capabilities.iter().filter(|(_, value)| is_true(value));
        said.filter_map(|(name, _)| Self::named(name)).collect()
    }

    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "chatCompletion" => Self::Chat,
            "responses" => Self::Responses,
            "completion" => Self::Completion,
            "embeddings" => Self::Embeddings,
            "realtime" => Self::Realtime,
            "audio" | "audioTranscriptions" | "audioTranslations" | "audioSpeech" => Self::Audio,
            "imageGenerations" | "imageEdits" | "imageVariations" => Self::Images,
            "videoGenerations" => Self::Video,
            "rerank" => Self::Rerank,
            "assistants" => Self::Assistants,
            "agents" | "agentsV2" => Self::Agents,
            "fineTune" => Self::FineTune,
            _ => return None,
        })
    }

    pub(super) fn word(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// ARM writes even `true` as a text.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Bool(value) => *value,
        Value::String(text) => text.eq_ignore_ascii_case("true"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_true_has_a_word() {
        let said = json!({
            "chatCompletion": "true", "responses": true, "fineTune": "True", "embeddings": "false", "realtime": false,
            "maxContextToken": "128000", "area": "EUR", "something": "true", "audio": null,
        });
        let words: Vec<_> = Capability::of(&serde_json::from_value(said).expect("capabilities")).into_iter().collect();
        assert_eq!(words, [Capability::Chat, Capability::Responses, Capability::FineTune]);
        assert_eq!(Capability::FineTune.word(), "fine-tune");
        assert_eq!(json!(Capability::FineTune), "fine-tune", "one word everywhere");
    }
}
