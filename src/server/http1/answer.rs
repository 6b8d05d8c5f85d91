//! A response's head as it is written, and what it says about where the content ends (RFC 9112 §6.3): pure.

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use http_body::SizeHint;
use hyper::ext::ReasonPhrase;

use crate::http1::encoding::Coding;
use crate::http1::outgoing::Outgoing;

/// What a response answers.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) version: Version,
}

/// What becomes of the connection afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Afterwards {
    Keep,
    Close,
    /// Another protocol follows.
    Switch,
}

/// How the content of a response with this head is written.
pub(super) fn coding(asked: &Asked, parts: &Parts, size: &SizeHint) -> Coding {
    let status = parts.status;
    if asked.method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    {
        return Coding::Nothing;
    }
    match (given_length(&parts.headers).or(size.exact()), asked.version) {
        (Some(length), _) => Coding::Length(length),
        (None, Version::HTTP_10) => Coding::UntilClose,
        (None, _) => Coding::Chunked,
    }
}

/// Writes the head of a response. `date` is for one that has none (RFC 9110 §6.6.1).
pub(super) fn write(
    outgoing: &mut Outgoing,
    asked: &Asked,
    parts: &Parts,
    coding: Coding,
    afterwards: Afterwards,
    date: impl FnOnce() -> HeaderValue,
) {
    status_line(outgoing, parts.status, parts.extensions.get::<ReasonPhrase>());
    for (name, value) in &parts.headers {
        if !is_ours(name, parts.status, afterwards) {
            outgoing.field(name, value);
        }
    }
    match coding {
        Coding::Length(length) if !parts.headers.contains_key(CONTENT_LENGTH) => {
            outgoing.field(&CONTENT_LENGTH, &HeaderValue::from(length));
        }
        Coding::Chunked => outgoing.field(&TRANSFER_ENCODING, &HeaderValue::from_static("chunked")),
        Coding::Nothing | Coding::Length(_) | Coding::UntilClose => {}
    }
    match afterwards {
        Afterwards::Close => outgoing.field(&CONNECTION, &HeaderValue::from_static("close")),
        // What HTTP/1.0 has to be told.
        Afterwards::Keep if asked.version == Version::HTTP_10 => {
            outgoing.field(&CONNECTION, &HeaderValue::from_static("keep-alive"));
        }
        Afterwards::Keep | Afterwards::Switch => {}
    }
    if !parts.headers.contains_key(DATE) {
        outgoing.field(&DATE, &date());
    }
    outgoing.text(b"\r\n");
}

/// Writes an interim response (RFC 9110 §15.2).
pub(super) fn interim(outgoing: &mut Outgoing, status: StatusCode, fields: &HeaderMap) {
    status_line(outgoing, status, None);
    outgoing.fields(fields);
    outgoing.text(b"\r\n");
}

fn status_line(outgoing: &mut Outgoing, status: StatusCode, reason: Option<&ReasonPhrase>) {
    let canonical = || status.canonical_reason().unwrap_or_default().as_bytes();
    outgoing.text(b"HTTP/1.1 ");
    outgoing.text(status.as_str().as_bytes());
    outgoing.text(b" ");
    outgoing.text(reason.map_or_else(canonical, ReasonPhrase::as_bytes));
    outgoing.text(b"\r\n");
}

/// The fields that say how this connection goes on are written here; only a response that switches to another protocol says
/// so itself. Neither that one nor a 204 has a length (RFC 9110 §8.6).
fn is_ours(name: &HeaderName, status: StatusCode, afterwards: Afterwards) -> bool {
    match *name {
        TRANSFER_ENCODING => true,
        CONNECTION => afterwards != Afterwards::Switch,
        CONTENT_LENGTH => status.is_informational() || status == StatusCode::NO_CONTENT,
        _ => false,
    }
}

fn given_length(fields: &HeaderMap) -> Option<u64> {
    fields.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
