//! Connections to the upstream that are open: HTTP/1.1 ones that wait for work, HTTP/2 ones that many requests share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout};

use super::connect::{Connected, Connector, Offer};
use super::handshake::{self, Http1, Http2, Streams};
use super::upload::RequestBody;
use crate::clock::SharedClock;
use crate::error::{Causes, ProxyError};

/// A connection that has waited longer is not used again: load balancers before Azure drop silent ones after four minutes.
/// Measured by the wall clock, so that what was open before a laptop slept is not trusted after it woke.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// HTTP/1.1 connections kept for later.
const MOST_IDLE: usize = 128;
/// The open connections to one endpoint.
#[derive(Debug)]
pub(super) struct Pool {
    connector: Connector,
    clock: SharedClock,
    open: Mutex<Open>,
    /// Held while the first connection is made, and whenever an HTTP/2 one is: a crowd shares one handshake. Knows how the
    /// last one failed, if it did.
    handshake: tokio::sync::Mutex<Option<(Instant, ProxyError)>>,
    /// The upstream took no HTTP/2 when last asked: each request needs a connection of its own.
    http1_only: AtomicBool,
}

#[derive(Debug, Default)]
struct Open {
    idle: Vec<Idle>,
    shared: Vec<Shared>,
}

#[derive(Debug)]
struct Idle {
    connection: Http1,
    since: SystemTime,
}

#[derive(Debug)]
struct Shared {
    sender: Http2,
    streams: Arc<Streams>,
    last_used: SystemTime,
}

/// A connection, for one request.
#[derive(Debug)]
pub(super) enum Connection {
    Http1(Http1),
    Http2(Http2, Arc<Streams>),
    Switchable(Http1),
}

/// A connection, and whether it has carried requests before.
pub(super) struct Checkout {
    pub(super) connection: Connection,
    pub(super) reused: bool,
}

/// The right to use a connection until a response has ended.
#[derive(Debug)]
pub(super) enum Lease {
    Http1(Http1, Arc<Pool>),
    /// Counts as a stream of its connection as long as it lives.
    Http2 {
        _stream: Arc<Streams>,
    },
    /// The connection ends with it.
    Switchable {
        _connection: Http1,
    },
}

impl Pool {
    pub(super) fn new(connector: Connector, clock: SharedClock) -> Arc<Self> {
        Arc::new(Self {
            connector,
            clock,
            open: Mutex::default(),
            handshake: tokio::sync::Mutex::default(),
            http1_only: AtomicBool::new(false),
        })
    }

    /// Host and port, for messages.
    pub(super) fn host(&self) -> String {
        self.connector.host()
    }

    /// An open connection if there is one, else a new one.
    pub(super) async fn checkout(&self) -> Result<Checkout, ProxyError> {
        match self.take_open() {
            Some(connection) => Ok(Checkout { connection, reused: true }),
            None => self.connect().await,
        }
    }

    /// Another connection than `dead`, which was open and failed.
    pub(super) async fn replace(&self, dead: &Connection) -> Result<Checkout, ProxyError> {
        if let Connection::Http2(_, streams) = dead {
            self.open().shared.retain(|shared| !Arc::ptr_eq(&shared.streams, streams));
        }
        self.connect().await
    }

    /// A connection for one request that may switch protocols: HTTP/1.1, shared with nobody.
    pub(super) async fn connect_to_switch(&self) -> Result<Connection, ProxyError> {
        let connection = match self.connector.connect(Offer::Http1).await? {
            Connected::Plain(stream) => handshake::http1_that_may_switch(stream).await,
            Connected::Tls(stream) => handshake::http1_that_may_switch(*stream).await,
        };
        connection.map(Connection::Switchable).map_err(|error| self.protocol_error(&error))
    }

    /// A new connection. While the upstream may speak HTTP/2 a crowd makes one together, and shares its failure.
    async fn connect(&self) -> Result<Checkout, ProxyError> {
        if self.http1_only.load(Ordering::Relaxed) {
            return self.connect_anew().await;
        }
        let came = Instant::now();
        let mut last_failure = self.handshake.lock().await;
        if let Some(connection) = self.take_open() {
            return Ok(Checkout { connection, reused: true });
        }
        if self.http1_only.load(Ordering::Relaxed) {
            drop(last_failure);
            return self.connect_anew().await;
        }
        match &*last_failure {
            Some((at, error)) if *at >= came => return Err(error.clone()),
            _ => {}
        }
        let connected = self.connect_anew().await;
        *last_failure = connected.as_ref().err().map(|error| (Instant::now(), error.clone()));
        connected
    }

    async fn connect_anew(&self) -> Result<Checkout, ProxyError> {
        let connection = self.shake_hands(self.connector.connect(Offer::Either).await?).await?;
        Ok(Checkout { connection, reused: false })
    }

    fn take_open(&self) -> Option<Connection> {
        let now = self.clock.now();
        let fresh = |since: SystemTime| now.duration_since(since).unwrap_or_default() < LONGEST_WAIT;
        let mut open = self.open();
        open.shared.retain(|shared| !shared.sender.is_closed() && (shared.streams.any() || fresh(shared.last_used)));
        let roomy = open.shared.iter_mut().find(|shared| fresh(shared.last_used) && shared.streams.have_room());
        if let Some(shared) = roomy {
            shared.last_used = now;
            return Some(Connection::Http2(shared.sender.clone(), shared.streams.clone()));
        }
        while let Some(idle) = open.idle.pop() {
            if idle.connection.sender.is_ready() && fresh(idle.since) {
                return Some(Connection::Http1(idle.connection));
            }
        }
        None
    }

    async fn shake_hands(&self, connected: Connected) -> Result<Connection, ProxyError> {
        let http2 = connected.speaks_http2();
        self.http1_only.store(!http2, Ordering::Relaxed);
        let connection = match connected {
            Connected::Plain(stream) => handshake::http1(stream).await.map(Connection::Http1),
            Connected::Tls(stream) if http2 => handshake::http2(*stream).await.map(|shared| self.share(shared)),
            Connected::Tls(stream) => handshake::http1(*stream).await.map(Connection::Http1),
        };
        connection.map_err(|error| self.protocol_error(&error))
    }

    fn share(&self, (sender, streams): (Http2, Arc<Streams>)) -> Connection {
        let shared = Shared { sender: sender.clone(), streams: streams.clone(), last_used: self.clock.now() };
        self.open().shared.push(shared);
        Connection::Http2(sender, streams)
    }

    fn protocol_error(&self, error: &hyper::Error) -> ProxyError {
        ProxyError::UpstreamProtocol { host: self.host(), problem: Causes(error).to_string() }
    }

    fn keep(&self, connection: Http1) {
        let since = self.clock.now();
        let mut open = self.open();
        if open.idle.len() < MOST_IDLE {
            open.idle.push(Idle { connection, since });
        }
    }

    /// A panic elsewhere leaves nothing half done in here.
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    pub(super) fn is_http2(&self) -> bool {
        matches!(self, Self::Http2(..))
    }

    /// Sends a request; returns once the head of the response is there.
    pub(super) async fn send(&mut self, request: Request<RequestBody>) -> Result<Response<Incoming>, hyper::Error> {
        match self {
            Self::Http1(connection) | Self::Switchable(connection) => {
                connection.heard.store(false, Ordering::Relaxed);
                connection.sender.send_request(request).await
            }
            Self::Http2(sender, _) => sender.send_request(request).await,
        }
    }

    /// Whether any of a response has come since the last request was sent. Over HTTP/2 an error says that none has.
    pub(super) fn has_been_heard(&self) -> bool {
        match self {
            Self::Http1(connection) | Self::Switchable(connection) => connection.heard.load(Ordering::Relaxed),
            Self::Http2(..) => false,
        }
    }

    pub(super) fn lease(self, pool: &Arc<Pool>) -> Lease {
        match self {
            Self::Http1(connection) => Lease::Http1(connection, pool.clone()),
            Self::Http2(_, stream) => Lease::Http2 { _stream: stream },
            Self::Switchable(connection) => Lease::Switchable { _connection: connection },
        }
    }
}

impl Lease {
    /// The response has ended: the connection may carry another request.
    pub(super) fn give_back(self) {
        let Self::Http1(mut connection, pool) = self else { return };
        if connection.sender.is_ready() {
            pool.keep(connection);
        } else if !connection.sender.is_closed() {
            // The connection's own task has yet to notice, or is still sending a request that was answered early.
            tokio::spawn(async move {
                if let Ok(Ok(())) = timeout(LONGEST_WAIT, connection.sender.ready()).await {
                    pool.keep(connection);
                }
            });
        }
    }
}
