//! The fields of a request and of a response, cleaned of what must not pass: pure functions on a field map.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;

use crate::server::list;

/// The caller's id of a request, and ours towards the caller.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The same id towards Azure.
pub const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");

/// How many fields beyond HTTP's own Azure OpenAI takes with a request: one more, and it answers 431.
const MOST_OF_ITS_OWN: usize = 10;

/// A bearer that begins so is a short-lived key which the caller got from the resource: a token of ours would not do.
const EPHEMERAL: &[u8] = b"ek_";

/// Removes what must not reach the resource: hop-by-hop fields, the caller's credentials, the caller's notes on the way it
/// came (`Forwarded` and its kin), `Host` (the upstream's is set later) and `Expect`, which is met here.
pub fn clean_request(fields: &mut HeaderMap) {
    remove(fields, |name| is_hop_by_hop(name) || stays_here(name));
}

/// Whether the resource takes one field more than the caller has sent. Some clients use up all that it takes.
#[must_use]
pub fn leave_room(fields: &HeaderMap) -> bool {
    fields.keys().filter(|name| !is_of_http(name.as_str())).count() < MOST_OF_ITS_OWN
}

/// Removes what concerns only the connection to the upstream.
pub fn clean_response(fields: &mut HeaderMap) {
    remove(fields, is_hop_by_hop);
}

/// The same for trailers, which are fields too.
pub(super) fn clean_request_frame(frame: Frame<Bytes>) -> Frame<Bytes> {
    clean_trailers(frame, clean_request)
}

/// The same for trailers, which are fields too.
pub(super) fn clean_response_frame(frame: Frame<Bytes>) -> Frame<Bytes> {
    clean_trailers(frame, clean_response)
}

fn clean_trailers(frame: Frame<Bytes>, clean: impl FnOnce(&mut HeaderMap)) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            clean(&mut trailers);
            // What must stand before content to mean anything (RFC 9110 §6.5.1).
            trailers.remove(header::CONTENT_LENGTH);
            trailers.remove(header::TRAILER);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// The caller's own short-lived key, if that is what the request for `path` carries.
///
/// Sessions of the realtime API over WebRTC are opened with such a key.
#[must_use]
pub fn ephemeral_key(path: &str, fields: &HeaderMap) -> Option<HeaderValue> {
    let calls = ["/v1/realtime/calls", "/openai/v1/realtime/calls"];
    if !calls
        .iter()
        .any(|prefix| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    {
        return None;
    }
    let mut values = fields.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, key) = value.as_bytes().split_at_checked(7)?;
    (scheme.eq_ignore_ascii_case(b"bearer ") && key.starts_with(EPHEMERAL)).then(|| value.clone())
}

/// Removes every field whose name is `doomed`, and those that `Connection` names (RFC 9110 §7.6.1), on each of its lines.
fn remove(fields: &mut HeaderMap, doomed: impl Fn(&str) -> bool) {
    let named = list::elements(fields, &header::CONNECTION).filter_map(|name| HeaderName::from_bytes(name).ok());
    // Most name `keep-alive` and have no such field: a `Vec` that stays empty costs nothing.
    let named: Vec<HeaderName> = named.filter(|name| fields.contains_key(name)).collect();
    for name in named {
        fields.remove(name);
    }
    while let Some(name) = fields.keys().find(|name| doomed(name.as_str())).cloned() {
        fields.remove(name);
    }
}

/// `Connection` itself, and the fields that concern one connection without being named by it.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// What HTTP itself defines, of what clients send.
fn is_of_http(name: &str) -> bool {
    let families = ["accept", "content-", "if-", "sec-"];
    families.iter().any(|family| name.starts_with(family))
        || matches!(
            name,
            "authorization"
                | "cache-control"
                | "date"
                | "origin"
                | "pragma"
                | "range"
                | "referer"
                | "trailer"
                | "user-agent"
        )
}

/// What the caller says to the proxy alone.
fn stays_here(name: &str) -> bool {
    matches!(
        name,
        "authorization"
            | "api-key"
            | "x-api-key"
            | "ocp-apim-subscription-key"
            | "cookie"
            | "host"
            | "expect"
            | "forwarded"
    ) || name.starts_with("x-forwarded-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                (name.parse::<HeaderName>().expect("a name"), value.parse::<HeaderValue>().expect("a value"))
            })
            .collect()
    }

    fn names(fields: &HeaderMap) -> Vec<&str> {
        fields.keys().map(HeaderName::as_str).collect()
    }

    #[test]
    fn the_callers_credentials_are_removed_however_often_they_come() {
        let mut map = fields(&[
            ("Authorization", "Bearer a"),
            ("authorization", "Bearer b"),
            ("API-KEY", "k"),
            ("x-api-key", "k"),
            ("api-key", "l"),
            ("Ocp-Apim-Subscription-Key", "k"),
            ("Cookie", "c=1"),
            ("host", "localhost"),
            ("expect", "100-continue"),
            ("forwarded", "for=x"),
            ("x-forwarded-for", "x"),
            ("X-Forwarded-Anything", "x"),
            ("content-type", "application/json"),
        ]);
        clean_request(&mut map);
        assert_eq!(names(&map), ["content-type"]);
    }

    #[test]
    fn whatever_connection_names_is_removed_on_every_line() {
        let mut map = fields(&[
            ("connection", "close, X-One"),
            ("connection", "x-two"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
            ("proxy-connection", "close"),
        ]);
        clean_response(&mut map);
        assert_eq!(names(&map), ["x-three"]);
    }

    #[test]
    fn a_name_beside_bytes_that_are_no_text_is_removed_too() {
        let mut map = fields(&[("x-one", "1"), ("x-two", "2")]);
        map.insert("connection", HeaderValue::from_bytes(b"\xff, x-one").expect("a value"));
        clean_request(&mut map);
        assert_eq!(names(&map), ["x-two"]);
    }

    #[test]
    fn trailers_say_nothing_of_length() {
        let frame = Frame::trailers(fields(&[("content-length", "5"), ("trailer", "x-sum"), ("x-sum", "1")]));
        let trailers = clean_request_frame(frame).into_trailers().expect("trailers");
        assert_eq!(names(&trailers), ["x-sum"]);
    }

    #[test]
    fn a_response_keeps_its_cookies_and_repeated_fields() {
        let mut map = fields(&[("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-request-id", "r")]);
        clean_response(&mut map);
        assert_eq!(map.get_all("set-cookie").iter().count(), 2);
        assert!(map.contains_key(REQUEST_ID));
    }

    #[test]
    fn only_calls_keep_an_ephemeral_key() {
        let map = fields(&[("authorization", "Bearer ek_123")]);
        assert!(ephemeral_key("/v1/realtime/calls", &map).is_some());
        assert!(ephemeral_key("/openai/v1/realtime/calls/rtc_1/hangup", &map).is_some());
        assert!(ephemeral_key("/v1/realtime", &map).is_none());
        assert!(ephemeral_key("/v1/realtime/callsx", &map).is_none());
        assert!(ephemeral_key("/v1/realtime/calls", &fields(&[("authorization", "Bearer sk-1")])).is_none());
        let twice = fields(&[("authorization", "Bearer ek_1"), ("authorization", "Bearer ek_2")]);
        assert!(ephemeral_key("/v1/realtime/calls", &twice).is_none());
    }
}
