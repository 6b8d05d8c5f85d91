//! How many tokens the resource says that a response has cost.

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde::Deserialize;

use super::events::{Events, Part};
use super::frames::{self, Frames};
use super::json::{Document, Found, Place};

/// The longest name of a model that is kept, in bytes.
const LONGEST_NAME: usize = 256;
/// How much of a usage object is kept.
const LONGEST_USAGE: usize = 4096;
/// No response costs more tokens.
const MOST_TOKENS: u64 = 1 << 40;

const MODEL: &str = "model";
const USAGE: &str = "usage";

const ANSWER: &[Place] =
    &[Place { path: &[MODEL], most: 6 * LONGEST_NAME + 2 }, Place { path: &[USAGE], most: LONGEST_USAGE }];
/// The events of a response in the Responses API hold all of it, one level down.
const EVENT: &[Place] = &[
    Place { path: &[MODEL], most: 6 * LONGEST_NAME + 2 },
    Place { path: &[USAGE], most: LONGEST_USAGE },
    Place { path: &["response", MODEL], most: 6 * LONGEST_NAME + 2 },
    Place { path: &["response", USAGE], most: LONGEST_USAGE },
];

/// What a response has cost, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// What was sent.
    pub input: u64,
    /// How much of that the resource had still in mind.
    pub cached: u64,
    /// What was answered.
    pub output: u64,
    /// How much of that was thought and not said.
    pub reasoning: u64,
}

impl Usage {
    /// Everything that was sent and answered.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

/// Reads a response's content for its usage, whatever form it has. Content that is something else has none.
#[derive(Debug)]
pub struct UsageReader {
    form: Form,
    said: Said,
    events: u64,
}

#[derive(Debug)]
enum Form {
    Json(Box<Message>),
    Events { events: Events, message: Option<Box<Message>> },
    Unknown,
}

/// One JSON object that may have a usage.
#[derive(Debug)]
struct Message {
    document: Document,
    is_broken: bool,
    said: Said,
}

/// What the resource said.
#[derive(Debug, Default, Clone)]
struct Said {
    cost: Cost,
    model: Option<String>,
}

#[derive(Debug, Default, Clone, Copy)]
enum Cost {
    #[default]
    Untold,
    /// Told in a way that makes no sense, so that what was told before does not hold either.
    Unclear,
    Told(Usage),
}

impl UsageReader {
    /// A reader of the content that `fields` describe.
    #[must_use]
    pub fn of(fields: &HeaderMap) -> Self {
        let form = if is_encoded(fields) {
            Form::Unknown
        } else {
            match media_type(fields).as_deref() {
                Some("text/event-stream") => Form::Events { events: Events::default(), message: None },
                Some(json) if json == "application/json" || json.ends_with("+json") => {
                    Form::Json(Box::new(Message::new(ANSWER)))
                }
                _ => Form::Unknown,
            }
        };
        Self { form, said: Said::default(), events: 0 }
    }

    /// Reads the next piece of the content.
    pub fn read(&mut self, piece: &[u8]) {
        match &mut self.form {
            Form::Json(message) => message.read(piece),
            Form::Events { events, message } => {
                let mut rest = piece;
                while let Some(part) = events.next(&mut rest) {
                    match part {
                        Part::Data(data) => message.get_or_insert_with(|| Box::new(Message::new(EVENT))).read(data),
                        Part::End { is_done } => {
                            self.events = self.events.saturating_add(u64::from(!is_done));
                            if let Some(said) = message.take().and_then(|message| message.whole().cloned()) {
                                self.said.replace(said);
                            }
                        }
                    }
                }
            }
            Form::Unknown => {}
        }
    }

    /// The usage, once the whole JSON object or event that tells it has been read.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        match self.said().cost {
            Cost::Told(usage) => Some(usage),
            Cost::Untold | Cost::Unclear => None,
        }
    }

    /// The model that the resource names.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.said().model.as_deref()
    }

    /// How many events with data there were, `[DONE]` apart.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    fn said(&self) -> &Said {
        match &self.form {
            Form::Json(message) => message.whole().unwrap_or(&self.said),
            Form::Events { .. } | Form::Unknown => &self.said,
        }
    }
}

/// Reads what a server says over a WebSocket for what it has cost: each response of a session by itself.
#[derive(Debug, Default)]
pub struct SocketUsageReader {
    frames: Frames,
    message: Option<Box<Message>>,
}

impl SocketUsageReader {
    /// A reader of what follows the switch of protocols.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the next piece; `told` hears of each message that ends in it and tells what a response has cost, and its model.
    pub fn read(&mut self, mut piece: &[u8], mut told: impl FnMut(Usage, Option<&str>)) {
        while let Some(part) = self.frames.next(&mut piece) {
            let message = self.message.get_or_insert_with(|| Box::new(Message::new(EVENT)));
            match part {
                frames::Part::Text(text) => message.read(text),
                frames::Part::End => {
                    if let Some(Said { cost: Cost::Told(usage), model }) = message.whole() {
                        told(*usage, model.as_deref());
                    }
                    self.message = None;
                }
            }
        }
    }
}

impl Message {
    fn new(places: &'static [Place]) -> Self {
        Self { document: Document::new(places), is_broken: false, said: Said::default() }
    }

    fn read(&mut self, mut piece: &[u8]) {
        while !self.is_broken {
            match self.document.next(&mut piece) {
                Ok(Some(found)) => self.said.note(&found),
                Ok(None) => return,
                Err(_) => self.is_broken = true,
            }
        }
    }

    fn whole(&self) -> Option<&Said> {
        (!self.is_broken && self.document.has_ended()).then_some(&self.said)
    }
}

impl Said {
    /// What was said later holds, as far as something was.
    fn replace(&mut self, later: Self) {
        if !matches!(later.cost, Cost::Untold) {
            self.cost = later.cost;
        }
        self.model = later.model.or(self.model.take());
    }

    fn note(&mut self, found: &Found<'_>) {
        // Models have the even places.
        if found.place.is_multiple_of(2) {
            let name = found.json.and_then(|json| serde_json::from_slice::<String>(json).ok());
            self.model = name.filter(|name| !name.is_empty() && name.len() <= LONGEST_NAME).or(self.model.take());
        } else if found.json != Some(b"null") {
            self.cost = found.json.and_then(usage).map_or(Cost::Unclear, Cost::Told);
        }
    }
}

#[derive(Deserialize)]
struct Counted {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    prompt_tokens_details: Option<Details>,
    completion_tokens_details: Option<Details>,
    input_tokens_details: Option<Details>,
    output_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    cached_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
}

/// The usage that `json` tells, if it counts tokens and is not absurd.
fn usage(json: &[u8]) -> Option<Usage> {
    let counted: Counted = serde_json::from_slice(json).ok()?;
    let input = counted.input_tokens.or(counted.prompt_tokens);
    let output = counted.output_tokens.or(counted.completion_tokens);
    input.or(output)?;
    let input_details = counted.input_tokens_details.or(counted.prompt_tokens_details);
    let output_details = counted.output_tokens_details.or(counted.completion_tokens_details);
    let usage = Usage {
        input: input.unwrap_or_default(),
        cached: input_details.and_then(|details| details.cached_tokens).unwrap_or_default(),
        output: output.unwrap_or_default(),
        reasoning: output_details.and_then(|details| details.reasoning_tokens).unwrap_or_default(),
    };
    [usage.input, usage.cached, usage.output, usage.reasoning]
        .iter()
        .all(|count| *count <= MOST_TOKENS)
        .then_some(usage)
}

fn is_encoded(fields: &HeaderMap) -> bool {
    fields.get_all(CONTENT_ENCODING).iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// The content's type in lower case, if there is exactly one.
fn media_type(fields: &HeaderMap) -> Option<String> {
    let mut types = fields.get_all(CONTENT_TYPE).iter();
    let (only, None) = (types.next()?, types.next()) else { return None };
    Some(only.to_str().ok()?.split(';').next()?.trim().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    /// What is read of content that comes in pieces of `length` bytes.
    fn read(kind: &str, content: &str, length: usize) -> (Option<Usage>, Option<String>, u64) {
        let mut fields = HeaderMap::new();
        fields.insert(CONTENT_TYPE, kind.parse().unwrap());
        let mut reader = UsageReader::of(&fields);
        content.as_bytes().chunks(length).for_each(|piece| reader.read(piece));
        (reader.usage(), reader.model().map(str::to_owned), reader.events())
    }

    /// Input, cached, output and reasoning tokens, the model, and how many events: the same however content is cut.
    fn told(kind: &str, content: &str) -> (Option<[u64; 4]>, Option<String>, u64) {
        let whole = read(kind, content, content.len().max(1));
        for length in 1..content.len() {
            assert_eq!(read(kind, content, length), whole, "{length}: {content}");
        }
        (whole.0.map(|usage| [usage.input, usage.cached, usage.output, usage.reasoning]), whole.1, whole.2)
    }

    #[test]
    fn json_tells_its_usage() {
        for (content, expected) in [
            (
                r#"{"model":"m","usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7,"prompt_tokens_details":{"cached_tokens":2},"completion_tokens_details":{"reasoning_tokens":1}}}"#,
                Some([3, 2, 4, 1]),
            ),
            (
                r#"{"model":"m","usage":{"input_tokens":3,"input_tokens_details":{"cached_tokens":2},"output_tokens":4,"output_tokens_details":{"reasoning_tokens":1},"total_tokens":7}}"#,
                Some([3, 2, 4, 1]),
            ),
            (r#"{"model":"m","usage":{"prompt_tokens":5,"total_tokens":5}}"#, Some([5, 0, 0, 0])),
            (r#"{"model":"m","usage":{"type":"tokens","input_tokens":5,"output_tokens":6}}"#, Some([5, 0, 6, 0])),
            (r#"{"model":"m","usage":{"type":"duration","seconds":5}}"#, None),
            (r#"{"model":"m","usage":null}"#, None),
            (r#"{"model":"m","usage":{"prompt_tokens":-5}}"#, None),
            (r#"{"model":"m","usage":{"prompt_tokens":5.5}}"#, None),
            (r#"{"model":"m","usage":{"prompt_tokens":99999999999999999999999}}"#, None),
            (r#"{"model":"m","usage":{"prompt_tokens":9999999999999}}"#, None),
            (
                r#"{"model":"m","metadata":{"usage":{"prompt_tokens":5}},"x":[{"usage":{"prompt_tokens":5}}],"response":{"usage":{"prompt_tokens":5}}}"#,
                None,
            ),
        ] {
            assert_eq!(
                told("application/json; charset=utf-8", content),
                (expected, Some("m".to_owned()), 0),
                "{content}"
            );
        }
        assert_eq!(told("application/json", r#"{"usage":{"prompt_tokens":5}"#), (None, None, 0));
        assert_eq!(told("application/json", r#"{"usage":{"prompt_tokens":5}}x"#), (None, None, 0));
        let problem = "application/problem+json";
        assert_eq!(told(problem, r#"{"usage":{"prompt_tokens":5}}"#), (Some([5, 0, 0, 0]), None, 0));
        assert_eq!(told("text/plain", r#"{"usage":{"prompt_tokens":5}}"#), (None, None, 0));
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
            ("data: {\"mod\ndata: el\":\"m\",\"usage\":{\"input_tokens\":1}}\n\n", (None, None, 1)),
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
        "\r",
        "\r\n",
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
        r#"{"prompt_tokens":1,"completion_tokens":2}"#,
        r#"{"usage":{"input_tokens":3}}"#,
        r#""response":"#,
        r#"{"response":{"usage":{"output_tokens":4}}}"#,
        "\u{fffd}",
        "1e9",
        " ",
    ];

    proptest! {
        #[test]
        fn it_does_not_matter_where_content_is_cut(
            pieces in vec(select(PIECES), 0..40),
            mut cuts in vec(any::<prop::sample::Index>(), 0..12),
            kind in select(vec!["application/json", "text/event-stream"]),
        ) {
            let content = pieces.concat();
            let whole = read(kind, &content, content.len().max(1));
            prop_assert_eq!(&read(kind, &content, 1), &whole);
            let mut fields = HeaderMap::new();
            fields.insert(CONTENT_TYPE, kind.parse().unwrap());
            let mut reader = UsageReader::of(&fields);
            let mut cuts: Vec<usize> = cuts.drain(..).map(|cut| cut.index(content.len() + 1)).chain([content.len()]).collect();
            cuts.sort_unstable();
            let mut from = 0;
            for to in cuts {
                reader.read(&content.as_bytes()[from..to]);
                from = to;
            }
            prop_assert_eq!((reader.usage(), reader.model().map(str::to_owned), reader.events()), whole);
        }
    }

    #[test]
    fn each_response_of_a_session_has_its_cost() {
        let text = |text: &str| {
            let length = u16::try_from(text.len()).unwrap().to_be_bytes();
            [&[0x81, 126], &length[..], text.as_bytes()].concat()
        };
        let done = r#"{"type":"response.done","response":{"id":"r","usage":{"input_tokens":3,"output_tokens":4}}}"#;
        let session = [
            text(r#"{"type":"response.created","response":{"usage":null}}"#),
            text(done),
            text("no JSON"),
            text(done),
            text(r#"{"type":"response.completed","response":{"usage":{"input_tokens":1,"output_tokens":1}}}"#),
        ]
        .concat();
        for length in 1..session.len() {
            let mut reader = SocketUsageReader::new();
            let mut tokens = 0;
            session.chunks(length).for_each(|piece| reader.read(piece, |usage, _| tokens += usage.total()));
            assert_eq!(tokens, 16, "{length}");
        }
    }

    #[test]
    fn nothing_is_decoded() {
        let mut fields = HeaderMap::new();
        fields.insert(CONTENT_TYPE, "application/json".parse().unwrap());
        for (coding, expected) in [("identity", Some(1)), ("gzip", None)] {
            fields.insert(CONTENT_ENCODING, coding.parse().unwrap());
            let mut reader = UsageReader::of(&fields);
            reader.read(br#"{"usage":{"input_tokens":1}}"#);
            assert_eq!(reader.usage().map(|usage| usage.total()), expected);
        }
    }
}
