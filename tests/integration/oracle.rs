//! What a mapped path and a cleaned field map must be, found the slow and naive way. Knows nothing of the product; the fuzz
//! targets include this file.

use std::collections::BTreeMap;

use http::HeaderMap;

/// Deeper than anything on the way decodes.
const DECODINGS: usize = 4;

/// What must hold of the target that a caller's `raw` one was mapped to, on a resource whose paths begin with `prefix`.
pub(crate) fn inspect(raw: &[u8], prefix: &str, mapped: &str) -> Result<(), String> {
    let (path, query) = split_target(mapped.as_bytes());
    let home = format!("{prefix}/openai/");
    if !path.starts_with(home.as_bytes()) {
        return Err(format!("does not begin with {home}"));
    }
    if let Some(byte) = mapped.bytes().find(|byte| byte.is_ascii_control() || matches!(byte, b' ' | b'#')) {
        return Err(format!("holds the byte {byte:#04x}"));
    }
    let mut seen = path.to_vec();
    for round in 0..=DECODINGS {
        if let Some(byte) = seen.iter().find(|byte| byte.is_ascii_control() || **byte == b'\\') {
            return Err(format!("holds the byte {byte:#04x} when decoded {round} times"));
        }
        for cut in ["", ";", ";?#"] {
            if let Some(place) = first_outside(&seen, &home, cut) {
                return Err(format!("leads to {place} when decoded {round} times"));
            }
        }
        seen = decode(&seen);
    }
    let (own_path, own_query) = split_target(origin_form(raw)?);
    let inserted = if own_path.starts_with(b"/v1/") { "/openai" } else { "" };
    if path != [prefix.as_bytes(), inserted.as_bytes(), own_path].concat() {
        return Err("is not the caller's path behind the prefix".to_owned());
    }
    let expected =
        own_query.map(without_keys).and_then(|(query, removed)| (!removed || !query.is_empty()).then_some(query));
    if query != expected.as_deref() {
        return Err(format!("has the query {:?}", query.map(String::from_utf8_lossy)));
    }
    Ok(())
}

/// A caller's target without scheme and authority, which must be this machine's, and without a fragment.
fn origin_form(raw: &[u8]) -> Result<&[u8], String> {
    let raw = raw.split(|byte| *byte == b'#').next().unwrap_or_default();
    if raw.starts_with(b"/") {
        return Ok(raw);
    }
    let text = String::from_utf8_lossy(raw).to_ascii_lowercase();
    let (_, rest) = text.split_once("://").ok_or("was neither a path nor a URL")?;
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let port = ["localhost", "127.0.0.1", "[::1]"].iter().find_map(|name| authority.strip_prefix(name));
    match port {
        Some(port) if port.is_empty() || port.starts_with(':') => {}
        _ => return Err(format!("was asked of {authority}")),
    }
    let begin = raw.len() - rest.len() + authority.len();
    raw.get(begin..).ok_or_else(|| "has no path".to_owned())
}

fn split_target(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match target.iter().position(|byte| *byte == b'?') {
        Some(mark) => (&target[..mark], Some(&target[mark + 1..])),
        None => (target, None),
    }
}

/// The query without its keys, and whether there was one.
fn without_keys(query: &[u8]) -> (Vec<u8>, bool) {
    let pairs: Vec<&[u8]> = query.split(|byte| *byte == b'&').collect();
    let is_key = |pair: &&&[u8]| {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
        decode(name).eq_ignore_ascii_case(b"api-key")
    };
    let kept: Vec<&[u8]> = pairs.iter().filter(|pair| !is_key(pair)).copied().collect();
    (kept.join(&b'&'), kept.len() < pairs.len())
}

/// The first place outside of `home` that a server comes by which takes one segment after the other, and what stands behind
/// one of `cut` for no part of a segment's name.
fn first_outside(path: &[u8], home: &str, cut: &str) -> Option<String> {
    let mut names: Vec<String> = Vec::new();
    let mut has_arrived = false;
    for segment in path.split(|byte| matches!(byte, b'/' | b'\\')) {
        let name = segment.split(|byte| cut.as_bytes().contains(byte)).next().unwrap_or_default();
        match name {
            b"" | b"." => {}
            b".." => _ = names.pop(),
            name => names.push(String::from_utf8_lossy(name).into_owned()),
        }
        let place: String =
            std::iter::once("/".to_owned()).chain(names.iter().map(|name| format!("{name}/"))).collect();
        has_arrived |= place == home;
        let stays = if has_arrived { place.starts_with(home) } else { home.starts_with(&place) };
        if !stays {
            return Some(place);
        }
    }
    None
}

/// One round of percent-decoding.
pub(crate) fn decode(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                decoded.push(byte);
                at += 3;
            }
            _ => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    decoded
}

/// Fields by lower-case name, the values of each in order.
pub(crate) type Fields = BTreeMap<String, Vec<Vec<u8>>>;

/// Puts lines together by name.
pub(crate) fn by_name<N: AsRef<[u8]>, V: AsRef<[u8]>>(lines: impl IntoIterator<Item = (N, V)>) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in lines {
        let name = String::from_utf8_lossy(name.as_ref()).to_ascii_lowercase();
        fields.entry(name).or_default().push(value.as_ref().to_vec());
    }
    fields
}

/// What a request's fields are once all that must not reach the resource is gone.
pub(crate) fn cleaned_request(fields: Fields) -> Fields {
    let mut fields = cleaned_response(fields);
    fields.retain(|name, _| {
        !["authorization", "api-key", "x-api-key", "ocp-apim-subscription-key", "cookie", "host", "expect", "forwarded"]
            .contains(&name.as_str())
            && !name.starts_with("x-forwarded-")
    });
    fields
}

/// What a response's fields are once all that concerns its connection is gone.
pub(crate) fn cleaned_response(mut fields: Fields) -> Fields {
    let named: Vec<String> = fields
        .get("connection")
        .into_iter()
        .flatten()
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(|name| String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase())
        .collect();
    fields.retain(|name, _| {
        ![
            "connection",
            "http2-settings",
            "keep-alive",
            "proxy-authenticate",
            "proxy-authorization",
            "proxy-connection",
            "te",
            "transfer-encoding",
            "upgrade",
        ]
        .contains(&name.as_str())
            && !named.contains(name)
    });
    fields
}

/// Whether a request over HTTP/1.1 is let in, and if so, whether as one of a web page's of `origin`.
pub(crate) fn may_call(authority: Option<&str>, fields: &HeaderMap, origin: &str) -> Option<bool> {
    let is_ours = |named: &str| {
        ["localhost", "127.0.0.1", "[::1]"].iter().any(|name| {
            let named = named.to_ascii_lowercase();
            named == *name
                || named
                    .strip_prefix(&format!("{name}:"))
                    .is_some_and(|port| port.chars().all(|digit| digit.is_ascii_digit()))
        })
    };
    let texts = |name: &str| -> Vec<String> {
        fields.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    };
    let hosts = texts("host");
    let named = match (authority, &hosts[..]) {
        (Some(authority), []) => is_ours(authority),
        (Some(authority), [host]) => is_ours(authority) && is_ours(host),
        (None, [host]) => is_ours(host),
        _ => false,
    };
    if !named {
        return None;
    }
    match &texts("origin")[..] {
        [] => texts("sec-fetch-site").iter().all(|site| site == "none" || site == "same-origin").then_some(false),
        [one] => (one == origin).then_some(true),
        _ => None,
    }
}
