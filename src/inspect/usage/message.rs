//! One JSON object of the resource that may tell a cost: an answer, an event, or a message of a session.

use std::mem;

use super::counted::Cost;
use crate::inspect::scan::text;
use crate::inspect::skim::{Found, Place, Skim};

/// The longest name that is kept, in bytes.
const LONGEST_NAME: usize = 256;
/// As it is written: each byte may be an escape of six.
const LONGEST_TEXT: usize = 6 * LONGEST_NAME + 2;
/// How much of a usage object is kept.
pub(super) const LONGEST_USAGE: usize = 4096;

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Usage,
    UsageOfResponse,
    Model,
    Response,
    ModelOfSession,
    Transcriber,
}

const MODEL: Place<What> = name(What::Model, &["model"]);
const MODEL_OF_RESPONSE: Place<What> = name(What::Model, &["response", "model"]);
const USAGE: Place<What> = Place { what: What::Usage, path: &["usage"], most: LONGEST_USAGE };
const USAGE_OF_RESPONSE: Place<What> =
    Place { what: What::UsageOfResponse, path: &["response", "usage"], most: LONGEST_USAGE };

/// Where an answer tells it.
pub(super) const ANSWER: &[Place<What>] = &[MODEL, USAGE];
/// Where an event of a stream does: those of the Responses API hold all of the response, one level down.
pub(super) const EVENT: &[Place<What>] = &[MODEL, USAGE, MODEL_OF_RESPONSE, USAGE_OF_RESPONSE];
/// Where messages over a WebSocket do. Realtime sessions tell the models when they begin or change, in one of two shapes.
pub(super) const MESSAGE: &[Place<What>] = &[
    USAGE,
    MODEL_OF_RESPONSE,
    USAGE_OF_RESPONSE,
    name(What::Response, &["response", "id"]),
    name(What::ModelOfSession, &["session", "model"]),
    name(What::Transcriber, &["session", "audio", "input", "transcription", "model"]),
    name(What::Transcriber, &["session", "input_audio_transcription", "model"]),
];

const fn name(what: What, path: &'static [&'static str]) -> Place<What> {
    Place { what, path, most: LONGEST_TEXT }
}

/// One object, of which some is yet to come.
#[derive(Debug)]
pub(super) struct Message {
    skim: Skim<What>,
    said: Said,
}

/// What an object says.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) cost: Cost,
    /// The cost is that of a response.
    pub(super) is_of_response: bool,
    pub(super) model: Option<String>,
    /// The response's id.
    pub(super) response: Option<String>,
    pub(super) model_of_session: Option<String>,
    /// The model that writes down what a session hears.
    pub(super) transcriber: Option<String>,
}

impl Message {
    pub(super) fn new(places: &'static [Place<What>]) -> Self {
        Self { skim: Skim::new(places), said: Said::default() }
    }

    pub(super) fn read(&mut self, mut piece: &[u8]) {
        let Self { skim, said } = self;
        while let Some(found) = skim.next(&mut piece, |what, json| said.take(what, json)) {
            said.note(&found);
        }
    }

    /// Whether nothing but blanks has been read.
    pub(super) fn is_at_start(&self) -> bool {
        self.skim.is_at_start()
    }

    /// Whether it turned out that this is no JSON object.
    pub(super) fn is_lost(&self) -> bool {
        self.skim.is_lost()
    }

    /// What the object says, once it is complete.
    pub(super) fn whole(&self) -> Option<&Said> {
        self.skim.has_ended().then_some(&self.said)
    }

    /// What the object says if it is complete here, and begins with another one.
    pub(super) fn end(&mut self) -> Option<Said> {
        if self.is_at_start() {
            return None;
        }
        let has_ended = self.skim.has_ended();
        self.skim.restart();
        let said = mem::take(&mut self.said);
        has_ended.then_some(said)
    }

    #[cfg(test)]
    pub(super) fn retained(&self) -> usize {
        let Said { model, response, model_of_session, transcriber, .. } = &self.said;
        let names = [model, response, model_of_session, transcriber];
        self.skim.retained() + names.into_iter().flatten().map(String::capacity).sum::<usize>()
    }
}

impl Said {
    /// Takes a usage that stands at the beginning of `json` as they nearly always do, and says how long it is.
    fn take(&mut self, what: What, json: &[u8]) -> Option<usize> {
        if !matches!(what, What::Usage | What::UsageOfResponse) {
            return None;
        }
        let (cost, length) = Cost::plain(json)?;
        self.cost = cost;
        self.is_of_response = what == What::UsageOfResponse;
        Some(length)
    }

    fn note(&mut self, found: &Found<'_, What>) {
        let name = match found.what {
            What::Usage | What::UsageOfResponse => {
                if found.json != Some(b"null") {
                    self.cost = Cost::read(found.json);
                    self.is_of_response = found.what == What::UsageOfResponse;
                }
                return;
            }
            What::Model => &mut self.model,
            What::Response => &mut self.response,
            What::ModelOfSession => &mut self.model_of_session,
            What::Transcriber => &mut self.transcriber,
        };
        if name.is_none() {
            *name =
                found.json.and_then(told).filter(|told| !told.is_empty() && told.len() <= LONGEST_NAME).map(visible);
        }
    }
}

/// The text that is written as `json`.
fn told(json: &[u8]) -> Option<String> {
    text(json).map(str::to_owned).or_else(|| serde_json::from_slice(json).ok())
}

/// A name of which everything can be seen: it is counted by, written to files and shown. What ends a line, turns the direction
/// of what follows or is not there to the eye would make it look like another, or worse. Here, where names come in.
fn visible(name: String) -> String {
    let is_seen = |character: char| character.is_ascii_graphic() || character == ' ' || character.is_alphanumeric();
    let is_plain = name.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if is_plain || name.chars().all(is_seen) {
        return name;
    }
    name.chars().map(|character| if is_seen(character) { character } else { char::REPLACEMENT_CHARACTER }).collect()
}
