//! A resource that is about size: it answers with as much as it is asked for, and takes what it is sent when it is told to.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::authority::Authority;

/// Content repeats itself after so many bytes: a prime, so that whatever is lost or doubled on the way shows.
const PERIOD: usize = 251;
/// How much of it travels at once: whole periods.
const PIECE: usize = 261 * PERIOD;

/// A piece of content, and one period more to look ahead.
static PATTERN: LazyLock<Bytes> =
    LazyLock::new(|| (0..PIECE + PERIOD).map(|position| u8::try_from(position % PERIOD).unwrap_or(0)).collect());

/// A running resource: over `http`, or over TLS and HTTP/2.
#[derive(Debug)]
pub(crate) struct Bulk {
    pub(crate) origin: String,
    authority: Option<Authority>,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    /// How many bytes the answer to a GET has.
    length: u64,
    /// Bytes of content that the resource has given away or taken.
    moved: watch::Sender<u64>,
    reading: watch::Sender<bool>,
}

impl Bulk {
    /// Answers a GET with `length` bytes; reads no content until it is told to.
    pub(crate) async fn start(http2: bool, length: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(State { length, moved: watch::Sender::new(0), reading: watch::Sender::new(false) });
        let (scheme, authority, acceptor) = if http2 {
            let authority = Authority::new();
            let acceptor = authority.acceptor("127.0.0.1", &["h2"]);
            ("https", Some(authority), Some(acceptor))
        } else {
            ("http", None, None)
        };
        let serving = tokio::spawn(accept(listener, acceptor, state.clone()));
        Self { origin: format!("{scheme}://{address}"), authority, state, serving }
    }

    /// What points a proxy here that is otherwise configured for the emulator.
    pub(crate) fn settings(&self) -> Vec<String> {
        let mut settings = vec![format!("upstream.endpoint={}", self.origin)];
        settings.extend(self.authority.iter().map(Authority::trusted));
        settings
    }

    /// Begins to read.
    pub(crate) fn read(&self) {
        self.state.reading.send_replace(true);
    }

    /// Content that it has given away or taken so far, in bytes.
    pub(crate) fn moved(&self) -> watch::Receiver<u64> {
        self.state.moved.subscribe()
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// So many bytes, each where it belongs.
#[derive(Debug)]
pub(crate) struct Content {
    left: u64,
    moved: watch::Sender<u64>,
}

impl Content {
    /// So many bytes, and how many of them were taken so far.
    pub(crate) fn counted(length: u64) -> (Self, watch::Receiver<u64>) {
        let (moved, was_moved) = watch::channel(0);
        (Self { left: length, moved }, was_moved)
    }
}

impl http_body::Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let length = usize::try_from(self.left).unwrap_or(PIECE).min(PIECE);
        self.left -= length as u64;
        self.moved.send_modify(|moved| *moved += length as u64);
        Poll::Ready(Some(Ok(Frame::data(PATTERN.slice(..length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Knows what [`Content`] should be at every place.
#[derive(Debug, Default)]
pub(crate) struct Check {
    pub(crate) bytes: u64,
    place: usize,
}

impl Check {
    /// The next bytes of the content.
    pub(crate) fn next(&mut self, bytes: &[u8]) {
        for bytes in bytes.chunks(PIECE) {
            assert!(*bytes == PATTERN[self.place..self.place + bytes.len()], "content differs after {}", self.bytes);
            self.bytes += bytes.len() as u64;
            self.place = (self.place + bytes.len()) % PERIOD;
        }
    }
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, state) = (acceptor.clone(), state.clone());
        tokio::spawn(async move {
            match acceptor {
                Some(acceptor) => talk(acceptor.accept(stream).await.expect("a handshake"), state).await,
                None => talk(stream, state).await,
            }
        });
    }
}

async fn talk(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, state: Arc<State>) {
    let service = service_fn(move |request| {
        let state = state.clone();
        async move { Ok::<_, Infallible>(state.answer(request).await) }
    });
    // However it ends: what matters is what came through.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

impl State {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if request.method() == Method::GET {
            return Response::new(Body::new(Content { left: self.length, moved: self.moved.clone() }));
        }
        // The sender is `self`'s: the wait ends by its value alone.
        let _ = self.reading.subscribe().wait_for(|reading| *reading).await;
        let (mut check, mut content) = (Check::default(), request.into_body());
        while let Some(frame) = content.frame().await {
            let Ok(data) = frame.expect("the whole content").into_data() else { continue };
            check.next(&data);
            self.moved.send_replace(check.bytes);
        }
        Response::new(Body::from(check.bytes.to_string()))
    }
}
