//! `serve`: the proxy, from its configuration to its last request.

use std::net::SocketAddr;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::ClientConfig;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failure, block_on_here, say};
use crate::app::{App, Books, BuildError};
use crate::clock::SystemClock;
use crate::config::{Config, Environment, Overrides};
use crate::confine;
use crate::identity::credential::{self, Credentials};
use crate::ledger::{FileError, Ledger, Patience};
use crate::lifecycle::Lifecycle;
use crate::server::{Drained, Listeners, serve};
use crate::telemetry::logs;
use crate::telemetry::otlp::Export;
use crate::tls;
use crate::workers::Workers;

pub(super) fn run(environment: &Environment, overrides: &Overrides) -> Result<(), Failure> {
    let config = Config::load(environment, overrides)?;
    let logs = logs::start(&config.telemetry, environment)?;
    confine::hide_memory();
    open_many_files();
    let tls = tls::client(&config.upstream.authorities)?;
    let listeners = Listeners::bind(&config.listen, &config.access.peer_users)?;
    // Dropped before the log: it has things to say.
    let mut ledger = ledger(&config)?;
    let writable: Vec<_> = ledger.iter().map(|ledger| ledger.directory().to_owned()).collect();
    // Whatever is opened once is open, and no other thread runs that would escape.
    confine::confine(&config, environment, &writable);
    // Only now: a thread of before would not be confined.
    logs.write().map_err(Failure::Runtime)?;
    ledger.as_mut().map_or(Ok(()), Ledger::begin).map_err(Failure::Runtime)?;
    let outcome = block_on_here(proxy(&config, tls, listeners, books(ledger.as_ref()), |_| ()));
    if let Some(ledger) = ledger {
        close(ledger, &outcome);
    }
    outcome
}

/// What it has cost, once nothing more can come. Whoever has asked for an end at once is not kept waiting.
pub(super) fn close(ledger: Ledger, outcome: &Result<(), Failure>) {
    ledger.close(if matches!(outcome, Err(Failure::CutOff)) { Patience::None } else { Patience::Usual });
}

/// The ledger that the configuration asks for.
pub(super) fn ledger(config: &Config) -> Result<Option<Ledger>, FileError> {
    config.ledger.as_ref().map(|settings| Ledger::open(settings, Arc::new(SystemClock))).transpose()
}

/// What the ledger has to do with requests.
pub(super) fn books(ledger: Option<&Ledger>) -> Books {
    Books { observers: ledger.map(Ledger::observer).into_iter().collect(), ledger: ledger.map(Ledger::condition) }
}

/// Serves until a signal says to stop. `announce` is called with the address once a caller can be answered.
pub(super) async fn proxy(
    config: &Config,
    tls: ClientConfig,
    listeners: Listeners,
    mut books: Books,
    announce: impl FnOnce(SocketAddr),
) -> Result<(), Failure> {
    let clock = Arc::new(SystemClock);
    let lifecycle = Lifecycle::new();
    let credentials = Credentials::new(config, tls.clone(), clock.clone())?;
    let export = Export::start(config, tls.clone(), clock.clone()).map_err(BuildError::from)?;
    books.observers.extend(export.iter().map(Export::observer));
    let app = App::new(config, &tls, &credentials, clock.clone(), lifecycle.clone(), books)?;

    let signals = Signals::install().map_err(Failure::Runtime)?;
    if let Some(address) = listeners.address() {
        say(&format!("listening on http://{address}"));
    }
    if let Some(path) = listeners.path() {
        say(&format!("listening on unix:{}", path.display()));
    }
    if let Some(address) = listeners.address() {
        announce(address);
    }
    config.telemetry.ignored.iter().for_each(|problem| tracing::warn!("{problem}"));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        address = %listeners,
        upstream = %config.upstream.endpoint,
        credential = credential::name(&config.credential.source),
        "serving",
    );
    app.start();
    let workers = Workers::start().map_err(Failure::Runtime)?;
    let serving = serve(listeners, app, config.limits, lifecycle.clone(), clock, &workers);
    tokio::pin!(serving);
    let signals = tokio::select! {
        // Serving ends by a signal alone.
        ended = &mut serving => return ended.map(|_| ()).map_err(Failure::Runtime),
        signals = signals.first(lifecycle) => signals,
    };
    let ending = async {
        let drained = serving.await;
        if let Some(export) = export {
            export.end().await;
        }
        drained
    };
    tokio::select! {
        drained = ending => match drained.map_err(Failure::Runtime)? {
            Drained::Completely => tracing::info!("stopped"),
            Drained::CutOff => tracing::warn!("stopped; what still ran after limits.shutdown_grace was cut off"),
        },
        () = signals.second() => return Err(Failure::CutOff),
    }
    Ok(())
}

/// Each caller takes two file descriptors, and the system's default of 1024 is a courtesy to programs that use `select`: as
/// many as the system lets us have.
pub(super) fn open_many_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
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
