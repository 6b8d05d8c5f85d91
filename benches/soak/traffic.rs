//! Requests that meet no fault: each must succeed, and with the answer to itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aoai_auth_proxy::emulator::Emulator;
use aoai_auth_proxy::tls;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::sync::{Mutex, RwLock};
use tokio::time::{sleep, timeout};

use crate::tally::Tally;

/// Callers at a time.
pub(crate) const CALLERS: usize = 16;
/// How many of them share one HTTP/2 connection; the others have connections of their own over HTTP/1.1.
const SHARING: usize = 6;
/// Nothing without a fault takes so long.
const PATIENCE: Duration = Duration::from_secs(30);
/// A file that is there from the start, for those who read slowly or not to the end.
const LONG: usize = 4 << 20;
/// The longest file that is sent and fetched again; some are too long to be held for a second attempt, some are not.
const LONGEST_FILE: usize = 3 << 20;
/// A caller who leaves does so within this time.
const LEAVES_WITHIN: Duration = Duration::from_millis(20);

/// The resource, the proxy before it, and what becomes of requests.
pub(crate) struct Stage {
    pub(crate) azure: Emulator,
    pub(crate) address: SocketAddr,
    pub(crate) tally: Tally,
    /// Held for writing by whoever asks for a fault that others would meet, too: one that ends a connection which requests
    /// may share.
    pub(crate) alone: RwLock<()>,
    /// Held while a request waits for a deadline to pass: nobody ends a connection then, and nobody else has to wait.
    pub(crate) waiting: Mutex<()>,
    long: String,
    number: AtomicU64,
}

/// What a caller may ask for.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Chat,
    Stream,
    Models,
    Management,
    Own,
    File,
    SlowReader,
    Leaver,
}

/// More often than once: more likely.
const KINDS: [Kind; 17] = {
    use Kind::{Chat, File, Leaver, Management, Models, Own, SlowReader, Stream};
    [
        Chat, Chat, Chat, Chat, Chat, Stream, Stream, Stream, Stream, Models, Models, Management, Own, File,
        SlowReader, Leaver, Leaver,
    ]
};

impl Stage {
    pub(crate) async fn new(azure: Emulator, address: SocketAddr) -> Self {
        let (tally, alone, waiting) = (Tally::default(), RwLock::default(), Mutex::default());
        let (long, number) = (String::new(), AtomicU64::new(0));
        let mut stage = Self { azure, address, tally, alone, waiting, long, number };
        stage.long = stage.upload(&client(false), &content(LONG)).await.expect("a file");
        stage
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Something that no other request says.
    pub(crate) fn word(&self) -> String {
        format!("word-{}-", self.number.fetch_add(1, Ordering::Relaxed))
    }

    /// Waits until the resource has nothing under way.
    pub(crate) async fn nothing_open(&self) {
        let nothing = self.azure.control().until(|state| state.requests_open == 0 && state.streams_open == 0);
        if timeout(PATIENCE, nothing).await.is_err() {
            self.tally.violation(&format!("the resource has open: {:?}", self.azure.control().state()));
        }
    }

    /// Uploads a file; its id.
    async fn upload(&self, client: &Client, content: &[u8]) -> Result<String, String> {
        let beginning = "--b\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nassistants\r\n\
                         --b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n";
        let form = [beginning.as_bytes(), content, b"\r\n--b--\r\n"];
        let request = client.post(self.url("/v1/files")).header("content-type", "multipart/form-data; boundary=b");
        let answer = told(request.body(form.concat()), 201).await?.json::<Value>().await.map_err(chain)?;
        Ok(answer["id"].as_str().ok_or("no id")?.to_owned())
    }

    /// A chat completion, which repeats what it was told.
    pub(crate) async fn chat(&self, client: &Client) -> Result<&'static str, String> {
        let word = self.word();
        let answer = told(self.chat_request(client, &word, false), 200).await?.json::<Value>().await.map_err(chain)?;
        let text = answer["choices"][0]["message"]["content"].as_str().unwrap_or_default();
        if text.contains(&word) { Ok("answered") } else { Err(format!("another's answer: {answer}")) }
    }

    async fn stream(&self, client: &Client) -> Result<&'static str, String> {
        let word = self.word();
        let text = told(self.chat_request(client, &word, true), 200).await?.text().await.map_err(chain)?;
        let whole = text.contains(&word) && text.ends_with("data: [DONE]\n\n");
        if whole { Ok("answered") } else { Err(format!("another's stream, or not all of it: {text}")) }
    }

    fn chat_request(&self, client: &Client, word: &str, stream: bool) -> reqwest::RequestBuilder {
        client.post(self.url("/v1/chat/completions")).json(&json!({
            "model": "gpt-4o-mini",
            "stream": stream,
            "messages": [{ "role": "user", "content": word }],
        }))
    }

    async fn get(&self, client: &Client, path: &str, expected: &str) -> Result<&'static str, String> {
        let text = told(client.get(self.url(path)), 200).await?.text().await.map_err(chain)?;
        if text.contains(expected) { Ok("answered") } else { Err(format!("{path}: {text}")) }
    }

    /// A file there and back.
    async fn file(&self, client: &Client) -> Result<&'static str, String> {
        let sent = content(fastrand::usize(..LONGEST_FILE));
        let id = self.upload(client, &sent).await?;
        let path = format!("/v1/files/{id}");
        let request = client.get(self.url(&format!("{path}/content")));
        let came = told(request, 200).await?.bytes().await.map_err(chain)?;
        told(client.delete(self.url(&path)), 200).await?.bytes().await.map_err(chain)?;
        if came == sent { Ok("there and back") } else { Err(format!("{} of {} bytes", came.len(), sent.len())) }
    }

    async fn slow_reader(&self, client: &Client) -> Result<&'static str, String> {
        let mut response = told(client.get(self.url(&format!("/v1/files/{}/content", self.long))), 200).await?;
        let mut length = 0;
        while let Some(piece) = response.chunk().await.map_err(chain)? {
            length += piece.len();
            if fastrand::u8(..16) == 0 {
                sleep(LEAVES_WITHIN).await;
            }
        }
        if length == LONG { Ok("read to the end") } else { Err(format!("{length} of {LONG} bytes")) }
    }

    /// Asks for something long, and leaves before its end or sees it.
    async fn leaver(&self, client: &Client) -> Result<&'static str, String> {
        let asking = async {
            match fastrand::u8(..3) {
                0 => self.stream(client).await,
                1 => self.get(client, &format!("/v1/files/{}/content", self.long), "").await,
                // Its content may be under way still, or its answer.
                _ => {
                    let request = self.chat_request(client, &"long ".repeat(LONG / 16), true);
                    told(request, 200).await?.bytes().await.map_err(chain)?;
                    Ok("answered")
                }
            }
        };
        timeout(LEAVES_WITHIN.mul_f32(fastrand::f32()), asking).await.unwrap_or(Ok("left"))
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Stream => "chat, streamed",
            Self::Models => "models",
            Self::Management => "management models",
            Self::Own => "the proxy's own pages",
            Self::File => "file",
            Self::SlowReader => "file, read slowly",
            Self::Leaver => "caller who may leave",
        }
    }

    async fn ask(self, stage: &Stage, client: &Client) -> Result<&'static str, String> {
        match self {
            Self::Chat => stage.chat(client).await,
            Self::Stream => stage.stream(client).await,
            Self::Models => stage.get(client, "/v1/models", "gpt-4o-mini").await,
            Self::Management => stage.get(client, "/management/models", "gpt-4o-mini").await,
            Self::Own => {
                let pages = ["/", "/healthz", "/readyz", "/status"];
                stage.get(client, pages[fastrand::usize(..pages.len())], "").await
            }
            Self::File => stage.file(client).await,
            Self::SlowReader => stage.slow_reader(client).await,
            Self::Leaver => stage.leaver(client).await,
        }
    }
}

/// One client for each caller.
pub(crate) fn clients() -> Vec<Client> {
    let shared = client(true);
    (0..CALLERS).map(|number| if number < SHARING { shared.clone() } else { client(false) }).collect()
}

pub(crate) fn client(http2: bool) -> Client {
    let builder = Client::builder().tls_backend_preconfigured(tls::client(&[]).expect("TLS")).no_proxy();
    let builder = if http2 { builder.http2_prior_knowledge() } else { builder.http1_only() };
    builder.build().expect("a client")
}

/// Asks for one thing after the other until `end`.
pub(crate) async fn call(stage: Arc<Stage>, client: Client, end: Instant) {
    while Instant::now() < end {
        let _beside = stage.alone.read().await;
        let kind = KINDS[fastrand::usize(..KINDS.len())];
        let asked = timeout(PATIENCE, kind.ask(&stage, &client)).await;
        stage.tally.note(kind.name(), asked.unwrap_or_else(|_| Err("no end in sight".to_owned())));
    }
}

/// The response, if it has the status that it should.
pub(crate) async fn told(request: reqwest::RequestBuilder, status: u16) -> Result<reqwest::Response, String> {
    let response = request.send().await.map_err(chain)?;
    if response.status() == status {
        return Ok(response);
    }
    let got = response.status();
    Err(format!("{got} instead of {status}: {}", response.text().await.unwrap_or_default()))
}

/// An error with all its causes.
#[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
pub(crate) fn chain(error: reqwest::Error) -> String {
    let error: &dyn std::error::Error = &error;
    let causes: Vec<_> = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
    causes.join(": ")
}

fn content(length: usize) -> Vec<u8> {
    let seed = fastrand::u8(..);
    (0..length).map(|position| seed.wrapping_add(u8::try_from(position % 251).unwrap_or(0))).collect()
}
