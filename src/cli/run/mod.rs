//! `run`: a command with a proxy of its own, from a free port to the command's exit status.
//!
//! The proxy of a run knows one caller, by a key that is made for it and that nobody else is given: neither another user of
//! this machine nor another program finds an open door in the port. Landlock is left out, because the command would inherit
//! it; limits of the process that it would inherit too are set once it has started.

mod command;
mod signals;
mod token;
mod variables;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use ring::rand::{SecureRandom, SystemRandom};
use rustix::process::Signal;
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::health::near;
use super::serve::{books, ledger, open_many_files};
use super::{Failure, block_on};
use crate::app::{App, Books};
use crate::clock::SystemClock;
use crate::config::{Config, Environment, HostName, KEY_OF_A_RUN, Overrides, UnknownApp};
use crate::confine;
use crate::identity::credential::Credentials;
use crate::ledger::Ledger;
use crate::lifecycle::Lifecycle;
use crate::server::{Listeners, serve};
use crate::telemetry::logs;
use crate::tls;
use crate::workers::Workers;

use command::Attended;
use signals::Signals;
use variables::Variables;

pub(super) use command::become_command;

/// What is to be run, and how.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// How long to wait for the first token, where waiting can help.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    wait: u32,
    /// The configured app whose models and limits the command has; without it, all models and no limits.
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    /// Leave `AZURE_CLIENT_SECRET` and `AZURE_CLIENT_CERTIFICATE_PASSWORD` in the command's environment.
    #[arg(long)]
    keep_secrets: bool,
    /// The command and its arguments.
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
}

/// Why a command was not started.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error(transparent)]
    App(#[from] UnknownApp),
    #[error("run needs an address that the command can be told: leave --listen out, or give it one like 127.0.0.1:0")]
    NoAddress,
    #[error("the system gives no random bytes for a key")]
    NoKey,
    #[error("{program} was not started: {problem}")]
    NoToken { program: String, problem: String },
    #[error("cannot run {program}{}", command::advice(error))]
    Command {
        program: String,
        #[source]
        error: std::io::Error,
    },
    #[error("no process can be started for {program}")]
    NoProcess {
        program: String,
        #[source]
        error: std::io::Error,
    },
    #[error("{program} was not started: interrupted")]
    Interrupted { program: String, signal: Signal },
    #[error("the proxy ended before {program} was started")]
    Orphaned { program: String },
}

impl RunError {
    /// As shells number them: 127 for what is not found, 126 for what cannot be executed, 128 and more for a signal.
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::App(_) | Self::NoAddress => ExitCode::from(2),
            Self::NoKey | Self::NoToken { .. } | Self::Orphaned { .. } => ExitCode::FAILURE,
            Self::Command { error, .. } if error.kind() == std::io::ErrorKind::NotFound => ExitCode::from(127),
            Self::Command { .. } | Self::NoProcess { .. } => ExitCode::from(126),
            Self::Interrupted { signal, .. } => command::by_signal(signal.as_raw()),
        }
    }
}

pub(super) fn run(environment: &Environment, overrides: Overrides, asked: &Run) -> Result<ExitCode, Failure> {
    let mut config = Config::load(environment, &of_its_own(overrides))?;
    let key = new_key()?;
    config.leave_one_caller(asked.app.as_deref(), &key).map_err(RunError::from)?;
    let logs = logs::start(&config.telemetry, environment)?;
    logs.write().map_err(Failure::Runtime)?;
    confine::keep_out_others();
    tracing::debug!("not confined: the command would be, too");
    if config.telemetry.otlp.as_ref().is_some_and(|otlp| otlp.is_ours) {
        tracing::warn!("nothing is exported to telemetry.otlp_endpoint: run has no part in it, serve and demo have");
    }
    let tls = tls::client(&config.upstream.authorities)?;
    let listeners = Listeners::bind(&config.listen, &config.access.peer_users)?;
    let address = listeners.address().ok_or(RunError::NoAddress)?;
    let address = SocketAddr::new(near(address.ip()), address.port());
    // Whatever names the configuration has: this one the command is told.
    config.access.hosts.extend(host(address).parse::<HostName>());
    let variables = Variables::new(environment, &config.credential.source, address, &key, asked.keep_secrets);
    let mut ledger = ledger(&config)?;
    ledger.as_mut().map_or(Ok(()), Ledger::begin).map_err(Failure::Runtime)?;
    let app = (&config, tls, books(ledger.as_ref()));
    let outcome = block_on(serve_one(app, listeners, &variables, asked));
    // What the command has cost, before anything ends this process.
    drop(ledger);
    if let Err(Failure::Run(RunError::Interrupted { signal, .. })) = &outcome {
        drop(logs);
        signals::end_by(*signal);
    }
    outcome
}

/// What a configuration says of addresses is said for `serve`, which may be running: here only the command line counts. And
/// the terminal is the command's, which is told in an answer what a log would say.
fn of_its_own(mut overrides: Overrides) -> Overrides {
    let free = ("run", "listen.address", "127.0.0.1:0".to_owned());
    let none = ("run", "listen.unix_socket", String::new());
    // In front: whatever else is on the command line is stronger.
    overrides.named.splice(0..0, [free, none]);
    overrides.defaults.push(("telemetry.log_level", "error"));
    overrides
}

/// Serves from the first token to the command's end; and then nothing is waited for, because nobody is left to be answered.
async fn serve_one(
    (config, tls, books): (&Config, rustls::ClientConfig, Books),
    listeners: Listeners,
    variables: &Variables,
    asked: &Run,
) -> Result<ExitCode, Failure> {
    let mut signals = Signals::install().map_err(Failure::Runtime)?;
    let (clock, lifecycle) = (Arc::new(SystemClock), Lifecycle::new());
    let credentials = Credentials::new(config, tls.clone(), clock.clone())?;
    let app = App::new(config, &tls, &credentials, clock.clone(), lifecycle.clone(), books)?;
    app.start();
    let program = || command::shown(&asked.command);
    tokio::select! {
        held = token::wait(app.tokens(), Duration::from_secs(asked.wait.into())) => {
            held.map_err(|problem| RunError::NoToken { program: program(), problem })?;
        }
        signal = signals.ending() => return Err(RunError::Interrupted { program: program(), signal }.into()),
    }
    tracing::info!(address = %listeners, upstream = %config.upstream.endpoint, "serving a command");
    // From here on signals are the command's.
    // By this thread, which lives as long as the process: it is whose death the command hears of.
    let attended = Attended::start(&asked.command, variables)?;
    // Not before: the command has the limits that it would have without us.
    confine::forbid_cores();
    open_many_files();
    let workers = Workers::start().map_err(Failure::Runtime)?;
    let serving = serve(listeners, app, config.limits, lifecycle, clock, &workers);
    tokio::select! {
        status = attended.until_it_ends(signals) => Ok(command::exit_code(status.map_err(Failure::Runtime)?)),
        // Serving ends by its lifecycle alone, or could not begin.
        ended = serving => {
            ended.map_err(Failure::Runtime)?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// As a URL has it.
fn host(address: SocketAddr) -> String {
    match address.ip() {
        std::net::IpAddr::V4(address) => address.to_string(),
        std::net::IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// One that begins like those that some tools insist on.
fn new_key() -> Result<SecretString, RunError> {
    let mut bytes = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(&mut *bytes).map_err(|_| RunError::NoKey)?;
    Ok(SecretString::from(format!("{KEY_OF_A_RUN}{}", Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)).as_str())))
}
