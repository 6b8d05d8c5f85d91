//! How many tokens a response has cost: as the resource says, or at a guess where it does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::header::{CONTENT_TYPE, HeaderMap};

use crate::inspect::usage::{Usage, UsageReader};

/// Bytes of text that make a token, roughly.
const BYTES_A_TOKEN: u64 = 4;

/// Counts what one response costs.
#[derive(Debug)]
pub struct Meter {
    usage: UsageReader,
    /// What it is guessed by, where it matters however little the resource says.
    guess: Option<Guess>,
}

#[derive(Debug)]
struct Guess {
    sent: Sent,
    /// Bytes of the response.
    received: u64,
    is_text: bool,
}

impl Meter {
    /// Of a response with `fields` to a request that is sent so, if that is counted.
    #[must_use]
    pub fn new(sent: Option<Sent>, fields: &HeaderMap) -> Self {
        let is_text = || is_of_kind(fields, &["application/json", "text/event-stream"]);
        let guess = sent.map(|sent| Guess { sent, received: 0, is_text: is_text() });
        Self { usage: UsageReader::of(fields), guess }
    }

    /// Content of the response goes by.
    pub fn read(&mut self, content: &[u8]) {
        if let Some(guess) = &mut self.guess {
            guess.received += content.len() as u64;
        }
        self.usage.read(content);
    }

    /// What the resource says that it has cost.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.usage.usage()
    }

    /// The model that the resource says has answered.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.usage.model()
    }

    /// How many tokens it were, if that is counted. Where the resource does not say (a stream without
    /// `stream_options.include_usage`, one that was left, content that is compressed), a guess: an event of a stream is a token,
    /// and so are four bytes of text.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        let Some(guess) = &self.guess else { return 0 };
        if let Some(usage) = self.usage() {
            return usage.total();
        }
        let answered = match self.usage.events() {
            0 if guess.is_text => guess.received / BYTES_A_TOKEN,
            events => events,
        };
        guess.sent.tokens().saturating_add(answered)
    }
}

/// What a request's content is, as it passes.
#[derive(Debug, Clone)]
pub struct Sent {
    bytes: Arc<AtomicU64>,
    is_text: bool,
}

impl Sent {
    /// Content of a request with `fields`, of which nothing has passed.
    #[must_use]
    pub fn new(fields: &HeaderMap) -> Self {
        Self { bytes: Arc::default(), is_text: is_of_kind(fields, &["application/json"]) }
    }

    /// More has passed.
    pub fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How many tokens that makes, at a guess.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        if self.is_text { self.bytes.load(Ordering::Relaxed) / BYTES_A_TOKEN } else { 0 }
    }
}

/// Whether the content that `fields` describe is of one of these kinds.
pub(super) fn is_of_kind(fields: &HeaderMap, kinds: &[&str]) -> bool {
    let begins = |value: &[u8], kind: &str| {
        value.get(..kind.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(kind.as_bytes()))
    };
    fields.get(CONTENT_TYPE).is_some_and(|value| kinds.iter().any(|kind| begins(value.as_bytes(), kind)))
}
