//! From a request's target to the resource's: a pure function, and the rule for what may not be forwarded at all.

use std::borrow::Cow;

use bytes::Bytes;
use http::Uri;
use http::uri::PathAndQuery;

use crate::error::ProxyError;

/// Percent-decoding is repeated at most this often; a path that still changes afterwards is refused.
const ROUNDS: usize = 4;

/// Refuses a path that any server on the way could read as another path: dot segments and backslashes, plain or encoded
/// (also more than once), control bytes, and a target that begins with `//`.
///
/// # Errors
///
/// [`ProxyError::InvalidPath`], saying what was found.
pub fn check(path: &str) -> Result<(), ProxyError> {
    if path.starts_with("//") {
        return Err(ProxyError::InvalidPath("begins with `//`"));
    }
    if plainly_safe(path.as_bytes()) {
        return Ok(());
    }
    if !escapes_are_whole(path.as_bytes()) {
        return Err(ProxyError::InvalidPath("holds a `%` without two hexadecimal digits behind it"));
    }
    let mut seen = Cow::Borrowed(path.as_bytes());
    for _ in 0..ROUNDS {
        inspect(&seen)?;
        let decoded = decode(&seen);
        if decoded == *seen {
            return Ok(());
        }
        seen = Cow::Owned(decoded);
    }
    Err(ProxyError::InvalidPath("is percent-encoded many times over"))
}

/// Where on the resource a request goes: `/v1/…` to `{prefix}/openai/v1/…`, `/openai/…` to `{prefix}/openai/…`, the query
/// unchanged but for `api-key`. [`None`]: not a route that is forwarded.
#[must_use]
pub fn map(prefix: &str, uri: &Uri) -> Option<PathAndQuery> {
    let path = uri.path();
    let inserted = inserted(path)?;
    let query = uri.query().map(without_key);
    let query = query.filter(|query| !query.is_empty() || uri.query() == Some(""));
    // As much as it takes: room that is left over would have to be remembered, in memory of its own.
    let length = prefix.len() + inserted.len() + path.len() + query.as_ref().map_or(0, |query| query.len() + 1);
    let mut target = String::with_capacity(length);
    target.push_str(prefix);
    target.push_str(inserted);
    target.push_str(path);
    if let Some(query) = query {
        target.push('?');
        target.push_str(&query);
    }
    // Parts of a valid target put together are one again.
    PathAndQuery::from_maybe_shared(Bytes::from(target)).ok()
}

/// Whether what is at `path` is the resource's, and none of the proxy's own pages.
#[must_use]
pub fn is_of_the_resource(path: &str) -> bool {
    inserted(path).is_some()
}

/// What stands before `path` on the resource.
fn inserted(path: &str) -> Option<&'static str> {
    if path.starts_with("/openai/") { Some("") } else { path.starts_with("/v1/").then_some("/openai") }
}

/// The query without any `api-key` pair: a key in a URL is a credential of the caller's as much as one in a field.
fn without_key(query: &str) -> Cow<'_, str> {
    let is_key = |pair: &str| {
        let name = pair.split('=').next().unwrap_or_default();
        name.len() >= 7 && decode(name.as_bytes()).eq_ignore_ascii_case(b"api-key")
    };
    if !query.split('&').any(is_key) {
        return Cow::Borrowed(query);
    }
    Cow::Owned(query.split('&').filter(|pair| !is_key(pair)).collect::<Vec<_>>().join("&"))
}

/// What nearly every path is: no escape, no backslash, no segment that begins with a dot.
fn plainly_safe(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().all(|&byte| {
        let dotted = before == b'/' && byte == b'.';
        before = byte;
        !dotted && byte > b' ' && byte != b'%' && byte != b'\\' && byte != 0x7f
    })
}

/// Some servers read `%u002e` as a dot; no URL needs a bare `%`.
fn escapes_are_whole(path: &[u8]) -> bool {
    let mut pieces = path.split(|byte| *byte == b'%');
    pieces.next();
    pieces.all(|piece| piece.len() >= 2 && piece.iter().take(2).all(u8::is_ascii_hexdigit))
}

fn inspect(path: &[u8]) -> Result<(), ProxyError> {
    if str::from_utf8(path).is_err() {
        // Among these are the overlong forms that careless decoders take for dots and slashes.
        return Err(ProxyError::InvalidPath("is not UTF-8"));
    }
    if path.contains(&b'\\') {
        return Err(ProxyError::InvalidPath("holds a backslash"));
    }
    if path.iter().any(u8::is_ascii_control) {
        return Err(ProxyError::InvalidPath("holds a control byte"));
    }
    // What follows `;` is a parameter to some servers and no part of the segment's name; a `?` or `#` that was encoded ends
    // the path for servers that decode before they take a target apart.
    let is_step = |segment: &[u8]| matches!(segment.split(|byte| b";?#".contains(byte)).next(), Some(b"." | b".."));
    if path.split(|byte| *byte == b'/').any(is_step) {
        return Err(ProxyError::InvalidPath("holds a `.` or `..` segment"));
    }
    Ok(())
}

/// One round of percent-decoding; what is no escape stays as it is.
fn decode(bytes: &[u8]) -> Vec<u8> {
    let digit =
        |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%').then(|| Some(digit(tail.first())? << 4 | digit(tail.get(1))?)).flatten();
        decoded.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(target: &str) -> Option<String> {
        map("", &target.parse().expect(target)).map(|target| target.to_string())
    }

    #[test]
    fn openais_paths_lead_to_the_v1_surface() {
        assert_eq!(mapped("/v1/chat/completions").as_deref(), Some("/openai/v1/chat/completions"));
        assert_eq!(mapped("/openai/v1/models").as_deref(), Some("/openai/v1/models"));
        assert_eq!(
            mapped("/openai/deployments/d/chat/completions?api-version=2024-10-21").as_deref(),
            Some("/openai/deployments/d/chat/completions?api-version=2024-10-21")
        );
        let project = map("/api/projects/p", &"/v1/models".parse().expect("a target")).map(|target| target.to_string());
        assert_eq!(project.as_deref(), Some("/api/projects/p/openai/v1/models"));
    }

    #[test]
    fn nothing_else_is_forwarded() {
        for target in
            ["/", "/v1", "/openai", "/v2/models", "/V1/models", "/v1models", "/openaiv1/", "/healthz", "/%761/models"]
        {
            assert_eq!(mapped(target), None, "{target}");
        }
    }

    #[test]
    fn the_query_is_passed_byte_for_byte_except_a_key() {
        let unchanged = "/v1/files?after=a%2Fb&limit=2&&x=+y&z";
        assert_eq!(mapped(unchanged), Some(format!("/openai{unchanged}")));
        assert_eq!(mapped("/v1/realtime?model=m&api-key=s").as_deref(), Some("/openai/v1/realtime?model=m"));
        assert_eq!(
            mapped("/v1/realtime?API-Key=s&model=m&api%2Dkey=t").as_deref(),
            Some("/openai/v1/realtime?model=m")
        );
        assert_eq!(mapped("/v1/realtime?api-key=s").as_deref(), Some("/openai/v1/realtime"));
        assert_eq!(mapped("/v1/models?").as_deref(), Some("/openai/v1/models?"));
        assert_eq!(mapped("/v1/models?my-api-key=s").as_deref(), Some("/openai/v1/models?my-api-key=s"));
    }

    #[test]
    fn paths_that_could_mean_another_are_refused() {
        for path in [
            "//evil.example/v1/models",
            "/v1/../admin",
            "/v1/..",
            "/v1/.",
            "/v1/./models",
            "/v1/%2e%2e/admin",
            "/v1/%2E./admin",
            "/v1/.%2e/admin",
            "/v1/%2f../admin",
            "/v1/..%2fadmin",
            "/v1/..%5cadmin",
            "/v1/a\\b",
            "/v1/%5c",
            "/v1/%252e%252e/admin",
            "/v1/%25252e%25252e/x",
            "/v1/%2525252525252e",
            "/v1/a%00b",
            "/v1/a%0d%0ab",
            "/v1/..;/admin",
            "/v1/%u002e%u002e/x",
            "/v1/%c0%ae%c0%ae/x",
            "/v1/%",
            "/v1/%zz",
            "/v1/%2",
            "/v1/%2e%2e%3b/admin",
            "/v1/%7f",
            "/openai/..%3fx",
            "/openai/..%2523",
        ] {
            assert!(check(path).is_err(), "{path}");
        }
    }

    #[test]
    fn ordinary_paths_are_not() {
        for path in [
            "/",
            "/v1/chat/completions",
            "/v1/models/gpt-4.1",
            "/v1/files/file-1.2/content",
            "/v1/models/ft%3Agpt-4o",
            "/v1/models/org%2Fmodel",
            "/v1/a..b",
            "/v1/...",
            "/v1//chat",
            "/v1/100%25",
            "/v1/%C3%A9t%C3%A9",
            "/v1/.well-known",
        ] {
            assert!(check(path).is_ok(), "{path}");
        }
    }
}
