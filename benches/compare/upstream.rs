//! What stands for the resource: a server that answers as fast as it can, over TLS, in either version of HTTP.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::interval;
use tokio_rustls::TlsAcceptor;

type Content = UnsyncBoxBody<Bytes, Infallible>;

/// Where a chunk of a stream says when it was sent: behind this, in nanoseconds since [`Upstream::began`].
pub(crate) const SENT: &str = "\"sent\":";
/// Between two chunks of a paced stream: as fast as a quick model speaks.
pub(crate) const PACE: Duration = Duration::from_millis(20);
/// Chunks of a paced stream.
pub(crate) const PACED: usize = 100;
/// Chunks of a stream that comes as fast as it can.
pub(crate) const BURST: usize = 2000;
/// Bytes of content that is downloaded.
pub(crate) const BULK: usize = 256 << 20;

/// A server, until the process ends.
pub(crate) struct Upstream {
    /// On loopback, over HTTP/1.1.
    pub(crate) address: SocketAddr,
    /// The same over HTTP/2.
    pub(crate) http2: SocketAddr,
    /// When time began.
    pub(crate) began: Instant,
    /// What takes spans and metrics, and does nothing with them.
    pub(crate) collector: SocketAddr,
    directory: TempDir,
}

/// What is answered again and again.
struct Contents {
    small: Bytes,
    large: Bytes,
    chunk: Bytes,
    piece: Bytes,
    began: Instant,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let tls = certify(&directory);
        let began = Instant::now();
        let contents = Arc::new(Contents::new(began));
        let address = listen(&tls, b"http/1.1", contents.clone()).await;
        let http2 = listen(&tls, b"h2", contents).await;
        Self { address, http2, began, collector: collector().await, directory }
    }

    /// The authority to trust, as PEM.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }
}

/// Answers over one version of HTTP.
async fn listen(tls: &ServerConfig, protocol: &[u8], contents: Arc<Contents>) -> SocketAddr {
    let mut tls = tls.clone();
    tls.alpn_protocols = vec![protocol.to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, acceptor.clone(), contents.clone()));
        }
    });
    address
}

/// Takes whatever is sent, over HTTP.
async fn collector() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = listener.local_addr().expect("an address");
    let taken = service_fn(async |request: Request<Incoming>| {
        let mut body = request.into_body();
        while let Some(Ok(_)) = body.frame().await {}
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move { http1::Builder::new().serve_connection(TokioIo::new(stream), taken).await });
        }
    });
    address
}

/// A certificate for this machine, and its authority in `directory`.
fn certify(directory: &TempDir) -> ServerConfig {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let certificate = authority.self_signed(&key).expect("an authority");
    std::fs::write(directory.path().join("ca.pem"), certificate.pem()).expect("a file");
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().expect("a key");
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).expect("names");
    // Of the same name as its authority, it would be taken for its own.
    params.distinguished_name.push(rcgen::DnType::CommonName, "localhost");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).expect("a certificate")
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, contents: Arc<Contents>) {
    // Whoever measures closes connections whenever it is done.
    let _ = stream.set_nodelay(true);
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().initial_stream_window_size(4 << 20).initial_connection_window_size(16 << 20);
    builder.http2().max_concurrent_streams(20_000);
    let service = service_fn(move |request| answer(request, contents.clone()));
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, contents: Arc<Contents>) -> Result<Response<Content>, Infallible> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    Ok(match (path.as_str(), query.as_str()) {
        ("/openai/v1/chat/completions", "paced") => events(contents.paced()),
        ("/openai/v1/chat/completions", "burst") => events(contents.burst()),
        ("/openai/v1/chat/completions", "silent") => events(contents.silent()),
        ("/openai/v1/embeddings", _) => json(contents.large.clone()),
        ("/openai/v1/files/bulk/content", _) => {
            let mut response = Response::new(contents.bulk());
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(BULK));
            response
        }
        _ => json(contents.small.clone()),
    })
}

fn json(content: Bytes) -> Response<Content> {
    let mut response = Response::new(Full::new(content).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn events(content: Content) -> Response<Content> {
    let mut response = Response::new(content);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

impl Contents {
    fn new(began: Instant) -> Self {
        let words = "All is well that flows as it should. ".repeat(17);
        let small = serde_json::json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-2024-08-06",
            "choices": [{ "index": 0, "message": { "role": "assistant", "content": words }, "finish_reason": "stop" }],
            "usage": { "prompt_tokens": 200, "completion_tokens": 170, "total_tokens": 370,
                "prompt_tokens_details": { "cached_tokens": 0 }, "completion_tokens_details": { "reasoning_tokens": 0 } },
        });
        // Numbers as they come: 1536 of them to a vector.
        let vector = |at: u32| (0..1536).map(|n| f64::from((n * 7919 + at) % 200_003) / 1e6 - 0.1).collect::<Vec<_>>();
        let data: Vec<_> = (0..12)
            .map(|at| serde_json::json!({ "object": "embedding", "index": at, "embedding": vector(at) }))
            .collect();
        let large = serde_json::json!({
            "object": "list", "data": data, "model": "text-embedding-3-small",
            "usage": { "prompt_tokens": 96, "total_tokens": 96 },
        });
        let chunk = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o-2024-08-06\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" well\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n";
        Self {
            small: small.to_string().into(),
            large: large.to_string().into(),
            chunk: Bytes::from_static(chunk.as_bytes()),
            piece: vec![b'x'; 64 << 10].into(),
            began,
        }
    }

    /// One chunk after another, each with the time at which it was sent.
    fn paced(&self) -> Content {
        let chunk = String::from_utf8_lossy(&self.chunk).into_owned();
        let began = self.began;
        let chunks = stream::unfold((interval(PACE), 0), move |(mut ticks, sent)| {
            let chunk = (sent < PACED).then(|| chunk.clone());
            async move {
                let chunk = chunk?;
                ticks.tick().await;
                let now = format!("{{{SENT}{},", began.elapsed().as_nanos());
                Some((frame(chunk.replacen('{', &now, 1).into()), (ticks, sent + 1)))
            }
        });
        StreamBody::new(chunks).boxed_unsync()
    }

    fn burst(&self) -> Content {
        let chunk = self.chunk.clone();
        StreamBody::new(stream::iter((0..BURST).map(move |_| frame(chunk.clone())))).boxed_unsync()
    }

    /// One chunk, and then nothing until somebody goes.
    fn silent(&self) -> Content {
        let one = stream::iter([frame(self.chunk.clone())]);
        StreamBody::new(one.chain(stream::pending())).boxed_unsync()
    }

    fn bulk(&self) -> Content {
        let piece = self.piece.clone();
        let pieces = BULK / piece.len();
        StreamBody::new(stream::iter((0..pieces).map(move |_| frame(piece.clone())))).boxed_unsync()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as a stream of content has them")]
fn frame(content: Bytes) -> Result<Frame<Bytes>, Infallible> {
    Ok(Frame::data(content))
}
