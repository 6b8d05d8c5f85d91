//! `serve`: the proxy, from its configuration to its last request.

mod doors;
mod signals;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::ClientConfig;

use super::{Failure, block_on};
use crate::admin::{self, Admin};
use crate::app::{App, Books, BuildError};
use crate::clock::{SharedClock, SystemClock};
use crate::config::{Config, Environment, Overrides};
use crate::confine;
use crate::identity::credential::{self, Credentials};
use crate::ledger::{FileError, Ledger, Patience};
use crate::lifecycle::Lifecycle;
use crate::server::{Drained, serve};
use crate::systemd::{self, Event, Handed, Manager};
use crate::telemetry::logs;
use crate::telemetry::otlp::Export;
use crate::tls;
use crate::workers::Workers;

pub(super) use doors::Doors;
use signals::Signals;

pub(super) fn run(environment: &Environment, overrides: &Overrides) -> Result<(), Failure> {
    let config = Config::load(environment, overrides)?;
    // Before there are threads.
    let handed = Handed::take(environment)?;
    let logs = logs::start(&config.telemetry, environment)?;
    confine::hide_memory();
    open_many_files();
    let tls = tls::client(&config.upstream.authorities)?;
    let doors = Doors::open(&config, handed)?;
    let manager = Manager::connect(environment);
    // Dropped before the log: it has things to say.
    let mut ledger = ledger(&config)?;
    let writable: Vec<_> = ledger.iter().map(|ledger| ledger.directory().to_owned()).collect();
    // Whatever is opened once is open, and no other thread runs that would escape.
    confine::confine(&config, environment, &writable);
    // Only now: a thread of before would not be confined.
    logs.write().map_err(Failure::Runtime)?;
    ledger.as_mut().map_or(Ok(()), Ledger::begin).map_err(Failure::Runtime)?;
    let outcome = block_on(proxy(&config, tls, doors, books(ledger.as_ref()), &manager, |_| ()));
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

/// Serves until somebody says to stop. `announce` is called with the address once a caller can be answered.
pub(super) async fn proxy(
    config: &Config,
    tls: ClientConfig,
    doors: Doors,
    mut books: Books,
    manager: &Manager,
    announce: impl FnOnce(SocketAddr),
) -> Result<(), Failure> {
    let clock = Arc::new(SystemClock);
    let lifecycle = Lifecycle::new();
    let credentials = Credentials::new(config, tls.clone(), clock.clone())?;
    let export = Export::start(config, tls.clone(), clock.clone()).map_err(BuildError::from)?;
    books.observers.extend(export.iter().map(Export::observer));
    let app = App::new(config, &tls, &credentials, clock.clone(), lifecycle.clone(), books)?;

    let signals = Signals::install().map_err(Failure::Runtime)?;
    doors.announce();
    if let Some(address) = doors.callers.address() {
        announce(address);
    }
    config.telemetry.ignored.iter().for_each(|problem| tracing::warn!("{problem}"));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        address = %doors.callers,
        admin = doors.admin.as_ref().map(display),
        upstream = %config.upstream.endpoint,
        credential = credential::name(&config.credential.source),
        "serving",
    );
    app.start();
    let workers = Workers::start().map_err(Failure::Runtime)?;
    manager.tell(Event::Ready(&doors.callers.to_string()));
    let working = async {
        let drained = answer(config, doors, app, &lifecycle, clock, &workers).await;
        if let Some(export) = export {
            export.end().await;
        }
        drained
    };
    let hears = async {
        let stopping = async {
            lifecycle.ending().await;
            manager.tell(Event::Stopping);
        };
        tokio::join!(stopping, systemd::watch(manager, &workers)).1
    };
    let drained = tokio::select! {
        // In this order: what begins the end is told before it may be over.
        biased;
        () = signals.twice(&lifecycle) => return Err(Failure::CutOff),
        never = hears => match never {},
        drained = working => drained.map_err(Failure::Runtime)?,
    };
    match drained {
        Drained::Completely => {
            // With the last of what they have to tell.
            drop(workers);
            tracing::info!("stopped");
        }
        // Before workers are waited for: what was cut off may be one that is stuck.
        Drained::CutOff => tracing::warn!("stopped; what still ran after limits.shutdown_grace was cut off"),
    }
    Ok(())
}

/// Answers callers until the end, and whoever probes until there are no callers left: it hears that the end has begun.
async fn answer(
    config: &Config,
    Doors { callers, admin }: Doors,
    app: App,
    lifecycle: &Lifecycle,
    clock: SharedClock,
    workers: &Workers,
) -> io::Result<Drained> {
    let end_of_probes = Lifecycle::new();
    let probed = async {
        let Some(listeners) = admin else { return Ok(()) };
        let quits = config.admin.filter(|admin| admin.quits).map(|_| lifecycle.clone());
        let (answer, limits) = (Admin::new(&app, &config.access, quits), admin::limits(config.limits));
        // By this thread, which has no callers: however much the others have to do.
        serve(listeners, answer, limits, end_of_probes.clone(), clock.clone(), &Workers::none()).await.map(drop)
    };
    let called = async {
        let drained = serve(callers, app.clone(), config.limits, lifecycle.clone(), clock.clone(), workers).await;
        end_of_probes.end();
        drained
    };
    tokio::try_join!(called, probed).map(|(drained, ())| drained)
}

/// Each caller takes two file descriptors, and the system's default of 1024 is a courtesy to programs that use `select`: as
/// many as the system lets us have.
pub(super) fn open_many_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
}
