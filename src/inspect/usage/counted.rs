//! A usage object of the OpenAI API, in each of its spellings.

mod plain;

use serde::Deserialize;

/// No response costs more tokens.
const MOST_TOKENS: u64 = 1 << 40;

/// What a response has cost, in tokens. Those of sound and images are among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// What was sent.
    pub input: u64,
    /// How much of that the resource had still in mind.
    pub cached: u64,
    /// What was answered.
    pub output: u64,
    /// How much of that was thought and not said.
    pub reasoning: u64,
}

/// What is known of the cost of a response.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// Nothing.
    #[default]
    Untold,
    /// It was told, but not in tokens (some transcriptions cost seconds), or in a way that makes no sense.
    Unclear,
    /// It was told.
    Told(Usage),
}

impl Usage {
    /// Everything that was sent and answered.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

impl Cost {
    /// What a usage object says, if it is one and not absurd.
    pub(super) fn read(json: Option<&[u8]>) -> Self {
        Self::of(json.and_then(|json| serde_json::from_slice(json).ok()))
    }

    /// The same of one at the beginning of `json`, which may go on, and how long it is: if it is written as they nearly always
    /// are.
    pub(super) fn plain(json: &[u8]) -> Option<(Self, usize)> {
        let (counted, length) = plain::counted(json)?;
        Some((Self::of(Some(counted)), length))
    }

    fn of(counted: Option<Counted>) -> Self {
        counted.and_then(Counted::usage).map_or(Self::Unclear, Self::Told)
    }
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
struct Counted {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    total_tokens: Option<u64>,
    prompt_tokens_details: Option<Details>,
    completion_tokens_details: Option<Details>,
    input_tokens_details: Option<Details>,
    output_tokens_details: Option<Details>,
    // Transcriptions and realtime sessions spell them so.
    input_token_details: Option<Details>,
    output_token_details: Option<Details>,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
struct Details {
    cached_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
}

impl Counted {
    fn usage(self) -> Option<Usage> {
        let (input, output) = (self.input_tokens.or(self.prompt_tokens), self.output_tokens.or(self.completion_tokens));
        input.or(output)?;
        let of_input = self.input_tokens_details.or(self.input_token_details).or(self.prompt_tokens_details);
        let of_output = self.output_tokens_details.or(self.output_token_details).or(self.completion_tokens_details);
        let input = input.unwrap_or_default();
        let mut output = output.unwrap_or_default();
        let cached = of_input.and_then(|details| details.cached_tokens).unwrap_or_default();
        let reasoning = of_output.and_then(|details| details.reasoning_tokens).unwrap_or_default();
        // Grok's thoughts are not among its completion tokens, as only the total shows.
        let with_thoughts = output.checked_add(reasoning)?;
        if reasoning > output || self.total_tokens == input.checked_add(with_thoughts) {
            output = with_thoughts;
        }
        let usage = Usage { input, cached: cached.min(input), output, reasoning };
        (input.max(output) <= MOST_TOKENS).then_some(usage)
    }
}
