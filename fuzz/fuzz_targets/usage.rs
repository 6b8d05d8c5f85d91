//! Any bytes as a response: what it has cost does not depend on where they are cut, and nothing that is well-formed is missed.

#![no_main]

use aoai_auth_proxy::inspect::usage::{Cost, SocketUsageReader, Usage, UsageReader};
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

fn read(kind: &'static str, content: &[u8], cut: impl Fn(&[u8]) -> usize) -> (Cost, Option<String>, u64, bool) {
    let fields = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
    let mut reader = UsageReader::of(&fields);
    pieces(content, cut, |piece| reader.read(piece));
    (reader.cost(), reader.model().map(str::to_owned), reader.events(), reader.is_readable())
}

/// Each cost with its model, and how often it was told that not all can be read.
fn hear(content: &[u8], cut: impl Fn(&[u8]) -> usize) -> (Vec<(Usage, Option<String>)>, usize) {
    let (mut reader, mut heard, mut unread) = (SocketUsageReader::new(), Vec::new(), 0);
    pieces(content, cut, |piece| {
        reader.read(piece, |usage, model| match usage {
            Some(usage) => heard.push((usage, model.map(str::to_owned))),
            None => unread += 1,
        });
    });
    (heard, unread)
}

/// Takes pieces off `content`, each as long as `cut` says.
fn pieces(mut content: &[u8], cut: impl Fn(&[u8]) -> usize, mut read: impl FnMut(&[u8])) {
    while !content.is_empty() {
        let (piece, rest) = content.split_at(cut(content).clamp(1, content.len()));
        read(piece);
        content = rest;
    }
}

fuzz_target!(|input: (u64, &[u8])| {
    let (seed, content) = input;
    // Lengths that differ, of up to 64 bytes or of up to 4.
    let most = if seed & 1 == 0 { 64 } else { 4 };
    let anywhere = |rest: &[u8]| (seed.rotate_left(rest.len() as u32 % 64) % most) as usize;
    for kind in ["application/json", "text/event-stream"] {
        let whole = read(kind, content, <[u8]>::len);
        assert_eq!(read(kind, content, |_| 1), whole);
        assert_eq!(read(kind, content, anywhere), whole);
    }
    let whole = hear(content, <[u8]>::len);
    assert_eq!(hear(content, |_| 1), whole);
    assert_eq!(hear(content, anywhere), whole);
    agrees_with_another_parser(content);
});

/// Where another parser finds counts of tokens, so do we: in an answer, an event and a message.
fn agrees_with_another_parser(content: &[u8]) {
    let Ok(object) = serde_json::from_slice::<Map<String, Value>>(content) else { return };
    // What is too long is not kept, and keys written with escapes or several times are a parser's own affair.
    if content.len() > 4096
        || content.contains(&b'\\')
        || content.windows(7).filter(|key| key == b"\"usage\"").count() > 1
    {
        return;
    }
    let Some(input) = object.get("usage").and_then(|usage| usage.as_object()).filter(|usage| usage.len() == 1) else {
        return;
    };
    let Some(input) = input.get("input_tokens").and_then(Value::as_u64).filter(|input| *input < 1 << 32) else {
        return;
    };
    let expected = Cost::Told(Usage { input, cached: 0, output: 0, reasoning: 0 });
    let event = [b"data: ", &*serde_json::to_vec(&object).unwrap_or_default(), b"\n\n"].concat();
    assert_eq!(read("application/json", content, <[u8]>::len).0, expected);
    assert_eq!(read("text/event-stream", &event, <[u8]>::len).0, expected);
}
