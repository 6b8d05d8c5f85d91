//! HTTP/1.1 as bytes: a resource that keeps what it is sent, callers that say what they are told, and a reader of both that
//! knows the grammar (RFC 9112) and forgives nothing.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use aoai_auth_proxy::emulator::Emulator;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::oracle::{self, Fields};
use crate::support::{self, Proxy, azure, demo_settings};

/// A resource writes so much at a time: no length that anything falls together with.
const PIECE: usize = 1009;

/// How the end of a message's content is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length,
    Chunked,
    Close,
}

/// A request or a response.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) start: Vec<u8>,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) framing: Framing,
    pub(crate) content: Vec<u8>,
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
}

/// What is read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Request,
    Response { to_head: bool },
}

impl Message {
    pub(crate) fn start(&self) -> String {
        String::from_utf8_lossy(&self.start).into_owned()
    }

    pub(crate) fn status(&self) -> u16 {
        self.start().split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        let named = self.fields.iter().filter(|(field, _)| field == name);
        named.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    pub(crate) fn by_name(&self) -> Fields {
        oracle::by_name(self.fields.iter().map(|(name, value)| (name, value)))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.content).into_owned()
    }

    /// The `code` of an error in the proxy's own shape.
    pub(crate) fn code(&self) -> String {
        let content: serde_json::Value = serde_json::from_slice(&self.content).unwrap_or_default();
        if content["error"]["type"] != "proxy_error" || self.values("content-type") != ["application/json"] {
            return format!("not an error of the proxy's: {}", self.text());
        }
        content["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// The first message in `bytes` and its length, if all of it is there; `ended` says that no more will come.
pub(crate) fn read(bytes: &[u8], kind: Kind, ended: bool) -> Result<Option<(Message, usize)>, String> {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let mut lines = lines(&bytes[..end])?;
    let start = lines.remove(0).to_vec();
    let fields = lines.into_iter().map(field).collect::<Result<Vec<_>, _>>()?;
    let mut message = Message { start, fields, framing: Framing::None, content: Vec::new(), trailers: Vec::new() };
    message.framing = framing(&message, kind)?;
    let body = &bytes[end + 4..];
    let taken = match message.framing {
        Framing::None => Some(0),
        Framing::Length => {
            let length = number(&message.values("content-length")[0], 10)?;
            message.content = body.get(..length).unwrap_or_default().to_vec();
            (body.len() >= length).then_some(length)
        }
        Framing::Chunked => chunked(body, &mut message)?,
        Framing::Close => {
            message.content = body.to_vec();
            ended.then_some(body.len())
        }
    };
    Ok(taken.map(|taken| (message, end + 4 + taken)))
}

fn framing(message: &Message, kind: Kind) -> Result<Framing, String> {
    let status = message.status();
    if matches!(kind, Kind::Response { to_head } if to_head || status < 200 || matches!(status, 204 | 304)) {
        return Ok(Framing::None);
    }
    match (&*message.values("content-length"), &*message.values("transfer-encoding"), kind) {
        ([], [], Kind::Request) => Ok(Framing::None),
        ([], [], Kind::Response { .. }) => Ok(Framing::Close),
        ([_], [], _) => Ok(Framing::Length),
        ([], [coding], _) if coding == "chunked" => Ok(Framing::Chunked),
        (lengths, codings, _) => Err(format!("framed by {lengths:?} and {codings:?}")),
    }
}

fn chunked(body: &[u8], message: &mut Message) -> Result<Option<usize>, String> {
    let mut at = 0;
    loop {
        let Some(line) = find(&body[at..], b"\r\n") else { return Ok(None) };
        let told = String::from_utf8_lossy(lines(&body[at..at + line])?[0]);
        let size = number(told.split(';').next().unwrap_or_default(), 16)?;
        at += line + 2;
        if size == 0 {
            break;
        }
        let Some(data) = body.get(at..at + size + 2) else { return Ok(None) };
        if !data.ends_with(b"\r\n") {
            return Err("a chunk without an end".to_owned());
        }
        message.content.extend_from_slice(&data[..size]);
        at += size + 2;
    }
    if body[at..].starts_with(b"\r\n") {
        return Ok(Some(at + 2));
    }
    let Some(end) = find(&body[at..], b"\r\n\r\n") else { return Ok(None) };
    message.trailers = lines(&body[at..at + end])?.into_iter().map(field).collect::<Result<_, _>>()?;
    Ok(Some(at + end + 4))
}

fn number(text: &str, radix: u32) -> Result<usize, String> {
    let plain = !text.is_empty() && text.chars().all(|digit| digit.is_digit(radix));
    plain.then(|| usize::from_str_radix(text, radix).ok()).flatten().ok_or(format!("{text:?} is no number"))
}

fn lines(head: &[u8]) -> Result<Vec<&[u8]>, String> {
    let mut lines = Vec::new();
    let mut rest = head;
    while let Some(end) = find(rest, b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    match lines.iter().find(|line| line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))) {
        Some(line) => Err(format!("{:?} is no line", String::from_utf8_lossy(line))),
        None => Ok(lines),
    }
}

fn field(line: &[u8]) -> Result<(String, Vec<u8>), String> {
    let told = || format!("{:?} is no field", String::from_utf8_lossy(line));
    let colon = line.iter().position(|byte| *byte == b':').ok_or_else(told)?;
    let name = http::HeaderName::from_bytes(&line[..colon]).map_err(|_| told())?;
    Ok((name.as_str().to_owned(), line[colon + 1..].trim_ascii().to_vec()))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// A resource that answers each request as it is told to, and keeps every byte that comes. It closes a connection behind an
/// answer that says so.
pub(crate) struct Resource {
    pub(crate) origin: String,
    heard: Arc<Mutex<Vec<Heard>>>,
}

/// What has come over one connection.
#[derive(Debug, Default, Clone)]
struct Heard {
    bytes: usize,
    requests: Vec<Message>,
    problem: Option<String>,
}

impl Resource {
    pub(crate) async fn new(answer: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (heard.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(listen(stream, log.clone(), answer.clone()));
            }
        });
        Self { origin, heard }
    }

    /// What has come since this was last asked: all whole requests, or what was wrong with one, and the number of bytes.
    pub(crate) fn take(&self) -> (Result<Vec<Message>, String>, usize) {
        let heard: Vec<Heard> = self.heard.lock().unwrap().iter_mut().map(std::mem::take).collect();
        let bytes = heard.iter().map(|heard| heard.bytes).sum();
        if let Some(problem) = heard.iter().find_map(|heard| heard.problem.clone()) {
            return (Err(problem), bytes);
        }
        (Ok(heard.into_iter().flat_map(|heard| heard.requests).collect()), bytes)
    }
}

async fn listen(
    mut stream: TcpStream,
    log: Arc<Mutex<Vec<Heard>>>,
    answer: Arc<impl Fn(&Message) -> Vec<u8> + Send + Sync>,
) {
    let mine = {
        let mut log = log.lock().unwrap();
        log.push(Heard::default());
        log.len() - 1
    };
    let mut buffer = Vec::new();
    loop {
        let more = match stream.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(more) => more,
        };
        log.lock().unwrap()[mine].bytes += more;
        loop {
            let request = match read(&buffer, Kind::Request, false) {
                Ok(None) => break,
                Ok(Some((request, length))) => {
                    buffer.drain(..length);
                    request
                }
                Err(problem) => {
                    log.lock().unwrap()[mine].problem = Some(problem);
                    return;
                }
            };
            let answered = answer(&request);
            log.lock().unwrap()[mine].requests.push(request);
            for piece in answered.chunks(PIECE) {
                if stream.write_all(piece).await.is_err() {
                    return;
                }
            }
            if find(&answered, b"connection: close\r\n").is_some() {
                return;
            }
        }
    }
}

/// A proxy in front of `origin`, with an Azure that it has its token from.
pub(crate) struct Front {
    pub(crate) proxy: Proxy,
    _azure: Emulator,
}

impl Front {
    pub(crate) async fn of(origin: &str, settings: &[&str]) -> Self {
        let (azure, clock) = azure(true).await;
        let mut all = demo_settings(&azure);
        all.push(format!("upstream.endpoint={origin}"));
        all.extend(settings.iter().map(|setting| (*setting).to_owned()));
        Self { proxy: support::proxy(&all, &clock).await, _azure: azure }
    }

    pub(crate) async fn call(&self) -> Caller {
        Caller::to(self.proxy.address).await
    }
}

/// One connection of a caller's.
pub(crate) struct Caller {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
    ended: bool,
}

impl Caller {
    pub(crate) async fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new(), ended: false }
    }

    /// Says something; whoever has been turned away meanwhile finds out when it reads.
    pub(crate) async fn say(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// The next message; without content or an end if the connection ended first.
    pub(crate) async fn hear(&mut self, to_head: bool) -> Result<Message, String> {
        loop {
            if let Some((message, length)) = read(&self.buffer, Kind::Response { to_head }, self.ended)? {
                self.buffer.drain(..length);
                return Ok(message);
            }
            if self.ended {
                return Err(format!("broke off after {:?}", String::from_utf8_lossy(&self.buffer)));
            }
            self.more().await;
        }
    }

    /// Everything until the connection is closed.
    pub(crate) async fn hear_all(&mut self) -> Result<Vec<Message>, String> {
        while !self.ended {
            self.more().await;
        }
        let mut messages = Vec::new();
        while !self.buffer.is_empty() {
            messages.push(self.hear(false).await?);
        }
        Ok(messages)
    }

    async fn more(&mut self) {
        self.ended = matches!(self.stream.read_buf(&mut self.buffer).await, Ok(0) | Err(_));
    }
}
