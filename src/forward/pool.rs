//! Connections to the upstream that are open: HTTP/1.1 ones that wait for work, HTTP/2 ones that many requests share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};

use super::connect::{Connector, Offer};
use super::http1::Wire;
use super::http2::{self, Line, Session, Turn};
use super::link::Link;
use crate::clock::SharedClock;
use crate::error::{Causes, ProxyError};

/// A connection that has waited longer is not used again: load balancers before Azure drop silent ones after four minutes.
/// Measured by the wall clock, so that what was open before a laptop slept is not trusted after it woke.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How often those that wait are looked at.
const SWEEP: Duration = Duration::from_secs(10);
/// HTTP/1.1 connections kept for later.
const MOST_IDLE: usize = 128;
/// The open connections to one endpoint.
#[derive(Debug)]
pub(super) struct Pool {
    connector: Arc<Connector>,
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
    /// Whether somebody sees to it that idle ones are closed in time.
    is_swept: bool,
}

#[derive(Debug)]
struct Idle {
    wire: Box<Wire>,
    since: SystemTime,
}

#[derive(Debug)]
struct Shared {
    session: Session,
    last_used: SystemTime,
}

/// A connection, for one request.
#[derive(Debug)]
pub(super) enum Connection {
    Http1(Box<Wire>),
    Http2(Turn),
}

/// A connection, and whether it has carried requests before.
pub(super) struct Checkout {
    pub(super) connection: Connection,
    pub(super) reused: bool,
}

impl Pool {
    pub(super) fn new(connector: Arc<Connector>, clock: SharedClock) -> Arc<Self> {
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
            // Boxed: hardly any request connects, and none should carry the room for it.
            None => Box::pin(self.connect()).await,
        }
    }

    /// Another connection than one that was open and failed: than `dead`, if many shared it.
    pub(super) async fn replace(&self, dead: Option<&Arc<Line>>) -> Result<Checkout, ProxyError> {
        if let Some(line) = dead {
            self.open().shared.retain(|shared| !shared.session.is_on(line));
        }
        Box::pin(self.connect()).await
    }

    /// A connection for one request that may switch protocols: HTTP/1.1, shared with nobody.
    pub(super) async fn connect_to_switch(&self) -> Result<Box<Wire>, ProxyError> {
        self.connector.connect(Offer::Http1).await.map(|link| Box::new(Wire::new(link)))
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
        open.shared
            .retain_mut(|Shared { session, last_used }| !session.is_over() && (session.is_used() || fresh(*last_used)));
        let roomy = open.shared.iter_mut().find(|shared| fresh(shared.last_used) && shared.session.has_room());
        if let Some(shared) = roomy {
            shared.last_used = now;
            return Some(Connection::Http2(shared.session.turn()));
        }
        while let Some(mut idle) = open.idle.pop() {
            if fresh(idle.since) && idle.wire.is_quiet() {
                return Some(Connection::Http1(idle.wire));
            }
        }
        None
    }

    async fn shake_hands(&self, link: Link) -> Result<Connection, ProxyError> {
        let is_http2 = link.speaks_http2();
        self.http1_only.store(!is_http2, Ordering::Relaxed);
        if !is_http2 {
            return Ok(Connection::Http1(Box::new(Wire::new(link))));
        }
        let connection = Session::begin(link).await.map(|session| self.share(session));
        connection.map_err(|error| self.protocol_error(&error))
    }

    fn share(&self, session: Session) -> Connection {
        let turn = session.turn();
        self.open().shared.push(Shared { session, last_used: self.clock.now() });
        Connection::Http2(turn)
    }

    fn protocol_error(&self, error: &http2::Error) -> ProxyError {
        ProxyError::UpstreamProtocol { host: self.host(), problem: Causes(error).to_string() }
    }

    /// A connection waits for another request.
    pub(super) fn keep(self: &Arc<Self>, wire: Box<Wire>) {
        let since = self.clock.now();
        let mut open = self.open();
        if open.idle.len() >= MOST_IDLE {
            return;
        }
        open.idle.push(Idle { wire, since });
        if !open.is_swept {
            open.is_swept = true;
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Closes what has waited too long, or was ended meanwhile; whether any connection still waits.
    fn close_stale(&self) -> bool {
        let now = self.clock.now();
        let mut open = self.open();
        let fresh = |since: SystemTime| now.duration_since(since).unwrap_or_default() < LONGEST_WAIT;
        open.idle.retain_mut(|idle| fresh(idle.since) && idle.wire.is_quiet());
        open.is_swept = !open.idle.is_empty();
        open.is_swept
    }

    /// A panic elsewhere leaves nothing half done in here.
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes idle connections of `pool` in time, as long as there are any.
async fn sweep(pool: Weak<Pool>) {
    loop {
        sleep(SWEEP).await;
        let Some(pool) = pool.upgrade() else { return };
        if !pool.close_stale() {
            return;
        }
    }
}
