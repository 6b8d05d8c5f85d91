//! Complains about what a well-behaved proxy never lets through to Azure.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, CONNECTION, SEC_WEBSOCKET_PROTOCOL, TE, UPGRADE};
use http::{HeaderMap, HeaderValue};

use super::refusal::Refusal;

/// How many fields of its own a client may send to Azure OpenAI.
const MOST_CUSTOM_FIELDS: usize = 10;

/// Secrets and traces of the way to the proxy, and fields that belong to one hop.
const FORBIDDEN: [&str; 8] = [
    "api-key",
    "cookie",
    "forwarded",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "x-real-ip",
];

/// How a subprotocol begins that is a key.
const KEY_PROTOCOL: &[u8] = b"openai-insecure-api-key.";

/// Fields that do not count as the client's own.
const STANDARD: [&str; 28] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "origin",
    "pragma",
    "range",
    "referer",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// The middleware.
pub(super) async fn check(request: Request, next: Next) -> Response {
    if let Some(violation) = violation(request.headers()).or_else(|| key_in_query(request.uri().query())) {
        tracing::warn!(violation, "the proxy in front of the emulator broke its contract");
        return Refusal::ProxyViolation(violation).into_response();
    }
    let count = custom_fields(request.headers());
    if count > MOST_CUSTOM_FIELDS {
        return Refusal::TooManyFields { count, most: MOST_CUSTOM_FIELDS }.into_response();
    }
    next.run(request).await
}

fn violation(fields: &HeaderMap) -> Option<String> {
    if let Some(name) = fields.keys().find(|name| is_forbidden(name.as_str())) {
        return Some(format!("field `{name}` must not reach Azure"));
    }
    if fields.get_all(AUTHORIZATION).iter().count() > 1 {
        return Some("more than one `authorization` field".to_owned());
    }
    if fields.get_all(SEC_WEBSOCKET_PROTOCOL).iter().any(offers_key) {
        return Some("a key among the subprotocols".to_owned());
    }
    if fields.get_all(TE).iter().any(|value| value != "trailers") {
        return Some("field `te` with more than `trailers`".to_owned());
    }
    let options = fields.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    for option in options.map(<[u8]>::trim_ascii) {
        let own = [&b"close"[..], b"keep-alive"].iter().any(|known| option.eq_ignore_ascii_case(known));
        let upgrade = option.eq_ignore_ascii_case(b"upgrade") && fields.contains_key(UPGRADE);
        if !own && !upgrade {
            return Some(format!("field `connection` names `{}`", String::from_utf8_lossy(option)));
        }
    }
    None
}

/// Where browsers put a key that cannot set fields.
fn key_in_query(query: Option<&str>) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(query?.as_bytes());
    pairs.any(|(name, _)| name.eq_ignore_ascii_case("api-key")).then(|| "a key in the query".to_owned())
}

fn offers_key(value: &HeaderValue) -> bool {
    value.as_bytes().to_ascii_lowercase().windows(KEY_PROTOCOL.len()).any(|window| window == KEY_PROTOCOL)
}

fn is_forbidden(name: &str) -> bool {
    FORBIDDEN.contains(&name) || name.starts_with("x-forwarded-")
}

fn custom_fields(fields: &HeaderMap) -> usize {
    fields.keys().filter(|name| !STANDARD.contains(&name.as_str())).count()
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn fields(names_and_values: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in names_and_values {
            fields.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        fields
    }

    #[test]
    fn a_key_must_not_hide() {
        assert!(key_in_query(Some("model=m&Api-Key=k")).is_some());
        assert!(key_in_query(Some("model=m&my-api-key=k")).is_none());
        let offered = |protocols| violation(&fields(&[("sec-websocket-protocol", protocols)]));
        assert!(offered("realtime, OpenAI-Insecure-Api-Key.k").is_some());
        assert!(offered("realtime, openai-beta.realtime-v1").is_none());
    }

    #[test]
    fn an_sdk_behind_a_proxy_passes() {
        let passing = fields(&[
            ("authorization", "Bearer x"),
            ("connection", "keep-alive"),
            ("te", "trailers"),
            ("x-stainless-lang", "python"),
        ]);
        assert_eq!(violation(&passing), None);
        assert_eq!(custom_fields(&passing), 1);
    }

    #[test]
    fn what_must_not_reach_azure_is_named() {
        for (name, value) in [
            ("api-key", "k"),
            ("cookie", "a=b"),
            ("x-forwarded-for", "127.0.0.1"),
            ("forwarded", "for=_x"),
            ("proxy-authorization", "Basic x"),
            ("te", "gzip"),
            ("connection", "x-mine"),
        ] {
            assert!(violation(&fields(&[(name, value)])).is_some_and(|text| text.contains(name)), "{name}");
        }
        assert!(violation(&fields(&[("authorization", "Bearer x"), ("authorization", "Bearer y")])).is_some());
    }
}
