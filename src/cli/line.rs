//! What can be written on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use super::check::Check;
use super::config::Show;
use super::health::Health;
use super::models::Models;
use super::run::Run;
use crate::config::Overrides;

/// The headings of options in `--help`.
mod heading {
    pub(super) const CONFIGURATION: &str = "Configuration";
    pub(super) const IDENTITY: &str = "Identity";
    pub(super) const LOGS: &str = "Logs";
}

/// A local authenticating reverse proxy for Azure OpenAI.
///
/// Takes plain OpenAI-compatible requests on this machine, puts a fresh Microsoft Entra token on them and passes them on to
/// the resource. Without a subcommand: serve.
#[derive(Debug, Parser)]
#[command(name = "aoai-auth-proxy", version, max_term_width = 100)]
pub struct CommandLine {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) options: Options,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the proxy (the default).
    Serve,
    /// Run a command with a proxy of its own, for as long as it runs.
    ///
    /// The proxy listens on a free port of this machine, waits until it holds a token, and starts the command with
    /// `OPENAI_BASE_URL`, `OPENAI_API_KEY` and their Azure twins set. Ends with the command's exit status.
    Run(Run),
    /// Go from the configuration to an answer of the resource, step by step; say what is wrong and how to mend it.
    Check(Check),
    /// List the models that the region offers, and which of them the account has deployed.
    Models(Models),
    /// Show the configuration in force and where each value comes from, as TOML, without secrets.
    Config(Show),
    /// Ask a running proxy, at the address of the same configuration, how it is; exit status 0 or 1.
    Health(Health),
    /// Run the proxy against an embedded Azure emulator; needs no configuration and no Azure.
    Demo,
    /// Run the embedded Azure emulator alone, for other programs' tests.
    Emulator,
    /// Print what a shell needs to complete this program's options.
    Completions {
        /// bash, elvish, fish, powershell or zsh.
        shell: Shell,
    },
    /// Print the manual page, in roff.
    Man,
}

/// Options that every subcommand takes.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Configuration file (TOML).
    #[arg(long, global = true, value_name = "FILE", help_heading = heading::CONFIGURATION)]
    config: Option<PathBuf>,
    /// The Azure OpenAI resource, like <https://NAME.openai.azure.com>.
    #[arg(long, global = true, value_name = "URL", help_heading = heading::CONFIGURATION)]
    endpoint: Option<String>,
    /// Address to listen on; port 0 picks a free one.
    #[arg(long, global = true, value_name = "ADDR", help_heading = heading::CONFIGURATION)]
    listen: Option<String>,
    /// Any key of the configuration; may be repeated.
    #[arg(long, global = true, value_name = "section.key=value", help_heading = heading::CONFIGURATION)]
    set: Vec<String>,
    /// auto, managed-identity, workload-identity, azure-cli, azure-developer-cli, client-secret or client-certificate.
    #[arg(long, global = true, value_name = "KIND", help_heading = heading::IDENTITY)]
    credential: Option<String>,
    /// Application, or user-assigned identity.
    #[arg(long, global = true, value_name = "ID", help_heading = heading::IDENTITY, hide_short_help = true)]
    client_id: Option<String>,
    /// Directory.
    #[arg(long, global = true, value_name = "ID", help_heading = heading::IDENTITY, hide_short_help = true)]
    tenant_id: Option<String>,
    /// error, warn, info, debug, trace or off; or directives by module.
    #[arg(long, global = true, value_name = "LEVEL", help_heading = heading::LOGS, hide_short_help = true)]
    log_level: Option<String>,
    /// text or json.
    #[arg(long, global = true, value_name = "FORMAT", help_heading = heading::LOGS, hide_short_help = true)]
    log_format: Option<String>,
}

impl Options {
    /// As the configuration takes them.
    pub(super) fn overrides(self) -> Overrides {
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
            ..Overrides::default()
        }
    }
}
