//! What the resource says that its responses have cost, and which model has answered: in JSON, in events and over WebSockets.

mod counted;
mod message;
mod socket;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use memchr::memmem::Finder;

pub use self::counted::{Cost, Usage};
use self::message::{ANSWER, EVENT, Message, Said};
pub use self::socket::SocketUsageReader;
use super::events::{Events, Part};

/// Reads a response's content for its usage, whatever form it has. Content that is something else has none.
#[derive(Debug)]
pub struct UsageReader {
    form: Form,
    /// What events have told.
    cost: Cost,
    model: Option<String>,
    events: u64,
}

#[derive(Debug)]
enum Form {
    Json(Box<Message>),
    Events { events: Events, message: Box<Message> },
    Unreadable,
}

impl UsageReader {
    /// A reader of the content that `fields` describe.
    #[must_use]
    pub fn of(fields: &HeaderMap) -> Self {
        let message = |places| Box::new(Message::new(places));
        let form = match media_type(fields).as_deref() {
            _ if is_encoded(fields) => Form::Unreadable,
            Some("text/event-stream") => Form::Events { events: Events::default(), message: message(EVENT) },
            Some(json) if json == "application/json" || json.ends_with("+json") => Form::Json(message(ANSWER)),
            _ => Form::Unreadable,
        };
        Self { form, cost: Cost::Untold, model: None, events: 0 }
    }

    /// Reads the next piece of the content.
    pub fn read(&mut self, mut piece: &[u8]) {
        match &mut self.form {
            Form::Json(message) => message.read(piece),
            Form::Events { events, message } => {
                while let Some(part) = events.next(&mut piece) {
                    match part {
                        Part::Data(data) => {
                            let is_all = message.is_at_start() && ends_event(piece);
                            if !is_all || may_tell(data, self.model.is_none()) {
                                message.read(data);
                            }
                        }
                        Part::End { is_done } => {
                            self.events = self.events.saturating_add(u64::from(!is_done));
                            if let Some(said) = message.end() {
                                self.model = self.model.take().or(said.model);
                                // What is told later holds: it is never in addition.
                                self.cost = if said.cost == Cost::Untold { self.cost } else { said.cost };
                            }
                        }
                    }
                }
            }
            Form::Unreadable => {}
        }
    }

    /// Whether content of this kind can be read: not if it is compressed, neither JSON nor events, or not what it claims.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        match &self.form {
            Form::Json(message) => !message.is_lost(),
            Form::Events { .. } => true,
            Form::Unreadable => false,
        }
    }

    /// What is known of the cost, once the whole JSON object or event that tells it has been read.
    #[must_use]
    pub fn cost(&self) -> Cost {
        self.answer().map_or(self.cost, |said| said.cost)
    }

    /// The usage, if it is known.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        match self.cost() {
            Cost::Told(usage) => Some(usage),
            Cost::Untold | Cost::Unclear => None,
        }
    }

    /// The model that the resource names first.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.answer().map_or(self.model.as_deref(), |said| said.model.as_deref())
    }

    /// How many events with data there were, `[DONE]` apart.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    fn answer(&self) -> Option<&Said> {
        match &self.form {
            Form::Json(message) => message.whole(),
            Form::Events { .. } | Form::Unreadable => None,
        }
    }

    #[cfg(test)]
    fn retained(&self) -> usize {
        let message = match &self.form {
            Form::Json(message) | Form::Events { message, .. } => message.retained(),
            Form::Unreadable => 0,
        };
        message + self.model.as_ref().map_or(0, String::capacity)
    }
}

/// Whether `rest`, which follows a line, shows that the event ends with it.
fn ends_event(rest: &[u8]) -> bool {
    rest.starts_with(b"\n\n") || rest.starts_with(b"\r\n\r\n")
}

/// Whether an event with all of this `data` may tell a cost, or a model if that is wanted. Nearly none does: what can be told
/// from its bytes need not be read.
fn may_tell(data: &[u8], is_model_wanted: bool) -> bool {
    static USAGE: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(br#""usage""#));
    static MODEL: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(br#""model""#));
    let is_null = |at: usize| {
        let value = data.get(at + USAGE.needle().len()..).unwrap_or_default();
        value.starts_with(b":null,") || value.starts_with(b":null}")
    };
    USAGE.find_iter(data).any(|at| !is_null(at)) || is_model_wanted && MODEL.find(data).is_some()
}

fn is_encoded(fields: &HeaderMap) -> bool {
    fields.get_all(CONTENT_ENCODING).iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// The content's type in lower case, if there is exactly one.
fn media_type(fields: &HeaderMap) -> Option<String> {
    let mut types = fields.get_all(CONTENT_TYPE).iter();
    let (only, None) = (types.next()?, types.next()) else { return None };
    Some(only.to_str().ok()?.split(';').next()?.trim().to_ascii_lowercase())
}
