//! Any bytes as a request: what the reader makes of them does not depend on where they are cut, and whatever it accepts
//! another parser reads alike.

#![no_main]

use aoai_auth_proxy::inspect::model::{ModelNames, ModelReader, Unseen};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

fn models(content: &[u8], length: usize) -> Result<Vec<String>, Unseen> {
    let mut reader = ModelReader::new();
    content.chunks(length.max(1)).try_for_each(|piece| reader.read(piece))?;
    reader.end().map(|()| reader.models().to_vec())
}

/// The name that comes first, and what all reading tells of that.
fn first(content: &[u8], length: usize) -> (Option<String>, Option<String>) {
    let (mut names, mut reader) = (ModelNames::default(), ModelReader::new());
    for piece in content.chunks(length.max(1)) {
        let read = reader.read(piece);
        let first = names.next(&mut &*piece).map(|name| name.map(|name| name.into_owned()));
        if read.is_err() || !reader.models().is_empty() || first != Ok(None) {
            return (first.ok().flatten(), reader.models().first().cloned());
        }
    }
    (None, None)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (length, content) = input;
    let whole = models(content, content.len());
    assert_eq!(models(content, length.into()), whole);
    let (first, expected) = first(content, length.into());
    assert_eq!(first, expected);
    // The other parser keeps the last of several keys: it must be among those that were seen.
    if let (Ok(seen), Ok(object)) = (whole, serde_json::from_slice::<Map<String, Value>>(content)) {
        for (_, model) in object.iter().filter(|(key, _)| key.eq_ignore_ascii_case("model")) {
            assert!(model.as_str().is_some_and(|model| seen.iter().any(|seen| seen == model)), "{seen:?}");
        }
    }
});
