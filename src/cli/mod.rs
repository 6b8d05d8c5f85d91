//! The command line: what can be written on it, and one file a subcommand.

mod check;
mod completions;
mod config;
mod demo;
mod emulator;
mod health;
mod line;
mod man;
mod models;
mod run;
mod serve;
mod table;
mod usage;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::Builder;

use line::Command;
pub use line::CommandLine;

use crate::config::{ConfigError, Environment};
use crate::identity::credential::CredentialsError;
use crate::ledger::FileError;
use crate::server::ListenError;
use crate::systemd::HandedError;
use crate::telemetry::logs;

/// Runs what the command line asks for, to its end.
#[must_use]
pub fn run(line: CommandLine) -> ExitCode {
    let (environment, overrides) = (Environment::process(), line.options.overrides());
    let done = |()| ExitCode::SUCCESS;
    let outcome = match line.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(&environment, &overrides).map(done),
        Command::Check(asked) => check::run(&environment, overrides, &asked),
        Command::Demo => demo::run(&environment, overrides).map(done),
        Command::Config(show) => config::run(&environment, &overrides, &show).map(done),
        Command::Models(asked) => models::run(&environment, &overrides, &asked).map(done),
        Command::Usage(asked) => usage::run(&environment, &overrides, &asked).map(done),
        Command::Run(asked) => run::run(&environment, overrides, &asked),
        Command::Health(asked) => health::run(&environment, &overrides, &asked).map(done),
        Command::Emulator => emulator::run().map(done),
        Command::Completions { shell } => completions::print(shell).map(done),
        Command::Man => man::print().map(done),
    };
    outcome.unwrap_or_else(|failure| told(&failure))
}

/// Becomes a command that `run` runs, if that is what these words ask for; they are no command line that a person writes.
/// Comes back if it could not.
#[must_use]
pub fn become_command(words: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    run::become_command(words).map(|failure| told(&failure))
}

fn told(failure: &Failure) -> ExitCode {
    logs::last_words(&format!("aoai-auth-proxy: {}", crate::error::Causes(failure)));
    failure.exit_code()
}

/// Why a subcommand did not end well.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("demo brings its own {0}; leave it out, or use `aoai-auth-proxy serve`")]
    DemoOption(&'static str),
    #[error(transparent)]
    Tls(#[from] crate::tls::TlsError),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Build(#[from] crate::app::BuildError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Handed(#[from] HandedError),
    #[error("the emulator did not start")]
    Emulator(#[source] std::io::Error),
    #[error("the runtime did not start")]
    Runtime(#[source] std::io::Error),
    #[error("logging did not start")]
    Logs(#[from] tracing_subscriber::util::TryInitError),
    #[error("cannot write to standard output")]
    Output(#[source] std::io::Error),
    #[error("cannot write the manual page")]
    Manual(#[source] std::io::Error),
    #[error(transparent)]
    Run(#[from] run::RunError),
    #[error("not well: {0}")]
    Unwell(String),
    #[error("interrupted")]
    Interrupted,
    #[error(transparent)]
    Unlisted(#[from] models::Unlisted),
    #[error(transparent)]
    Ledger(#[from] FileError),
    #[error(transparent)]
    Usage(#[from] usage::Unread),
    #[error("ended at once, as asked, before every running request had ended")]
    CutOff,
}

impl Failure {
    /// 2 for what the user said, 1 for what happened.
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_)
            | Self::DemoOption(_)
            | Self::Credentials(CredentialsError::Certificate(_))
            // Whoever wrote the socket's unit said it.
            | Self::Listen(ListenError::Remote { .. })
            | Self::Handed(_) => ExitCode::from(2),
            Self::Run(error) => error.exit_code(),
            Self::Tls(_)
            | Self::Credentials(CredentialsError::Client(_))
            | Self::Build(_)
            | Self::Listen(_)
            | Self::Emulator(_)
            | Self::Runtime(_)
            | Self::Logs(_)
            | Self::Output(_)
            | Self::Manual(_)
            | Self::Unwell(_)
            | Self::Interrupted
            | Self::Unlisted(_)
            | Self::Ledger(_)
            | Self::Usage(_)
            | Self::CutOff => ExitCode::FAILURE,
        }
    }
}

/// How long what runs in the background may take to end.
const MOMENT: Duration = Duration::from_millis(200);

/// Runs to the end, on this thread alone: where callers are served, others do that. Tasks in the background end then, and with
/// them the tools that they wait for; a name that is being looked up is left behind.
fn block_on<T>(task: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(Failure::Runtime)?;
    let outcome = runtime.block_on(task);
    runtime.shutdown_timeout(MOMENT);
    outcome
}

/// What was asked for, on standard output: a disk that is full must not look like success. Whoever has stopped reading has
/// all that was wanted.
fn print(text: &str) -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    written(writeln!(output, "{text}").and_then(|()| output.flush()))
}

/// What became of writing to standard output.
fn written(outcome: std::io::Result<()>) -> Result<(), Failure> {
    match outcome {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        _ => Ok(()),
    }
}

/// A line or more on standard output. Whoever does not listen misses nothing that matters.
fn say(text: &str) {
    let mut output = std::io::stdout().lock();
    let _ = writeln!(output, "{text}").and_then(|()| output.flush());
}
