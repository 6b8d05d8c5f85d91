//! Whatever a caller and a resource say to each other arrives as it was said, but for what a small model of the contract
//! takes away or adds.

use std::sync::{Arc, Mutex};

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};

use crate::oracle::{self, Fields};
use crate::support::within;
use crate::wire::{Caller, Framing, Front, Message, Resource};

const CASES: u32 = 160;

type Line = (String, Vec<u8>);

/// A message's content, in the pieces that are chunks if it is sent so.
#[derive(Debug, Clone)]
enum Content {
    None,
    Length(Vec<u8>),
    Chunked {
        chunks: Vec<Vec<u8>>,
        extension: String,
        trailers: Vec<Line>,
    },
    /// All that comes until the connection ends.
    Rest(Vec<u8>),
}

#[derive(Debug, Clone)]
struct Ask {
    method: &'static str,
    target: String,
    lines: Vec<Line>,
    content: Content,
    closes: bool,
    /// Where what is written is cut.
    cuts: Vec<Index>,
}

#[derive(Debug, Clone)]
struct Reply {
    hints: bool,
    status: u16,
    reason: Vec<u8>,
    lines: Vec<Line>,
    content: Content,
    /// Told of content that is not sent, to a HEAD and with a 304.
    length: Option<u16>,
    declares: bool,
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![8 => 0x20..=0x7e_u8, 1 => 0x80..=0xff_u8, 1 => Just(b'\t')];
    vec(byte, 0..24)
}

fn request_line() -> impl Strategy<Value = Line> {
    let known = select(vec![
        "accept",
        "Accept",
        "content-type",
        "Content-Encoding",
        "user-agent",
        "openai-organization",
        "X-Custom",
        "x-custom",
        "x-custom",
        "x-request-id",
        "x-ms-client-request-id",
        "authorization",
        "api-key",
        "Cookie",
        "X-Forwarded-For",
        "forwarded",
        "te",
        "keep-alive",
        "proxy-authorization",
        "date",
        "range",
        "if-none-match",
        "accept-encoding",
        "via",
        "x-other",
    ]);
    line(known.prop_map(str::to_owned))
}

fn response_line() -> impl Strategy<Value = Line> {
    let known = select(vec![
        "content-type",
        "Content-Encoding",
        "set-cookie",
        "Set-Cookie",
        "set-cookie",
        "x-custom",
        "X-Custom",
        "x-request-id",
        "date",
        "keep-alive",
        "proxy-authenticate",
        "te",
        "server",
        "vary",
        "www-authenticate",
        "retry-after",
        "location",
        "etag",
        "via",
        "apim-request-id",
        "x-ms-client-request-id",
        "x-other",
    ]);
    line(known.prop_map(str::to_owned))
}

fn line(known: impl Strategy<Value = String>) -> impl Strategy<Value = Line> {
    prop_oneof![
        6 => (known, value()),
        2 => ("[xX]-[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,8}", value()),
        1 => (Just("connection".to_owned()), select(vec!["x-custom", "keep-alive, X-Other", ",x-custom ,,", "\""]))
            .prop_map(|(name, value)| (name, value.as_bytes().to_vec())),
        1 => (Just("content-type".to_owned()), Just(b"application/json".to_vec())),
    ]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        1 => Just(Vec::new()),
        6 => vec(any::<u8>(), 0..300),
        1 => (any::<u8>(), 0..200_000_usize).prop_map(|(first, length)| {
            (0..length).map(|index| first ^ u8::try_from(index % 251).unwrap_or_default()).collect()
        }),
    ]
}

fn chunked() -> impl Strategy<Value = Content> {
    let trailers = vec(("x-[a-z]{1,6}-sum", value()), 0..3);
    let chunks = vec(bytes().prop_filter("the last one", |chunk| !chunk.is_empty()), 0..5);
    (chunks, "(;[a-z]{1,4}(=[a-z0-9]{1,4})?)?", trailers).prop_map(|(chunks, extension, trailers)| Content::Chunked {
        chunks,
        extension,
        trailers,
    })
}

fn ask() -> impl Strategy<Value = Ask> {
    let method = select(vec![
        "GET", "GET", "POST", "POST", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "QUERY", "purge",
    ]);
    let path = "(/openai)?/v1(/([a-zA-Z0-9_~!$&'()*+,;=:@-]|%20|%C3%A9|%2F){1,6}){1,4}/?";
    let target = (path, weighted(0.5, "([a-z0-9=&+/?:@!$'()*,;._~-]|%26|%3D|%00|&api-key=s|api%2Dkey=s&){0,8}"))
        .prop_map(|(path, query)| path + &query.map(|query| format!("?{query}")).unwrap_or_default());
    let content = prop_oneof![Just(Content::None), bytes().prop_map(Content::Length), chunked()];
    (method, target, vec(request_line(), 0..10), content, any::<bool>(), vec(any::<Index>(), 0..6))
        .prop_map(|(method, target, lines, content, closes, cuts)| Ask { method, target, lines, content, closes, cuts })
}

fn reply() -> impl Strategy<Value = Reply> {
    let status = select(vec![
        200, 200, 200, 201, 202, 204, 206, 226, 299, 300, 301, 302, 303, 304, 307, 308, 400, 402, 403, 404, 405, 408,
        409, 418, 422, 429, 431, 451, 499, 500, 502, 503, 504, 511, 599,
    ]);
    // Beyond ASCII the library reads none (RFC 9112 §4: nobody may rely on one).
    let reason = prop_oneof![
        1 => Just(Vec::new()),
        2 => "[!-~]([ -~]{0,20}[!-~])?".prop_map(String::into_bytes),
    ];
    let content = prop_oneof![
        1 => Just(Content::Length(Vec::new())), 3 => bytes().prop_map(Content::Length), 3 => chunked(),
        1 => bytes().prop_map(Content::Rest),
    ];
    let lines = vec(response_line(), 0..10);
    (weighted(0.1, Just(())), status, reason, lines, content, any::<Option<u16>>(), any::<bool>()).prop_map(
        |(hints, status, reason, lines, content, length, declares)| Reply {
            hints: hints.is_some(),
            status,
            reason,
            lines,
            content,
            length,
            declares,
        },
    )
}

impl Content {
    /// As it is sent: lines of the head, and what stands behind it.
    fn on_the_wire(&self, declares: bool) -> (Vec<Line>, Vec<u8>) {
        let line = |name: &str, value: String| (name.to_owned(), value.into_bytes());
        match self {
            Self::None => (Vec::new(), Vec::new()),
            Self::Length(content) => (vec![line("Content-Length", content.len().to_string())], content.clone()),
            Self::Rest(content) => (vec![line("connection", "close".to_owned())], content.clone()),
            Self::Chunked { chunks, extension, trailers } => {
                let mut wire = Vec::new();
                for chunk in chunks {
                    wire.extend_from_slice(format!("{:X}{extension}\r\n", chunk.len()).as_bytes());
                    wire.extend_from_slice(chunk);
                    wire.extend_from_slice(b"\r\n");
                }
                wire.extend_from_slice(format!("0{extension}\r\n").as_bytes());
                wire.extend(in_lines(trailers));
                wire.extend_from_slice(b"\r\n");
                let mut lines = vec![line("Transfer-Encoding", "chunked".to_owned())];
                if declares && !trailers.is_empty() {
                    let names: Vec<&str> = trailers.iter().map(|(name, _)| &**name).collect();
                    lines.push(line("Trailer", names.join(", ")));
                }
                (lines, wire)
            }
        }
    }

    fn all(&self) -> Vec<u8> {
        match self {
            Self::None => Vec::new(),
            Self::Length(content) | Self::Rest(content) => content.clone(),
            Self::Chunked { chunks, .. } => chunks.concat(),
        }
    }

    fn trailers(&self) -> Fields {
        match self {
            Self::Chunked { trailers, .. } => fields(trailers),
            Self::None | Self::Length(_) | Self::Rest(_) => Fields::new(),
        }
    }
}

fn in_lines(lines: &[Line]) -> Vec<u8> {
    lines.iter().flat_map(|(name, value)| [name.as_bytes(), b": ", value, b"\r\n"].concat()).collect()
}

/// By name, without the space around values, which is no part of them.
fn fields(lines: &[Line]) -> Fields {
    oracle::by_name(lines.iter().map(|(name, value)| (name, value.trim_ascii())))
}

impl Ask {
    fn lines(&self) -> Vec<Line> {
        let mut lines = vec![("Host".to_owned(), b"localhost".to_vec())];
        lines.extend(self.lines.clone());
        lines.extend(self.content.on_the_wire(true).0);
        lines.extend(self.closes.then(|| ("Connection".to_owned(), b"close".to_vec())));
        lines
    }

    fn on_the_wire(&self) -> Vec<u8> {
        let start = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        [start.as_bytes(), &in_lines(&self.lines()), b"\r\n", &self.content.on_the_wire(true).1].concat()
    }

    /// The id that the request goes by, if it is the caller's.
    fn id(&self) -> Option<Vec<u8>> {
        let given = fields(&self.lines).remove("x-request-id")?.swap_remove(0);
        let fit =
            !given.is_empty() && given.len() <= 128 && given.iter().all(|byte| matches!(byte, b'\t' | 0x20..=0x7e));
        fit.then_some(given)
    }
}

impl Reply {
    /// Whether content follows the head of this reply to a request of `method`.
    fn has_content(&self, method: &str) -> bool {
        method != "HEAD" && !matches!(self.status, 204 | 304)
    }

    fn lines(&self, method: &str) -> Vec<Line> {
        let mut lines = self.lines.clone();
        match self.length {
            _ if self.has_content(method) => lines.extend(self.content.on_the_wire(self.declares).0),
            Some(length) if self.status != 204 => {
                lines.push(("content-length".to_owned(), length.to_string().into_bytes()));
            }
            _ => {}
        }
        lines
    }

    fn on_the_wire(&self, method: &str) -> Vec<u8> {
        let hints = if self.hints { "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" } else { "" };
        let start = [format!("{hints}HTTP/1.1 {} ", self.status).as_bytes(), &self.reason].concat();
        let content = if self.has_content(method) { self.content.on_the_wire(false).1 } else { Vec::new() };
        [&*start, b"\r\n", &in_lines(&self.lines(method)), b"\r\n", &content].concat()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a line for each thing that is compared")]
fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: T, expected: T) -> Result<(), TestCaseError> {
    if got == expected { Ok(()) } else { Err(TestCaseError::fail(format!("{what}: {got:?}, not {expected:?}"))) }
}

/// Holds what reached the resource against what the caller said.
fn arrived_whole(ask: &Ask, request: &Message, host: &str) -> Result<(), TestCaseError> {
    let start = request.start();
    let mut words = start.split(' ');
    same("method", words.next(), Some(ask.method))?;
    let target = words.next().unwrap_or_default();
    same("target", oracle::inspect(ask.target.as_bytes(), "", target), Ok(()))?;
    same("version", words.next(), Some("HTTP/1.1"))?;

    let mut expected = oracle::cleaned_request(fields(&ask.lines()));
    let mut got = request.by_name();
    same("host", got.remove("host"), Some(vec![host.as_bytes().to_vec()]))?;
    let keys = got.remove("authorization").unwrap_or_default();
    same("one token", keys.iter().filter(|key| key.starts_with(b"Bearer ey")).count(), 1)?;
    same("authorizations", keys.len(), 1)?;
    if !expected.contains_key("x-ms-client-request-id") {
        let ids = got.remove("x-ms-client-request-id").unwrap_or_default();
        same("ids", ids.len(), 1)?;
        same("id", &ids[0], &ask.id().unwrap_or(if ids[0].len() == 36 { ids[0].clone() } else { Vec::new() }))?;
    }
    got.remove("transfer-encoding");
    match &ask.content {
        // Some methods expect content, and a length of nothing says that there is none.
        Content::None => {
            let length = got.remove("content-length").unwrap_or(vec![b"0".to_vec()]);
            same("length", length, vec![b"0".to_vec()])?;
        }
        Content::Length(content) if content.is_empty() => {
            got.remove("content-length");
            expected.remove("content-length");
        }
        Content::Length(_) => same("framing", request.framing, Framing::Length)?,
        Content::Chunked { .. } | Content::Rest(_) => same("framing", request.framing, Framing::Chunked)?,
    }
    same("fields", got, expected)?;
    same("content", &request.content, &ask.content.all())?;
    same("trailers", fields(&request.trailers), ask.content.trailers())
}

/// Holds what reached the caller against what the resource said.
fn came_back_whole(ask: &Ask, reply: &Reply, answer: &Message) -> Result<(), TestCaseError> {
    let start = [format!("HTTP/1.1 {} ", reply.status).as_bytes(), &reply.reason].concat();
    same("first line", String::from_utf8_lossy(&answer.start), String::from_utf8_lossy(&start))?;

    let mut expected = oracle::cleaned_response(fields(&reply.lines(ask.method)));
    let mut got = answer.by_name();
    for name in ["connection", "keep-alive", "transfer-encoding"] {
        got.remove(name);
    }
    if !expected.contains_key("date") {
        same("dates", got.remove("date").unwrap_or_default().len(), 1)?;
    }
    if !expected.contains_key("x-request-id") {
        let ids = got.remove("x-request-id").unwrap_or_default();
        same("ids", ids.len(), 1)?;
        same("id", &ids[0], &ask.id().unwrap_or(if ids[0].len() == 36 { ids[0].clone() } else { Vec::new() }))?;
    }
    if reply.has_content(ask.method) {
        if let Content::Rest(_) = reply.content {
            expected.remove("content-length");
        }
        same("content", &answer.content, &reply.content.all())?;
        same("trailers", fields(&answer.trailers), oracle::cleaned_response(reply.content.trailers()))?;
    }
    same("fields", got, expected)
}

/// The answer to what is said in pieces, behind whatever is said before it.
async fn answer(mut caller: Caller, ask: &Ask) -> Result<Message, String> {
    let wire = ask.on_the_wire();
    let mut cuts: Vec<usize> = ask.cuts.iter().map(|cut| cut.index(wire.len())).collect();
    cuts.sort_unstable();
    let mut begin = 0;
    for end in cuts.into_iter().chain([wire.len()]) {
        caller.say(&wire[begin..end]).await;
        tokio::task::yield_now().await;
        begin = end;
    }
    loop {
        let message = caller.hear(ask.method == "HEAD").await?;
        if message.status() >= 200 {
            return Ok(message);
        }
    }
}

#[test]
fn what_is_said_arrives_as_it_was_said() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let next: Arc<Mutex<Option<Reply>>> = Arc::default();
    let replies = next.clone();
    let (resource, front) = runtime.block_on(async {
        let resource = Resource::new(move |request| {
            let method = request.start();
            let reply = replies.lock().unwrap().clone().expect("a reply");
            reply.on_the_wire(method.split(' ').next().unwrap_or_default())
        })
        .await;
        let front = Front::of(&resource.origin, &[]).await;
        (resource, front)
    });
    let host = resource.origin.trim_start_matches("http://");

    let config =
        ProptestConfig { failure_persistence: None, max_shrink_iters: 2000, ..ProptestConfig::with_cases(CASES) };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let ran = runner.run(&(ask(), reply()), |(ask, reply)| {
        *next.lock().unwrap() = Some(reply.clone());
        let answer = runtime.block_on(within(async { answer(front.call().await, &ask).await }));
        let (arrived, _) = resource.take();
        let arrived = arrived.map_err(TestCaseError::fail)?;
        same("requests", arrived.len(), 1)?;
        arrived_whole(&ask, &arrived[0], host)?;
        came_back_whole(&ask, &reply, &answer.map_err(TestCaseError::fail)?)
    });
    if let Err(TestError::Fail(problem, (ask, reply))) = &ran {
        let (told, back) = (ask.on_the_wire(), reply.on_the_wire(ask.method));
        panic!("{problem}\n\n{}\n\n{}", String::from_utf8_lossy(&told), String::from_utf8_lossy(&back));
    }
    assert!(ran.is_ok(), "{ran:?}");
}
