//! The command line: its options, and one file a subcommand.

mod demo;
mod emulator;
mod serve;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{ConfigError, Environment, Overrides};
use crate::identity::credential::CredentialsError;
use crate::server::ListenError;

/// A local authenticating reverse proxy for Azure OpenAI.
///
/// Takes plain OpenAI-compatible requests on this machine, puts a fresh Microsoft Entra token on them and passes them on to
/// the resource. Without a subcommand: serve.
#[derive(Debug, Parser)]
#[command(name = "aoai-auth-proxy", version, max_term_width = 100)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy (the default).
    Serve,
    /// Run the proxy against an embedded Azure emulator; needs no configuration and no Azure.
    Demo,
    /// Run the embedded Azure emulator alone, for other programs' tests.
    Emulator,
}

/// Options that every subcommand takes.
#[derive(Debug, Args)]
struct Options {
    /// Configuration file (TOML).
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on; port 0 picks a free one.
    #[arg(long, global = true, value_name = "ADDR")]
    listen: Option<String>,
    /// The Azure OpenAI resource, like <https://NAME.openai.azure.com>.
    #[arg(long, global = true, value_name = "URL")]
    endpoint: Option<String>,
    /// auto, managed-identity, workload-identity, azure-cli, azure-developer-cli, client-secret or client-certificate.
    #[arg(long, global = true, value_name = "KIND")]
    credential: Option<String>,
    /// Application, or user-assigned identity.
    #[arg(long, global = true, value_name = "ID")]
    client_id: Option<String>,
    /// Directory.
    #[arg(long, global = true, value_name = "ID")]
    tenant_id: Option<String>,
    /// error, warn, info, debug, trace or off; or directives by module.
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// text or json.
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Any key of the configuration; may be repeated.
    #[arg(long, global = true, value_name = "section.key=value")]
    set: Vec<String>,
}

impl Options {
    fn overrides(self) -> Overrides {
        let named = [
            ("--listen", "listen.address", self.listen),
            ("--endpoint", "upstream.endpoint", self.endpoint),
            ("--credential", "credential.kind", self.credential),
            ("--client-id", "credential.client_id", self.client_id),
            ("--tenant-id", "credential.tenant_id", self.tenant_id),
            ("--log-level", "telemetry.log_level", self.log_level),
            ("--log-format", "telemetry.log_format", self.log_format),
        ];
        Overrides {
            file: self.config,
            named: named.into_iter().filter_map(|(option, key, value)| Some((option, key, value?))).collect(),
            assignments: self.set,
        }
    }
}

/// Runs what the command line asks for, to its end.
#[must_use]
pub fn run(line: CommandLine) -> ExitCode {
    let overrides = line.options.overrides();
    let outcome = match line.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(&Environment::process(), &overrides),
        Command::Demo => demo::run(overrides),
        Command::Emulator => emulator::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("aoai-auth-proxy: {}", crate::error::Causes(&failure));
            failure.exit_code()
        }
    }
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
    #[error("the emulator did not start")]
    Emulator(#[source] std::io::Error),
    #[error("the runtime did not start")]
    Runtime(#[source] std::io::Error),
    #[error("logging did not start")]
    Logs(#[from] tracing_subscriber::util::TryInitError),
    #[error("ended at once, as asked, before every running request had ended")]
    CutOff,
}

impl Failure {
    /// 2 for what the user said, 1 for what happened.
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::DemoOption(_) | Self::Credentials(CredentialsError::Certificate(_)) => {
                ExitCode::from(2)
            }
            Self::Tls(_)
            | Self::Credentials(CredentialsError::Client(_))
            | Self::Build(_)
            | Self::Listen(_)
            | Self::Emulator(_)
            | Self::Runtime(_)
            | Self::Logs(_)
            | Self::CutOff => ExitCode::FAILURE,
        }
    }
}

/// Runs to the end. What still runs in the background then, like a name that is being looked up, is left behind.
fn block_on(task: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::Runtime)?;
    let outcome = runtime.block_on(task);
    runtime.shutdown_background();
    outcome
}

/// A line or more on standard output. Whoever does not listen misses nothing that matters.
fn say(text: &str) {
    let mut output = std::io::stdout().lock();
    let _ = writeln!(output, "{text}").and_then(|()| output.flush());
}
