//! What is said of a request in the words of OpenTelemetry's conventions, of HTTP and of generative AI, and a few of our own.

use http::{Method, StatusCode};

use super::wire;
use crate::config::Config;
use crate::telemetry::methods;
use crate::telemetry::recorder::{Finished, Outcome};

/// Whose the resource's models are.
pub(super) const PROVIDER: (&str, &str) = ("gen_ai.provider.name", "azure.ai.openai");
/// The proxy speaks to callers without TLS.
pub(super) const SCHEME: (&str, &str) = ("url.scheme", "http");

pub(super) const APP: &str = "aoai_proxy.app";
pub(super) const ERROR: &str = "error.type";
pub(super) const METHOD: &str = "http.request.method";
pub(super) const MODEL: &str = "gen_ai.request.model";
pub(super) const OPERATION: &str = "gen_ai.operation.name";
pub(super) const ROUTE: &str = "http.route";
pub(super) const STATUS: &str = "http.response.status_code";
pub(super) const VERSION: &str = "network.protocol.version";

/// What stands for the methods that callers make up.
pub(super) const OTHER_METHOD: &str = "_OTHER";

/// What an attribute's value begins with, and how many bytes that and a short length take.
const KEY: u8 = wire::key(2, wire::LENGTH);
const VALUE: usize = 2;

/// Attributes, written one behind the other as a field of the message that they belong to.
pub(super) struct Attributes<'a> {
    pub(super) out: &'a mut Vec<u8>,
    /// The field's number, of those that take one byte.
    pub(super) field: u32,
}

impl Attributes<'_> {
    /// One that is a text.
    pub(super) fn text(&mut self, name: &str, text: &str) {
        let rest = VALUE + 2 + text.len();
        match self.begin(name, rest) {
            // Then this has no longer length either.
            Some(out) => {
                let ([inner, ..], [length, ..]) = ((2 + text.len()).to_le_bytes(), text.len().to_le_bytes());
                out.extend_from_slice(&[KEY, inner, wire::key(1, wire::LENGTH), length]);
                out.extend_from_slice(text.as_bytes());
            }
            None => self.add(name, |value| wire::text(value, 1, &[text])),
        }
    }

    /// One that is always the same.
    pub(super) fn fixed(&mut self, (name, text): (&str, &str)) {
        self.text(name, text);
    }

    /// One that is a whole number.
    pub(super) fn number(&mut self, name: &str, number: u64) {
        const KIND: u8 = wire::key(3, wire::VARINT);
        // Signed there: what is larger is as much as there can be.
        let mut digits = [0; wire::LONGEST_VARINT];
        let length = wire::digits(number.min(i64::MAX as u64), &mut digits);
        let digits = digits.get(..length).unwrap_or_default();
        match self.begin(name, VALUE + 1 + length) {
            Some(out) => {
                let [inner, ..] = (1 + length).to_le_bytes();
                out.extend_from_slice(&[KEY, inner, KIND]);
                out.extend_from_slice(digits);
            }
            None => self.add(name, |value| {
                value.push(KIND);
                value.extend_from_slice(digits);
            }),
        }
    }

    /// One that is a number.
    pub(super) fn float(&mut self, name: &str, number: f64) {
        match self.begin(name, VALUE + 1 + size_of::<f64>()) {
            Some(out) => {
                out.extend_from_slice(&[KEY, 9, wire::key(4, wire::EIGHT_BYTES)]);
                out.extend_from_slice(&number.to_le_bytes());
            }
            None => self.add(name, |value| wire::float(value, 4, number)),
        }
    }

    /// The beginning of one, up to what comes after its name, if all of it is so short that each length takes one byte: there are
    /// some twenty of them to a span, and all but the longest texts are.
    fn begin(&mut self, name: &str, rest: usize) -> Option<&mut Vec<u8>> {
        let whole = 2 + name.len() + rest;
        let ([whole_byte, ..], [name_byte, ..]) = (whole.to_le_bytes(), name.len().to_le_bytes());
        (whole < 0x80).then(|| {
            let head = [wire::key(self.field, wire::LENGTH), whole_byte, wire::key(1, wire::LENGTH), name_byte];
            self.out.extend_from_slice(&head);
            self.out.extend_from_slice(name.as_bytes());
            &mut *self.out
        })
    }

    fn add(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        wire::message(self.out, self.field, |attribute| {
            wire::text(attribute, 1, &[name]);
            wire::message(attribute, 2, write);
        });
    }
}

/// Where requests are answered.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) resource: Place,
    pub(super) management: Place,
}

/// Host and port.
#[derive(Debug, Clone)]
pub(super) struct Place {
    host: String,
    port: u16,
    /// Both as one text.
    both: String,
}

impl Places {
    pub(super) fn of(config: &Config) -> Self {
        let endpoint = &config.upstream.endpoint;
        let usual = if *endpoint.scheme() == http::uri::Scheme::HTTP { 80 } else { 443 };
        let authority = endpoint.authority();
        let resource = Place::new(authority.host(), authority.port_u16().unwrap_or(usual));
        let management = &config.management.endpoint;
        let port = management.port_or_known_default().unwrap_or_default();
        Self { resource, management: Place::new(management.host_str().unwrap_or_default(), port) }
    }
}

impl Place {
    pub(super) fn new(host: &str, port: u16) -> Self {
        Self { both: format!("{host}:{port}"), host: host.trim_matches(['[', ']']).to_owned(), port }
    }

    /// Of a span, which is the proxy's: `server.address` would be its own.
    pub(super) fn upstream(&self) -> (&str, &str) {
        ("aoai_proxy.upstream", &self.both)
    }

    /// Of a client's metrics: it is the server.
    pub(super) fn tell(&self, attributes: &mut Attributes<'_>) {
        attributes.text("server.address", &self.host);
        attributes.number("server.port", self.port.into());
    }
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Problem {
    /// A word of ours.
    Known(&'static str),
    /// Only the status tells.
    Status(StatusCode),
}

impl Problem {
    /// What went wrong with `request`, if anything did. Refusals of the resource are failures of whoever asked for a model's
    /// answer.
    pub(super) fn of(request: &Finished<'_>) -> Option<Self> {
        if !request.went_wrong() {
            return None;
        }
        match (request.outcome, request.code, request.status) {
            (Outcome::BrokeOff, ..) => Some(Self::Known(Outcome::BrokeOff.as_str())),
            (_, Some(code), _) => Some(Self::Known(code)),
            (_, None, status) => status.map(Self::Status),
        }
    }

    /// A word for it.
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Known(word) => word,
            Self::Status(status) => status.as_str(),
        }
    }
}

/// A method by its name, if everybody knows it.
pub(super) fn method(method: &Method) -> &'static str {
    methods::name(method).unwrap_or(OTHER_METHOD)
}

/// Whether it is the server's fault: a refusal is the caller's, and no failed span of a server.
pub(super) fn is_failure(request: &Finished<'_>) -> bool {
    request.outcome == Outcome::BrokeOff || request.status.is_some_and(|status| status.is_server_error())
}
