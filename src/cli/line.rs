//! What can be written on the command line.

use std::path::PathBuf;

use clap::{ArgMatches, Args, CommandFactory, Error, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

use super::check::Check;
use super::config::Show;
use super::health::Health;
use super::models::Models;
use super::run::Run;
use super::usage::Usage;
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

impl CommandLine {
    /// Reads the command line of this process. Ends it if that asks for help or is wrong.
    #[must_use]
    pub fn read() -> Self {
        let mut command = command();
        let matches = command.get_matches_mut();
        Self::of(&matches).unwrap_or_else(|error| error.format(&mut command).exit())
    }

    /// What is written behind the subcommand is added to what is written before it.
    fn of(matches: &ArgMatches) -> Result<Self, Error> {
        let line = Self::from_arg_matches(matches)?;
        let Some((_, behind)) = matches.subcommand() else { return Ok(line) };
        Ok(Self { options: line.options.then(Options::from_arg_matches(behind)?), ..line })
    }
}

/// All that can be written. Not as `clap` has global options: those behind the subcommand would take the place of those before
/// it, also where each of several counts.
pub(super) fn command() -> clap::Command {
    CommandLine::command().mut_subcommands(Options::augment_args)
}

/// Whether an option is one that every subcommand takes.
pub(super) fn is_common(option: &clap::Arg) -> bool {
    Options::augment_args(clap::Command::new("")).get_arguments().any(|common| common.get_id() == option.get_id())
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the proxy (the default).
    Serve,
    /// Run a command with a proxy of its own, for as long as it runs.
    ///
    /// The proxy listens on a free port of this machine, waits until it holds a token, and starts the command with
    /// `OPENAI_BASE_URL`, `OPENAI_API_KEY` and their Azure twins set.
    ///
    /// Exit status: the command's own; 128 + N if signal N has ended it; 127 if it was not found, 126 if it cannot be
    /// executed; 1 if the proxy could not start, 2 if the command line or the configuration is wrong.
    Run(Run),
    /// Go from the configuration to an answer of the resource, step by step; say what is wrong and how to mend it.
    Check(Check),
    /// List the models that the region offers, and which of them the account has deployed.
    Models(Models),
    /// Show what responses have cost, from the usage ledger (usage.enabled); days and hours are in UTC.
    Usage(Usage),
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

// Options that every subcommand takes. (As documentation, these words would become that of each subcommand.)
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE", help_heading = heading::CONFIGURATION)]
    config: Option<PathBuf>,
    /// The Azure OpenAI resource, like `https://NAME.openai.azure.com`.
    #[arg(long, value_name = "URL", help_heading = heading::CONFIGURATION)]
    endpoint: Option<String>,
    /// Address to listen on; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", help_heading = heading::CONFIGURATION)]
    listen: Option<String>,
    /// Any key of the configuration; may be repeated.
    #[arg(long, value_name = "section.key=value", help_heading = heading::CONFIGURATION)]
    set: Vec<String>,
    /// auto, managed-identity, workload-identity, azure-cli, azure-developer-cli, client-secret or client-certificate.
    #[arg(long, value_name = "KIND", help_heading = heading::IDENTITY)]
    credential: Option<String>,
    /// Application, or user-assigned identity.
    #[arg(long, value_name = "ID", help_heading = heading::IDENTITY, hide_short_help = true)]
    client_id: Option<String>,
    /// Directory.
    #[arg(long, value_name = "ID", help_heading = heading::IDENTITY, hide_short_help = true)]
    tenant_id: Option<String>,
    /// error, warn, info, debug, trace or off; or directives by module.
    #[arg(long, value_name = "LEVEL", help_heading = heading::LOGS, hide_short_help = true)]
    log_level: Option<String>,
    /// text or json.
    #[arg(long, value_name = "FORMAT", help_heading = heading::LOGS, hide_short_help = true)]
    log_format: Option<String>,
}

impl Options {
    /// Those of `later` win; of what may be repeated, all count.
    fn then(self, later: Self) -> Self {
        Self {
            config: later.config.or(self.config),
            endpoint: later.endpoint.or(self.endpoint),
            listen: later.listen.or(self.listen),
            set: [self.set, later.set].concat(),
            credential: later.credential.or(self.credential),
            client_id: later.client_id.or(self.client_id),
            tenant_id: later.tenant_id.or(self.tenant_id),
            log_level: later.log_level.or(self.log_level),
            log_format: later.log_format.or(self.log_format),
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_count_before_and_behind_the_subcommand() {
        let words = "aoai-auth-proxy --set a.b=1 --listen x --endpoint e config --set c.d=2 --listen y --explain k";
        let matches = command().try_get_matches_from(words.split(' ')).expect("a command line");
        let line = CommandLine::of(&matches).expect("a command line");
        assert!(matches!(line.command, Some(Command::Config(_))));
        let overrides = line.options.overrides();
        assert_eq!(overrides.assignments, ["a.b=1", "c.d=2"]);
        let named: Vec<_> = overrides.named.iter().map(|(option, _, value)| (*option, value.as_str())).collect();
        assert_eq!(named, [("--listen", "y"), ("--endpoint", "e")]);
    }

    #[test]
    fn the_command_line_holds_together() {
        command().debug_assert();
        assert!(command().get_arguments().any(is_common));
    }
}
