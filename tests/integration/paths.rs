//! No target leads anywhere but below the resource's `/openai/`, however it is written and however often it is decoded.

use std::sync::LazyLock;

use aoai_auth_proxy::forward::{fields, target};
use aoai_auth_proxy::guard::Guard;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::oracle;
use crate::support::config;

static GUARD: LazyLock<Guard> =
    LazyLock::new(|| Guard::new(&config(&["upstream.endpoint=http://127.0.0.1:9".to_owned()]).access));

/// What is done with a target before anything is sent.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Refused,
    NoRoute,
    Mapped(String),
}

fn outcome(raw: &[u8], prefix: &str) -> Outcome {
    let Ok(uri) = Uri::try_from(raw) else { return Outcome::Refused };
    let request = Request::get(uri.clone()).header("host", "localhost").body(()).expect("a request");
    if GUARD.admit(&request).is_err() || target::check(uri.path()).is_err() {
        return Outcome::Refused;
    }
    target::map(prefix, &uri).map_or(Outcome::NoRoute, |target| Outcome::Mapped(target.to_string()))
}

/// What attacks are made of.
const PIECES: &[&str] = &[
    "/",
    "/",
    "/",
    "//",
    "\\",
    "..",
    "..",
    ".",
    "...",
    "%2e",
    "%2E",
    "%252e",
    "%25252e",
    "%2525252e",
    "%2f",
    "%2F",
    "%252f",
    "%5c",
    "%5C",
    "%255c",
    ";",
    "%3b",
    "%253b",
    "?",
    "%3f",
    "%253f",
    "#",
    "%23",
    "@",
    "%40",
    ":",
    "%3a",
    "%00",
    "%2500",
    "%0d%0a",
    "%09",
    "%20",
    "%7f",
    "%",
    "%2",
    "%zz",
    "%u002e",
    "%c0%ae",
    "%e0%80%ae",
    "%25",
    "%2525",
    "é",
    "．",
    "／",
    "\u{2025}",
    "%ef%bc%8e",
    "v1",
    "/v1/",
    "openai",
    "/openai/",
    "models",
    "a",
    "x=1",
    "&",
    "api-key=s",
    "Api%2dKey=s",
    "=",
    "+",
    "\0",
    "\r",
    "\n",
    "\t",
    " ",
    "~",
    "*",
    "|",
    "{",
    "\"",
];

/// How a target may begin.
const BEGINNINGS: &[&str] = &[
    "/v1/",
    "/v1/",
    "/v1/",
    "/openai/",
    "/openai/",
    "/",
    "",
    "//",
    "//evil.example/",
    "//evil.example/v1/",
    "/\\evil.example/",
    "http://localhost/",
    "http://localhost/v1/",
    "http://localhost",
    "HTTPS://LOCALHOST:8642/openai/",
    "http://[::1]:1/v1/",
    "http://evil.example/v1/",
    "http://localhost.evil.example/v1/",
    "http://[::1]evil.example/v1/",
    "http://[::1].evil.example:80/v1/",
    "http://127.0.0.1.evil.example/v1/",
    "http://evil.example#@localhost/v1/",
    "http://localhost.evil.example/v1/",
    "http://[::1]evil.example/v1/",
    "http://[::1].evil.example:80/v1/",
    "http://127.0.0.1.evil.example/v1/",
    "http://evil.example\\@localhost/v1/",
    "http:///v1/",
    "evil.example:443",
    "localhost:443",
    "*",
    "@evil.example/v1/",
    ":80/v1/",
    "http:/v1/",
    "ftp://localhost/v1/",
    "/v1",
    "/openai",
    "/v1;/",
    "/v1%2f",
];

/// How a step upwards may be written, and what may end it.
const DOTS: &[&str] = &["..", "%2e%2e", ".%2E", "%252e%252e", "%25252e.", "%252525252e."];
const ENDS: &[&str] =
    &["", "/", "%2f", "%252f", "\\", "%5c", ";", "%3b", ";x=1/", "?", "%3f", "%253f", "#", "%23", "%2523", "%00"];

fn nasty() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        20 => select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
        5 => (select(DOTS), select(ENDS)).prop_map(|(dots, end)| format!("{dots}{end}").into_bytes()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
        1 => any::<char>().prop_map(|char| char.to_string().into_bytes()),
    ];
    (select(BEGINNINGS), vec(piece, 0..12))
        .prop_map(|(beginning, pieces)| [beginning.as_bytes(), &pieces.concat()].concat())
}

/// Segments that nobody could mistake, and a query.
fn ordinary() -> impl Strategy<Value = (String, String)> {
    let segment = "[a-zA-Z0-9_~-][a-zA-Z0-9._~:-]{0,8}";
    (vec(segment, 1..6), "(\\?[b-z0-9=&+/._-]{0,20})?")
        .prop_map(|(segments, query)| (format!("/v1/{}", segments.join("/")), query))
}

const PREFIXES: &[&str] = &["", "/api/projects/p", "/gateway"];

fn many() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(5_000) }
}

proptest! {
    #![proptest_config(many())]

    #[test]
    fn every_target_is_refused_or_stays_below_its_prefix(raw in nasty(), prefix in select(PREFIXES)) {
        if let Outcome::Mapped(mapped) = outcome(&raw, prefix) {
            let told = String::from_utf8_lossy(&raw);
            prop_assert_eq!(oracle::inspect(&raw, prefix, &mapped), Ok(()), "{} became {}", told, mapped);
        }
    }

    #[test]
    fn an_ordinary_target_is_mapped(ordinary in ordinary(), prefix in select(PREFIXES)) {
        let (path, query) = ordinary;
        let expected = Outcome::Mapped(format!("{prefix}/openai{path}{query}"));
        prop_assert_eq!(outcome(format!("{path}{query}").as_bytes(), prefix), expected);
    }

    #[test]
    fn cleaning_leaves_what_it_should_and_nothing_else(lines in vec((select(NAMES), select(VALUES)), 0..12)) {
        let mut map = HeaderMap::new();
        for (name, value) in &lines {
            map.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).expect("a value"));
        }
        let given = oracle::by_name(lines);
        let left = |clean: fn(&mut HeaderMap)| {
            let mut map = map.clone();
            clean(&mut map);
            oracle::by_name(map.iter())
        };
        prop_assert_eq!(left(fields::clean_request), oracle::cleaned_request(given.clone()));
        prop_assert_eq!(left(fields::clean_response), oracle::cleaned_response(given));
    }
}

const NAMES: &[&str] = &[
    "connection",
    "connection",
    "authorization",
    "api-key",
    "x-api-key",
    "ocp-apim-subscription-key",
    "cookie",
    "host",
    "expect",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-",
    "x-one",
    "x-two",
    "te",
    "upgrade",
    "keep-alive",
    "proxy-authorization",
    "transfer-encoding",
    "content-length",
    "content-type",
    "set-cookie",
    "http2-settings",
    "proxy-connection",
];

const VALUES: &[&[u8]] = &[
    b"",
    b"x-one",
    b"X-One, x-two",
    b"close, content-type",
    b" ,,x-two ,",
    b"x-one\xff",
    b"\xff, x-two",
    b"x-one;q=1",
    b"keep-alive",
    b"x-one\t,\tx-two",
    b"connection",
    b"authorization",
    b"a b, x-one",
    b"1",
];
