//! Callers: connections that ask, and measure how long the answers take.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use http::{Method, Request};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::{Instant as TokioInstant, sleep_until};
use tokio_rustls::TlsConnector;

use crate::upstream::{BULK, SENT, Upstream};

pub(crate) type Content = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// Nanoseconds, to three digits.
pub(crate) type Latencies = Histogram<u64>;

/// Where requests go.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// To the resource itself: over TLS, and under its own path.
    direct: Option<TlsConnector>,
}

/// One connection.
pub(crate) struct Caller {
    sender: SendRequest<Content>,
    prefix: &'static str,
}

pub(crate) fn latencies() -> Latencies {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("up to a minute, to three digits")
}

impl Target {
    pub(crate) fn proxy(address: SocketAddr) -> Self {
        Self { address, direct: None }
    }

    /// The resource, with nobody between.
    pub(crate) fn direct(upstream: &Upstream) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(upstream.ca_file()).expect("a certificate");
        roots.add(authority).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Self { address: upstream.address, direct: Some(TlsConnector::from(Arc::new(config))) }
    }

    pub(crate) async fn connect(&self) -> Caller {
        let stream = TcpStream::connect(self.address).await.expect("a connection");
        stream.set_nodelay(true).expect("an option");
        let Some(tls) = &self.direct else {
            let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("a connection");
            // Ends with the caller.
            tokio::spawn(connection);
            return Caller { sender, prefix: "" };
        };
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        let stream = tls.connect(name, stream).await.expect("TLS");
        let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("a connection");
        tokio::spawn(connection);
        Caller { sender, prefix: "/openai" }
    }
}

impl Caller {
    /// Sends a request; the content of the answer, which is one that was asked for.
    pub(crate) async fn ask(&mut self, method: Method, path: &str, content: Content) -> Incoming {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header("host", "127.0.0.1")
            .header("authorization", "Bearer unused")
            .header("content-type", "application/json");
        self.sender.ready().await.expect("an open connection");
        let response = self.sender.send_request(request.body(content).expect("a request")).await.expect("an answer");
        assert_eq!(response.status(), 200, "{path}");
        response.into_body()
    }

    /// The same with a small question, to the end of the answer; how many bytes that were.
    pub(crate) async fn chat(&mut self, path: &str) -> u64 {
        let body =
            self.ask(Method::POST, path, Full::new(Bytes::from_static(QUESTION.as_bytes())).boxed_unsync()).await;
        drain(body, |_| ()).await
    }

    /// Uploads as much as is downloaded elsewhere.
    pub(crate) async fn upload(&mut self) {
        let piece = Bytes::from(vec![b'x'; 64 << 10]);
        let pieces = BULK / piece.len();
        let content = futures_util::stream::iter((0..pieces).map(move |_| Ok(Frame::data(piece.clone()))));
        drain(self.ask(Method::POST, "/v1/files", StreamBody::new(content).boxed_unsync()).await, |_| ()).await;
    }

    pub(crate) async fn download(&mut self) {
        let body = self.ask(Method::GET, "/v1/files/bulk/content", Empty::new().boxed_unsync()).await;
        assert_eq!(drain(body, |_| ()).await, BULK as u64);
    }
}

/// A question of a kilobyte.
const QUESTION: &str = concat!(
    r#"{"model":"gpt-4o","messages":[{"role":"system","content":"You are a helpful assistant who answers briefly and exactly, "#,
    "in plain words, and says so if something is not known. You never repeat a question, you never praise it, and you leave ",
    "out whatever was not asked for. If a list is of use, make one; if a table is, make a table; otherwise write sentences. ",
    r#""},{"role":"user","content":"Please describe how water flows from the mountains to the sea, and which of its ways a person "#,
    "who lives in a town would notice first in a wet spring; then in a dry autumn; then say what has changed since rivers were ",
    "straightened, and whether that can be undone where houses stand. Name three books for a reader without any training, and ",
    "one for a reader with some. Do not mention climate. Do not mention the weather of any single year, nor the name of any ",
    r#"river, because the text will be used as a riddle."}],"max_tokens":200,"temperature":0.2,"top_p":1,"stream":false,"user":"bench"}"#
);

/// Reads to the end; how many bytes there were. `each` sees them as they come.
pub(crate) async fn drain(mut body: Incoming, mut each: impl FnMut(&[u8])) -> u64 {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.expect("content").into_data() else { continue };
        bytes += data.len() as u64;
        each(&data);
    }
    bytes
}

/// Asks again and again, over `connections` at once, until `end`: each as soon as it has its answer.
pub(crate) async fn closed_loop(target: &Target, path: &'static str, connections: usize, time: Duration) -> Latencies {
    let end = Instant::now() + time;
    let callers = (0..connections).map(|_| {
        let target = target.clone();
        tokio::spawn(async move {
            let (mut caller, mut latencies) = (target.connect().await, latencies());
            while Instant::now() < end {
                let began = Instant::now();
                caller.chat(path).await;
                record(&mut latencies, began.elapsed());
            }
            latencies
        })
    });
    gather(callers.collect()).await
}

/// Asks `rate` times a second in all, whether or not answers come in time: how long it took counts from when a request was due.
pub(crate) async fn fixed_rate(target: &Target, rate: u32, connections: u32, time: Duration) -> Latencies {
    let between = Duration::from_secs(1) * connections / rate;
    let began = TokioInstant::now() + Duration::from_millis(50);
    let callers = (0..connections).map(|at| {
        let target = target.clone();
        tokio::spawn(async move {
            let (mut caller, mut latencies) = (target.connect().await, latencies());
            let mut due = began + between * at / connections;
            while due < began + time {
                sleep_until(due).await;
                caller.chat("/v1/chat/completions").await;
                record(&mut latencies, due.elapsed());
                due += between;
            }
            latencies
        })
    });
    gather(callers.collect()).await
}

/// A connection for each question.
pub(crate) async fn new_connections(target: &Target, at_once: usize, time: Duration) -> Latencies {
    let end = Instant::now() + time;
    let callers = (0..at_once).map(|_| {
        let target = target.clone();
        tokio::spawn(async move {
            let mut latencies = latencies();
            while Instant::now() < end {
                let began = Instant::now();
                target.connect().await.chat("/v1/chat/completions").await;
                record(&mut latencies, began.elapsed());
            }
            latencies
        })
    });
    gather(callers.collect()).await
}

/// Paced streams, all at once; how long each chunk was under way.
pub(crate) async fn paced(target: &Target, streams: usize, began: Instant) -> Latencies {
    let callers = (0..streams).map(|_| {
        let target = target.clone();
        tokio::spawn(async move {
            let (mut caller, mut latencies) = (target.connect().await, latencies());
            let body =
                caller.ask(Method::POST, "/v1/chat/completions?paced", Full::new(Bytes::from(QUESTION)).boxed_unsync());
            drain(body.await, |data| {
                sent(data).for_each(|at| record(&mut latencies, began.elapsed().saturating_sub(at)));
            })
            .await;
            latencies
        })
    });
    gather(callers.collect()).await
}

/// When the chunks in `data` were sent.
fn sent(data: &[u8]) -> impl Iterator<Item = Duration> {
    memmem::find_iter(data, SENT.as_bytes()).filter_map(|at| {
        let digits = data.get(at + SENT.len()..)?.split(|byte| !byte.is_ascii_digit()).next()?;
        Some(Duration::from_nanos(std::str::from_utf8(digits).ok()?.parse().ok()?))
    })
}

fn record(latencies: &mut Latencies, time: Duration) {
    latencies.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
}

async fn gather(callers: Vec<tokio::task::JoinHandle<Latencies>>) -> Latencies {
    let mut all = latencies();
    for caller in callers {
        all.add(caller.await.expect("a caller does not panic")).expect("like histograms");
    }
    all
}
