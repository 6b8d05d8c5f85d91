//! Any bytes as lines of fields: cleaning leaves exactly what a naive reading of the rules leaves.

#![no_main]

use aoai_auth_proxy::forward::fields;
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "the other target uses the rest")]
#[path = "../../tests/integration/oracle.rs"]
mod oracle;

fuzz_target!(|raw: &[u8]| {
    let mut map = HeaderMap::new();
    for line in raw.split(|byte| *byte == b'\n') {
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (halves.next(), halves.next()) else { continue };
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) else { continue };
        map.append(name, value);
    }
    let given = oracle::by_name(map.iter());
    let left = |clean: fn(&mut HeaderMap)| {
        let mut map = map.clone();
        clean(&mut map);
        oracle::by_name(map.iter())
    };
    assert_eq!(left(fields::clean_request), oracle::cleaned_request(given.clone()));
    assert_eq!(left(fields::clean_response), oracle::cleaned_response(given));
});
