//! Every shape in which the OpenAI API tells a usage, whole and in pieces; and what is no usage at all.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::message::LONGEST_USAGE;
use super::*;

const JSON: &str = "application/json; charset=utf-8";
const EVENTS: &str = "text/event-stream; charset=utf-8";

/// What is read of content that comes in pieces: cost, model, events and whether it can be read.
fn read<'a>(kind: &str, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Cost, Option<String>, u64, bool) {
    let mut reader = reader(kind);
    pieces.into_iter().for_each(|piece| reader.read(piece));
    (reader.cost(), reader.model().map(str::to_owned), reader.events(), reader.is_readable())
}

fn reader(kind: &str) -> UsageReader {
    UsageReader::of(&HeaderMap::from_iter([(CONTENT_TYPE, kind.parse().unwrap())]))
}

/// Input, cached, output and reasoning tokens, the model, and how many events: the same however content is cut.
fn told(kind: &str, content: &str) -> (Option<[u64; 4]>, Option<String>, u64) {
    let whole = read(kind, [content.as_bytes()]);
    for length in 1..content.len() {
        assert_eq!(read(kind, content.as_bytes().chunks(length)), whole, "{length}: {content}");
    }
    let (cost, model, events, _) = whole;
    (counts(cost), model, events)
}

fn counts(cost: Cost) -> Option<[u64; 4]> {
    let Cost::Told(usage) = cost else { return None };
    Some([usage.input, usage.cached, usage.output, usage.reasoning])
}

#[test]
fn json_tells_its_usage() {
    for (usage, expected) in [
        (
            r#"{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7,"prompt_tokens_details":{"cached_tokens":2,"audio_tokens":1},"completion_tokens_details":{"reasoning_tokens":1,"audio_tokens":1,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#,
            Some([3, 2, 4, 1]),
        ),
        (
            r#"{"input_tokens":3,"input_tokens_details":{"cached_tokens":2},"output_tokens":4,"output_tokens_details":{"reasoning_tokens":1},"total_tokens":7}"#,
            Some([3, 2, 4, 1]),
        ),
        // Embeddings.
        (r#"{"prompt_tokens":5,"total_tokens":5}"#, Some([5, 0, 0, 0])),
        // Transcriptions.
        (
            r#"{"type":"tokens","total_tokens":11,"input_tokens":5,"input_token_details":{"text_tokens":0,"audio_tokens":5},"output_tokens":6}"#,
            Some([5, 0, 6, 0]),
        ),
        (r#"{"type":"duration","seconds":5}"#, None),
        // Images.
        (
            r#"{"input_tokens":5,"input_tokens_details":{"image_tokens":0,"text_tokens":5},"output_tokens":600,"total_tokens":605}"#,
            Some([5, 0, 600, 0]),
        ),
        // Realtime.
        (
            r#"{"total_tokens":9,"input_tokens":5,"output_tokens":4,"input_token_details":{"text_tokens":1,"audio_tokens":4,"cached_tokens":3,"cached_tokens_details":{"text_tokens":1,"audio_tokens":2}},"output_token_details":{"text_tokens":1,"audio_tokens":3}}"#,
            Some([5, 3, 4, 0]),
        ),
        // Grok counts its thoughts only in the total.
        (
            r#"{"prompt_tokens":32,"completion_tokens":9,"total_tokens":135,"completion_tokens_details":{"reasoning_tokens":94}}"#,
            Some([32, 0, 103, 94]),
        ),
        (
            r#"{"prompt_tokens":32,"completion_tokens":90,"total_tokens":130,"completion_tokens_details":{"reasoning_tokens":8}}"#,
            Some([32, 0, 98, 8]),
        ),
        (r#"{"completion_tokens":9,"completion_tokens_details":{"reasoning_tokens":94}}"#, Some([0, 0, 103, 94])),
        (r#"{"prompt_tokens":5,"prompt_tokens_details":{"cached_tokens":6}}"#, Some([5, 5, 0, 0])),
        (r#"{"prompt_tokens":5,"prompt_tokens_details":null,"completion_tokens":null}"#, Some([5, 0, 0, 0])),
        ("null", None),
        ("{}", None),
        ("[]", None),
        ("5", None),
        (r#"{"prompt_tokens":-5}"#, None),
        (r#"{"prompt_tokens":5.5}"#, None),
        (r#"{"prompt_tokens":5,"prompt_tokens":6}"#, None),
        (r#"{"prompt_tokens":99999999999999999999999}"#, None),
        (r#"{"prompt_tokens":9999999999999}"#, None),
    ] {
        let content = format!(r#"{{"model":"","model":"m","model":"n", "usage" : {usage} ,"data":[]}}"#);
        assert_eq!(told(JSON, &content), (expected, Some("m".to_owned()), 0), "{content}");
    }
}

#[test]
fn what_is_not_to_be_seen_in_a_name_is_made_visible() {
    for (written, expected) in [
        ("gpt-4.1 mini", "gpt-4.1 mini"),
        ("übung-模型", "übung-模型"),
        ("\u{202e}o4-tpg", "\u{fffd}o4-tpg"),
        ("a\u{2028}b\u{2029}c\u{200b}d\u{feff}", "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}"),
        ("a\\nb\\u001b[31m\\u0000\\u009b\\u00ad", "a\u{fffd}b\u{fffd}[31m\u{fffd}\u{fffd}\u{fffd}"),
        ("a\u{2066}b\u{2069}\u{e0041}", "a\u{fffd}b\u{fffd}\u{fffd}"),
    ] {
        let content = format!(r#"{{"model":"{written}"}}"#);
        assert_eq!(told(JSON, &content).1.as_deref(), Some(expected), "{content}");
        assert_eq!(told(EVENTS, &format!("data: {content}\n\n")).1.as_deref(), Some(expected), "{content}");
    }
}

#[test]
fn a_usage_counts_only_in_its_place() {
    for (content, expected) in [
        (r#"{"usage":{"input_tokens":1},"usage":{"input_tokens":2}}"#, Some([2, 0, 0, 0])),
        (r#"{"usage":{"input_tokens":1},"usage":null}"#, Some([1, 0, 0, 0])),
        (r#"{"usage":{"input_tokens":1},"usage":{}}"#, None),
        (r#"{"metadata":{"usage":{"input_tokens":5}}}"#, None),
        (r#"{"output":[{"usage":{"input_tokens":5}}]}"#, None),
        (r#"{"response":{"usage":{"input_tokens":5}}}"#, None),
        (r#"{"text":"\"usage\":{\"input_tokens\":5}"}"#, None),
        (r#"{"text":"\\","usage":{"input_tokens":5}}"#, Some([5, 0, 0, 0])),
        (r#"{"text":["}]","\\\"}]"],"usage":{"input_tokens":5}}"#, Some([5, 0, 0, 0])),
        (r#"{"usage":{"input_tokens":5}"#, None),
        (r#"{"usage":{"input_tokens":5],"x":{}}"#, None),
        (r#"{"usage":{"input_tokens":5}}x"#, None),
        (r#"[{"usage":{"input_tokens":5}}]"#, None),
        (r#""usage":{"input_tokens":5}"#, None),
        ("\u{feff}{}", None),
        ("", None),
    ] {
        assert_eq!(told(JSON, content), (expected, None, 0), "{content}");
    }
    assert_eq!(told("application/problem+json", r#"{"usage":{"input_tokens":5}}"#).0, Some([5, 0, 0, 0]));
}

#[test]
fn what_is_not_known_is_told_apart() {
    let known = |kind, content: &str| {
        let (cost, _, _, is_readable) = read(kind, [content.as_bytes()]);
        (matches!(cost, Cost::Unclear), is_readable)
    };
    assert_eq!(known(JSON, r#"{"usage":null}"#), (false, true));
    assert_eq!(known(JSON, r#"{"usage":{"type":"duration","seconds":1}}"#), (true, true));
    assert_eq!(known(JSON, r#"{"usage":{"type":"dur"#), (false, true));
    assert_eq!(known(JSON, "upstream error"), (false, false));
    assert_eq!(known(EVENTS, "data: {\"usage\":{\"seconds\":1}}\n\n"), (true, true));
    assert_eq!(known(EVENTS, "data: x\n\n"), (false, true));
    assert_eq!(known("text/plain", r#"{"usage":{"input_tokens":5}}"#), (false, false));
}

#[test]
fn events_tell_their_usage() {
    let m = Some("m".to_owned());
    for (content, expected) in [
        (
            "data: {\"model\":\"\"}\n\ndata: {\"model\":\"m\",\"usage\":null}\n\ndata: {\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\ndata: [DONE]\n\n",
            (Some([3, 0, 4, 0]), m.clone(), 3),
        ),
        (
            "event: response.created\r\ndata:{\"response\":{\"model\":\"m\",\"usage\":null}}\r\n\r\n: comment\r\n\r\nevent: response.completed\r\ndata: {\"response\":{\"metadata\":{\"usage\":{\"input_tokens\":9}},\"usage\":{\"input_tokens\":3,\"output_tokens\":4}}}\r\n\r\n",
            (Some([3, 0, 4, 0]), m.clone(), 2),
        ),
        (
            "data: {\"model\":\"m\",\rdata: \"usage\":\rdata\rdata:{\"input_tokens\":1}}\r\rdata: {\"usage\":{\"input_tokens\":2}}\r\r",
            (Some([2, 0, 0, 0]), m.clone(), 2),
        ),
        (
            "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"model\":\"m\",\"usage\":{\"input_tokens\":5,\"output_tokens\":0}}}\n\n",
            (Some([5, 0, 0, 0]), m.clone(), 1),
        ),
        (
            "event: response.incomplete\ndata: {\"response\":{\"model\":\"m\",\"usage\":{\"input_tokens\":5,\"output_tokens\":6}}}\n\n",
            (Some([5, 0, 6, 0]), m.clone(), 1),
        ),
        (
            "event: image_generation.completed\ndata: {\"type\":\"image_generation.completed\",\"model\":\"m\",\"b64_json\":\"AA==\",\"usage\":{\"input_tokens\":5,\"output_tokens\":600,\"total_tokens\":605}}\n\n",
            (Some([5, 0, 600, 0]), m.clone(), 1),
        ),
        ("data: {\"usage\":{\"input_tokens\":1}}\n\ndata: {\"usage\":nullx}\n\n", (None, None, 2)),
        ("data: {\"usage\":{\"input_tokens\":1}\n\n", (None, None, 1)),
        (
            "data: {\"type\":\"speech.audio.delta\",\"audio\":\"AA==\"}\n\ndata: {\"type\":\"speech.audio.done\",\"usage\":{\"input_tokens\":5,\"output_tokens\":6,\"total_tokens\":11}}\n\n",
            (Some([5, 0, 6, 0]), None, 2),
        ),
        (
            "data: {\"type\":\"transcript.text.delta\",\"delta\":\"\\\"usage\\\"\"}\n\ndata: {\"type\":\"transcript.text.done\",\"usage\":{\"type\":\"tokens\",\"input_tokens\":5,\"input_token_details\":{\"audio_tokens\":5},\"output_tokens\":6}}\n\n",
            (Some([5, 0, 6, 0]), None, 2),
        ),
        (
            "data: {\"model\":\"m\",\"usage\":{\"input_tokens\":1}}\n\ndata: {\"model\":\"n\",\"choices\":[],\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}\n\ndata: {\"usage\":null}\n\n",
            (Some([1, 0, 1, 0]), m.clone(), 3),
        ),
        (
            "data: {\"model\":\"m\"}\n\ndata: {\"usage\":nullx}\n\ndata: {\"usage\":null}}\n\ndata: {\"usage\" :{\"input_tokens\":1}}\n\ndata: {\"x\":\"usage\",\"usage\":null}\n\n",
            (Some([1, 0, 0, 0]), m.clone(), 5),
        ),
        (
            "data: {\"model\":\"m\"}\n\ndata: {\"usage\":{\"input_tokens\":1}\ndata: }\n\ndata:\ndata: \ndata: {\"usage\":{\"input_tokens\":2}}\n\n",
            (Some([2, 0, 0, 0]), m.clone(), 3),
        ),
        ("data: {\"mod\ndata: el\":\"m\",\"usage\":{\"input_tokens\":1}}\n\n", (Some([1, 0, 0, 0]), None, 1)),
        (
            "data: {\"model\":\"m\"}\n\ndata: x\n\ndatax: {\"model\":\"n\"}\n\n data: {}\n\ndata: {\"model\":\"n\"}\n",
            (None, m, 2),
        ),
    ] {
        assert_eq!(told("Text/Event-Stream", content), expected, "{content}");
    }
}

/// What responses are made of, and what they are mangled with.
const PIECES: &[&str] = &[
    "data: ",
    "data:",
    "data",
    "event: x",
    ": x",
    "\n",
    "\n\n",
    "\n\ndata: {",
    "\r",
    "\r\n\r\n",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "[DONE]",
    r#""model":"m""#,
    r#""model":""#,
    r#""usage":"#,
    r#""usage":null"#,
    r#","usage":null}"#,
    r#"{"prompt_tokens":1,"completion_tokens":2}"#,
    r#"{"usage":{"input_tokens":3}}"#,
    r#""response":"#,
    r#"{"response":{"usage":{"output_tokens":4}}}"#,
    r#"{"model":"n","data":[0.125,-0.5,1e-7,{"text":"\\\"usage\\\": {[","b64":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\\\\"}],"#,
    "\u{fffd}",
    "1e9",
    " ",
];

/// `content` in pieces that end at `cuts`.
pub(super) fn cut<'a>(content: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(content.len() + 1)).chain([content.len()]).collect();
    ends.sort_unstable();
    let begins = [0].into_iter().chain(ends.clone());
    begins.zip(&ends).map(|(begin, end)| &content[begin..*end]).collect()
}

proptest! {
    #[test]
    fn it_does_not_matter_where_content_is_cut(
        pieces in vec(select(PIECES), 0..40),
        cuts in vec(any::<Index>(), 0..12),
        kind in select(vec![JSON, EVENTS]),
    ) {
        let content = pieces.concat();
        let whole = read(kind, [content.as_bytes()]);
        prop_assert_eq!(&read(kind, content.as_bytes().chunks(1)), &whole);
        prop_assert_eq!(&read(kind, cut(content.as_bytes(), &cuts)), &whole);
    }

    #[test]
    fn any_bytes_can_be_read(content in vec(any::<u8>(), 0..200), kind in select(vec![JSON, EVENTS])) {
        let whole = read(kind, [&content[..]]);
        prop_assert_eq!(read(kind, content.chunks(1)), whole);
    }
}

#[test]
fn long_values_are_passed_over_wherever_they_are_cut() {
    let numbers = "-0.0123456,".repeat(400);
    let escapes: String = (0..70).flat_map(|length| ["x".repeat(length), r#"\\\"\u005c"#.to_owned()]).collect();
    let nested = format!("{}{}", r#"[{"a":"#.repeat(300), "}]".repeat(300).replacen('}', "1}", 1));
    let image = "iVBORw0KGgo/".repeat(400);
    let content = format!(
        r#"{{"data":[{{"embedding":[{numbers}1],"text":"{escapes}"}}],"{escapes}":{nested},"b64_json":"{image}","text":"{escapes}","usage":{{"input_tokens":7}},"model":"m"}}"#
    );
    let events = format!("data: {{\"model\":\"m\"}}\n\nevent: x\ndata: {content}\n\ndata: {{\"usage\":null}}\n\n");
    for (kind, content, events) in [(JSON, content, 0), (EVENTS, events, 3)] {
        for length in (1..100).chain([1000, 4096, 16_384, content.len()]) {
            let (cost, model, count, _) = read(kind, content.as_bytes().chunks(length));
            assert_eq!((counts(cost), model.as_deref(), count), (Some([7, 0, 0, 0]), Some("m"), events), "{length}");
        }
    }
}

#[test]
fn nothing_long_is_kept() {
    for (kind, beginning, byte, length) in [
        (JSON, r#"{"text":""#, b'x', 1 << 20),
        (JSON, r#"{""#, b'x', 1 << 20),
        (JSON, r#"{"usage":{"x":""#, b'x', 64 << 20),
        (JSON, r#"{"model":""#, b'x', 1 << 20),
        (JSON, r#"{"x":"#, b'1', 1 << 18),
        (JSON, r#"{"x":["#, b'[', 1 << 18),
        (JSON, r#"{"usage":{"x":["#, b'[', 1 << 18),
        (JSON, "", b' ', 1 << 18),
        (EVENTS, "", b'x', 1 << 20),
        (EVENTS, "data: ", b'x', 1 << 20),
        (EVENTS, r#"data: {"response":{"usage":""#, b'x', 64 << 20),
    ] {
        let mut reader = reader(kind);
        reader.read(beginning.as_bytes());
        let piece = vec![byte; 1 << 16];
        (0..length >> 16).for_each(|_| reader.read(&piece));
        assert_eq!(reader.cost(), Cost::Untold);
        assert!(reader.retained() <= 2 * LONGEST_USAGE, "{beginning}: {}", reader.retained());
    }
}

#[test]
fn nothing_is_decoded() {
    for (coding, expected) in [("identity", Some(1)), ("gzip", None)] {
        let mut fields = HeaderMap::new();
        fields.insert(CONTENT_TYPE, "application/json".parse().unwrap());
        fields.insert(CONTENT_ENCODING, coding.parse().unwrap());
        let mut reader = UsageReader::of(&fields);
        reader.read(br#"{"usage":{"input_tokens":1}}"#);
        assert_eq!(reader.usage().map(|usage| usage.total()), expected);
        assert_eq!(reader.is_readable(), expected.is_some());
    }
}
