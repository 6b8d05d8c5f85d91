//! Any bytes as a target and lines of fields: who is let in is whom a naive reading of the rules lets in.

#![no_main]

use std::sync::LazyLock;

use aoai_auth_proxy::config::{Config, Overrides};
use aoai_auth_proxy::guard::Guard;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "the other targets use the rest")]
#[path = "../../tests/integration/oracle.rs"]
mod oracle;

const ORIGIN: &str = "https://app.example";

static GUARD: LazyLock<Guard> = LazyLock::new(|| {
    let settings = ["upstream.endpoint=http://127.0.0.1:9".to_owned(), format!("access.allowed_origins={ORIGIN}")];
    let overrides = Overrides { assignments: settings.to_vec(), ..Overrides::default() };
    Guard::new(&Config::isolated(&overrides).expect("a configuration").access)
});

fuzz_target!(|raw: &[u8]| {
    let mut lines = raw.split(|byte| *byte == b'\n');
    let Ok(uri) = Uri::try_from(lines.next().unwrap_or_default()) else { return };
    let mut fields = HeaderMap::new();
    for line in lines {
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (halves.next(), halves.next()) else { continue };
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) else { continue };
        fields.append(name, value);
    }
    let expected = oracle::may_call(uri.authority().map(|authority| authority.as_str()), &fields, ORIGIN);
    let mut request = Request::new(());
    *request.uri_mut() = uri;
    *request.headers_mut() = fields;
    let admitted = GUARD.admit(&request).map(|cors| cors.is_some()).ok();
    assert_eq!(admitted, expected, "{request:?}");
});
