//! Complains about what a well-behaved proxy never lets through to Azure.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{AUTHORIZATION, CONNECTION, TE, UPGRADE};

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

/// Fields that do not count as the client's own.
const STANDARD: [&str; 24] = [
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
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// The middleware.
pub(super) async fn check(request: Request, next: Next) -> Response {
    if let Some(violation) = violation(request.headers()) {
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
