//! Any bytes as a response: what it has cost does not depend on where they are cut.

#![no_main]

use aoai_auth_proxy::inspect::usage::{Usage, UsageReader};
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};
use libfuzzer_sys::fuzz_target;

fn read(kind: &'static str, content: &[u8], length: usize) -> (Option<Usage>, Option<String>, u64) {
    let fields = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
    let mut reader = UsageReader::of(&fields);
    content.chunks(length.max(1)).for_each(|piece| reader.read(piece));
    (reader.usage(), reader.model().map(str::to_owned), reader.events())
}

fuzz_target!(|input: (u8, &[u8])| {
    let (length, content) = input;
    for kind in ["application/json", "text/event-stream"] {
        assert_eq!(read(kind, content, length.into()), read(kind, content, content.len()));
    }
});
