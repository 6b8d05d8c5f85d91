//! `serve`: the proxy, from its configuration to its last request.

use std::net::SocketAddr;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failure, block_on, say};
use crate::app::App;
use crate::clock::SystemClock;
use crate::config::{Config, Environment, Overrides};
use crate::identity::credential::{self, Credentials};
use crate::lifecycle::Lifecycle;
use crate::server::{Drained, serve};
use crate::telemetry::logs;
use crate::tls;

/// How many connections may wait to be accepted; the system may allow fewer (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

pub(super) fn run(environment: &Environment, overrides: &Overrides) -> Result<(), Failure> {
    let config = Config::load(environment, overrides)?;
    logs::start(&config.telemetry)?;
    block_on(proxy(&config, |_| ()))
}

/// Serves until a signal says to stop. `announce` is called once the socket is bound.
pub(super) async fn proxy(config: &Config, announce: impl FnOnce(SocketAddr)) -> Result<(), Failure> {
    let clock = Arc::new(SystemClock);
    let lifecycle = Lifecycle::new();
    let tls = tls::client(&config.upstream.authorities)?;
    let credentials = Credentials::new(config, tls.clone(), clock.clone())?;
    let app = App::new(config, &tls, &credentials, clock.clone(), lifecycle.clone())?;

    open_many_files();
    let listen_error = |error| Failure::Listen { address: config.listen, error };
    let listener = listen(config.listen).map_err(listen_error)?;
    let address = listener.local_addr().map_err(listen_error)?;
    let signals = Signals::install().map_err(Failure::Runtime)?;
    say(&format!("listening on http://{address}"));
    announce(address);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        %address,
        upstream = %config.upstream.endpoint,
        credential = credential::name(&config.credential.source),
        "serving",
    );
    app.start();
    let serving = serve(listener, app, config.limits, lifecycle.clone(), clock);
    tokio::pin!(serving);
    let signals = tokio::select! {
        // Serving ends by a signal alone.
        _ = &mut serving => return Ok(()),
        signals = signals.first(lifecycle) => signals,
    };
    tokio::select! {
        drained = &mut serving => match drained {
            Drained::Completely => tracing::info!("stopped"),
            Drained::CutOff => tracing::warn!("stopped; what still ran after limits.shutdown_grace was cut off"),
        },
        () = signals.second() => return Err(Failure::CutOff),
    }
    Ok(())
}

/// Each caller takes two file descriptors, and the system's default of 1024 is a courtesy to programs that use `select`: as
/// many as the system lets us have.
fn open_many_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
}

/// A socket with room for a burst of callers: what the library asks for by default overflows, and each overflow costs
/// somebody a second.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The signals that mean something to a server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Installed so that losing the terminal ends nothing.
    _hangup: Signal,
}

impl Signals {
    fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the first signal and begins the end.
    async fn first(mut self, lifecycle: Lifecycle) -> Self {
        self.next().await;
        tracing::info!("stopping: running requests go on, new connections are refused; a second signal ends at once");
        lifecycle.end();
        self
    }

    async fn second(mut self) {
        self.next().await;
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
