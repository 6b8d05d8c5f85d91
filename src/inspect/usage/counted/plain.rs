//! A usage object as the resource writes it nearly always, read without a parser of all that JSON can be.
//!
//! What is read here, that parser reads alike; it is for everything else.

use super::{Counted, Details};
use crate::inspect::scan::plain_ascii;

/// So many digits are of a number that fits.
const MOST_DIGITS: usize = 19;

/// What the object says that `json` begins with, and how long it is: if it is of plain keys, each known one at most once, and
/// of whole numbers, objects of such, and texts and nulls that say nothing.
pub(super) fn counted(json: &[u8]) -> Option<(Counted, usize)> {
    let mut rest = json;
    let mut counted = Counted::default();
    members(&mut rest, |key, json| match key {
        b"prompt_tokens" => count(&mut counted.prompt_tokens, json),
        b"completion_tokens" => count(&mut counted.completion_tokens, json),
        b"input_tokens" => count(&mut counted.input_tokens, json),
        b"output_tokens" => count(&mut counted.output_tokens, json),
        b"total_tokens" => count(&mut counted.total_tokens, json),
        b"prompt_tokens_details" => details(&mut counted.prompt_tokens_details, json),
        b"completion_tokens_details" => details(&mut counted.completion_tokens_details, json),
        b"input_tokens_details" => details(&mut counted.input_tokens_details, json),
        b"output_tokens_details" => details(&mut counted.output_tokens_details, json),
        b"input_token_details" => details(&mut counted.input_token_details, json),
        b"output_token_details" => details(&mut counted.output_token_details, json),
        _ => other(json),
    })?;
    Some((counted, json.len() - rest.len()))
}

fn details(place: &mut Option<Details>, json: &mut &[u8]) -> Option<()> {
    let mut details = Details::default();
    members(json, |key, json| match key {
        b"cached_tokens" => count(&mut details.cached_tokens, json),
        b"reasoning_tokens" => count(&mut details.reasoning_tokens, json),
        _ => other(json),
    })?;
    place.replace(details).is_none().then_some(())
}

fn count(place: &mut Option<u64>, json: &mut &[u8]) -> Option<()> {
    place.replace(number(json)?).is_none().then_some(())
}

/// Takes the value of a key that says nothing.
fn other(json: &mut &[u8]) -> Option<()> {
    match json {
        [b'"', rest @ ..] => *json = rest.get(plain_ascii(rest)..)?.strip_prefix(b"\"")?,
        [b'n', ..] => *json = json.strip_prefix(b"null")?,
        _ => drop(number(json)?),
    }
    Some(())
}

/// Takes an object, each of whose values `member` takes.
fn members(json: &mut &[u8], mut member: impl FnMut(&[u8], &mut &[u8]) -> Option<()>) -> Option<()> {
    take(json, b'{')?;
    if take(json, b'}').is_some() {
        return Some(());
    }
    loop {
        *json = json.strip_prefix(b"\"")?;
        let (key, rest) = json.split_at_checked(plain_ascii(json))?;
        *json = rest.strip_prefix(b"\"")?;
        take(json, b':')?;
        member(key, json)?;
        blanks(json);
        match json.split_off_first()? {
            b',' => blanks(json),
            b'}' => return Some(()),
            _ => return None,
        }
    }
}

/// Takes `mark` and the blanks around it.
fn take(json: &mut &[u8], mark: u8) -> Option<()> {
    blanks(json);
    if json.first() != Some(&mark) {
        return None;
    }
    *json = json.get(1..)?;
    blanks(json);
    Some(())
}

#[inline]
fn blanks(json: &mut &[u8]) {
    while let [b'\0'..=b' ', ..] = json
        && let [b' ' | b'\n' | b'\r' | b'\t', rest @ ..] = json
    {
        *json = rest;
    }
}

/// Takes a whole number that is neither negative nor too large.
fn number(json: &mut &[u8]) -> Option<u64> {
    let (mut value, mut digits) = (0, 0);
    while let [digit @ b'0'..=b'9', rest @ ..] = json {
        // Too long, or with a zero before it.
        if digits == MOST_DIGITS || digits == 1 && value == 0 {
            return None;
        }
        value = value * 10 + u64::from(digit - b'0');
        digits += 1;
        *json = rest;
    }
    let goes_on = matches!(json, [b'.' | b'e' | b'E', ..]);
    (digits > 0 && !goes_on).then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;

    const KEYS: &[&str] = &[
        "prompt_tokens",
        "completion_tokens",
        "input_tokens",
        "output_tokens",
        "total_tokens",
        "prompt_tokens_details",
        "completion_tokens_details",
        "input_tokens_details",
        "output_tokens_details",
        "input_token_details",
        "output_token_details",
        "cached_tokens",
        "reasoning_tokens",
        "audio_tokens",
        "type",
        "x\\\"y",
        "é",
    ];

    const VALUES: &[&str] = &[
        "0",
        "00",
        "-1",
        "1.5",
        "1e3",
        "9999999999999999999",
        "18446744073709551616",
        "null",
        "nul",
        "true",
        r#""tokens""#,
        r#""\n""#,
        "[1]",
        "{}",
        r#"{"cached_tokens":3,"reasoning_tokens":2,"audio_tokens":1}"#,
    ];

    fn usage() -> impl Strategy<Value = String> {
        let value = prop_oneof![3 => any::<u32>().prop_map(|value| value.to_string()), 1 => select(VALUES).prop_map(str::to_owned)];
        let object = |value: BoxedStrategy<String>| {
            let blank = select(&["", "", " ", "\n\t", "\r"][..]);
            let member = (select(KEYS), value, blank)
                .prop_map(|(key, value, blank)| format!(r#"{blank}"{key}"{blank}:{blank}{value}{blank}"#));
            vec(member, 0..6).prop_map(|members| format!("{{{}}}", members.join(",")))
        };
        let value = value.boxed();
        object(prop_oneof![3 => value.clone(), 1 => object(value)].boxed())
    }

    proptest! {
        #[test]
        fn what_is_read_another_parser_reads_alike(
            mut json in usage(),
            behind in select(&["", "}", ",1", " "][..]),
            damage in prop::option::of((any::<Index>(), select(&["", " ", "\"", ",", "0", "}", "\u{1}"][..]))),
        ) {
            if let Some((at, damage)) = damage {
                let at = at.index(json.len());
                if json.is_char_boundary(at) && json.is_char_boundary(at + 1) {
                    json.replace_range(at..=at, damage);
                }
            }
            if let Some((counted, length)) = counted((json.clone() + behind).as_bytes()) {
                let whole = json.clone() + behind;
                prop_assert_eq!(serde_json::from_str::<Counted>(&whole[..length]).ok(), Some(counted), "{}", whole);
            }
        }
    }

    #[test]
    fn what_the_resource_writes_is_read() {
        for (json, output) in [
            (
                r#"{"prompt_tokens":19,"completion_tokens":96,"total_tokens":115,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"accepted_prediction_tokens":0}}"#,
                Some(96),
            ),
            ("{\n  \"completion_tokens\": 9,\n  \"completion_tokens_details\": {}\n}", Some(9)),
            (
                r#"{"type":"tokens","input_tokens":5,"input_token_details":{"text_tokens":0},"output_tokens":null}"#,
                None,
            ),
        ] {
            let counted = counted(format!("{json},\"x\":1}}").as_bytes());
            if let Some(output) = output {
                let (counted, length) = counted.unwrap();
                assert_eq!((counted.completion_tokens, length), (Some(output), json.len()));
            } else {
                // A null where a count could be is for the other parser.
                assert_eq!(counted, None);
            }
        }
    }
}
