//! Accept loops on the loopback address, with and without TLS.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

/// What a client and a server that both speak HTTP/2 agree on (RFC 9113 §3.2).
const HTTP2: &[u8] = b"h2";

/// Room for a large upload to be under way; the protocol's 64 KiB would make uploads crawl.
const HTTP2_WINDOW: u32 = 1 << 20;

/// How long nothing is accepted after it has failed, as it does when no more files may be open.
const BREATH: Duration = Duration::from_millis(50);

/// A connection as requests see it, among a request's extensions.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    /// Tells the emulator's connections apart.
    pub(super) id: u64,
    cut: Arc<Notify>,
    users: mpsc::Sender<Infallible>,
}

impl Connection {
    /// Closes the connection at once, whatever is under way on it.
    pub(super) fn cut(&self) {
        self.cut.notify_one();
    }

    /// Completes once the connection is to close, for whoever goes on using it after HTTP.
    pub(super) async fn closed(&self) {
        self.users.closed().await;
    }
}

/// A socket that is bound and not yet served.
#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    acceptor: Option<Arc<Acceptor>>,
    origin: String,
}

/// Hides the TLS acceptor, which cannot be printed.
struct Acceptor(TlsAcceptor);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Acceptor")
    }
}

impl Listener {
    /// Binds a free port for plain HTTP.
    pub(super) async fn plain() -> io::Result<Self> {
        Self::bind("http", None).await
    }

    /// Binds a free port for HTTP over TLS.
    pub(super) async fn tls(acceptor: TlsAcceptor) -> io::Result<Self> {
        Self::bind("https", Some(Arc::new(Acceptor(acceptor)))).await
    }

    async fn bind(scheme: &str, acceptor: Option<Arc<Acceptor>>) -> io::Result<Self> {
        let socket = TcpListener::bind("127.0.0.1:0").await?;
        let origin = format!("{scheme}://{}", socket.local_addr()?);
        Ok(Self { socket, acceptor, origin })
    }

    /// Scheme, address and port, without a slash at the end.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// Serves `router` until the handle aborts it; open connections end then, too.
    pub(super) fn serve(self, router: Router) -> AbortHandle {
        tokio::spawn(self.accept(router)).abort_handle()
    }

    async fn accept(self, router: Router) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(talk(stream, self.acceptor.clone(), router.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, origin = self.origin, "emulator cannot accept a connection");
                        // Whoever ends gives back what is missing, and may need this thread for it.
                        tokio::time::sleep(BREATH).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// Bytes both ways, with TLS or without: one type, so that the protocols are in the program once.
trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

async fn talk(stream: TcpStream, acceptor: Option<Arc<Acceptor>>, router: Router) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "emulator cannot switch Nagle's algorithm off");
    }
    let Some(acceptor) = acceptor else { return exchange(Box::new(stream), false, router).await };
    match acceptor.0.accept(stream).await {
        Ok(stream) => {
            let http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP2);
            exchange(Box::new(stream), http2, router).await;
        }
        Err(error) => tracing::debug!(%error, "TLS handshake with the emulator failed"),
    }
}

async fn exchange(io: Box<dyn Duplex>, http2: bool, router: Router) {
    static LAST_ID: AtomicU64 = AtomicU64::new(0);
    let (users, mut used) = mpsc::channel(1);
    let connection = Connection { id: LAST_ID.fetch_add(1, Ordering::Relaxed) + 1, cut: Arc::default(), users };
    let (id, cut) = (connection.id, connection.cut.clone());
    let service = service_fn(move |request| answer(request, connection.clone(), router.clone()));
    let io = TokioIo::new(io);
    let whole = async move {
        let ended = if http2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.initial_stream_window_size(HTTP2_WINDOW).initial_connection_window_size(HTTP2_WINDOW * 4);
            builder.serve_connection(io, service).await
        } else {
            http1::Builder::new().serve_connection(io, service).with_upgrades().await
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection to the emulator broke");
        }
        // A WebSocket may use it still.
        used.recv().await;
    };
    tokio::select! {
        () = whole => {}
        () = cut.notified() => tracing::debug!(id, "emulator cuts a connection"),
    }
}

async fn answer(
    mut request: Request<Incoming>,
    connection: Connection,
    router: Router,
) -> Result<Response<Body>, Infallible> {
    request.extensions_mut().insert(connection);
    router.oneshot(request.map(Body::new)).await
}
