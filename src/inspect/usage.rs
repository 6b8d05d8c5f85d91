//! What the resource says that its responses have cost, and which model has answered: in JSON, in events and over WebSockets.

mod counted;
mod glance;
mod message;
mod socket;
#[cfg(test)]
mod tests;

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

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
        let form = match media_type(fields) {
            _ if is_encoded(fields) => Form::Unreadable,
            Some(kind) if kind.eq_ignore_ascii_case("text/event-stream") => {
                Form::Events { events: Events::default(), message: message(EVENT) }
            }
            Some(kind) if is_json(kind) => Form::Json(message(ANSWER)),
            _ => Form::Unreadable,
        };
        Self { form, cost: Cost::Untold, model: None, events: 0 }
    }

    /// Reads the next piece of the content.
    pub fn read(&mut self, mut piece: &[u8]) {
        match &mut self.form {
            Form::Json(message) => message.read(piece),
            Form::Events { events, message } => {
                let may_tell = |data, model: &Option<_>| glance::usage(data) || model.is_none() && glance::model(data);
                while let Some(part) = events.next(&mut piece) {
                    let is_done = match part {
                        Part::Data(data) => {
                            let is_all = message.is_at_start() && ends_event(piece);
                            if !is_all || may_tell(data, &self.model) {
                                message.read(data);
                            }
                            continue;
                        }
                        Part::Whole { data, is_done } => {
                            if may_tell(data, &self.model) {
                                message.read(data);
                            }
                            is_done
                        }
                        Part::End { is_done } => is_done,
                    };
                    self.events = self.events.saturating_add(u64::from(!is_done));
                    if let Some(said) = message.end() {
                        self.model = self.model.take().or(said.model);
                        // What is told later holds: it is never in addition.
                        self.cost = if said.cost == Cost::Untold { self.cost } else { said.cost };
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

fn is_encoded(fields: &HeaderMap) -> bool {
    fields.get_all(CONTENT_ENCODING).iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// The content's type, if there is exactly one.
fn media_type(fields: &HeaderMap) -> Option<&str> {
    let mut types = fields.get_all(CONTENT_TYPE).iter();
    let (only, None) = (types.next()?, types.next()) else { return None };
    Some(only.to_str().ok()?.split(';').next()?.trim())
}

fn is_json(kind: &str) -> bool {
    let ends = |suffix: &[u8]| kind.as_bytes().last_chunk::<5>().is_some_and(|end| end.eq_ignore_ascii_case(suffix));
    kind.eq_ignore_ascii_case("application/json") || ends(b"+json")
}
