//! Values that are one of a few words.

use serde::Deserialize;
use tracing_subscriber::filter::{LevelFilter, Targets};

use super::keys::near_choice;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

impl TryFrom<String> for LogFormat {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        one_of(&text, &[("text", Self::Text), ("json", Self::Json)])
    }
}

/// `upstream.models`: what is answered to whoever asks for the list of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum ModelList {
    /// The resource's own answer, which is the region's catalogue.
    Upstream,
    /// The account's deployments: what can be called.
    Deployments,
}

impl TryFrom<String> for ModelList {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        one_of(&text, &[("upstream", Self::Upstream), ("deployments", Self::Deployments)])
    }
}

/// `credential.kind`, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) enum CredentialKind {
    Auto,
    ManagedIdentity,
    WorkloadIdentity,
    AzureCli,
    AzureDeveloperCli,
    ClientSecret,
    ClientCertificate,
}

impl TryFrom<String> for CredentialKind {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        one_of(
            &text,
            &[
                ("auto", Self::Auto),
                ("managed-identity", Self::ManagedIdentity),
                ("workload-identity", Self::WorkloadIdentity),
                ("client-secret", Self::ClientSecret),
                ("client-certificate", Self::ClientCertificate),
                ("azure-cli", Self::AzureCli),
                ("azure-developer-cli", Self::AzureDeveloperCli),
            ],
        )
    }
}

/// `azure.cloud`: which of Azure's separate clouds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) enum Cloud {
    Public,
    UsGovernment,
    China,
}

impl TryFrom<String> for Cloud {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        one_of(&text, &[("public", Self::Public), ("usgovernment", Self::UsGovernment), ("china", Self::China)])
    }
}

/// The choice that `text` names, or which names there are.
fn one_of<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let names = || choices.iter().map(|(name, _)| *name);
    let found = choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice);
    found.ok_or_else(|| {
        let meant = near_choice(text, names()).map(|near| format!("did you mean {near}? ")).unwrap_or_default();
        format!("{meant}expected one of {}", names().collect::<Vec<_>>().join(", "))
    })
}

/// `telemetry.log_level`, read: a level for the proxy's own lines, or directives by module.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct LogLevel(pub(super) Targets);

impl TryFrom<String> for LogLevel {
    type Error = String;

    /// A bare level is the proxy's own; libraries then only warn. Beside directives by module, it is for all that they leave.
    fn try_from(text: String) -> Result<Self, String> {
        let directives = match level(&text) {
            Ok(LevelFilter::OFF) => Targets::new().with_default(LevelFilter::OFF),
            Ok(level) => Targets::new()
                .with_default(LevelFilter::WARN.min(level))
                .with_target("aoai_auth_proxy", level)
                // It tells of everything that callers do wrong.
                .with_target("h2", LevelFilter::ERROR.min(level))
                // It tells of every certificate that it refuses; so do we, with the host and what to do.
                .with_target("rustls_platform_verifier", LevelFilter::OFF),
            Err(_) => text.split(',').try_fold(Targets::new(), |directives, part| {
                Ok::<_, String>(match part.split_once('=') {
                    Some((module, text)) => directives.with_target(full_name(module.trim())?, level(text)?),
                    // Not a module at its loudest: a misspelt level.
                    None => directives.with_default(level(part)?),
                })
            })?,
        };
        Ok(Self(directives))
    }
}

/// The proxy's own modules and the lines of requests, which directives may name without the crate before it.
const OURS: [&str; 24] = [
    "admin",
    "app",
    "apps",
    "cli",
    "clock",
    "config",
    "confine",
    "emulator",
    "error",
    "explain",
    "forward",
    "guard",
    "identity",
    "inspect",
    "ledger",
    "lifecycle",
    "management",
    "request",
    "server",
    "status",
    "systemd",
    "telemetry",
    "tls",
    "workers",
];

fn level(text: &str) -> Result<LevelFilter, String> {
    let text = text.trim();
    // The library takes no word at all for an error, and numbers for levels.
    let is_word = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    let level = text.parse().ok().filter(|_| is_word);
    level.ok_or_else(|| {
        "expected error, warn, info, debug, trace or off, or directives like info,identity=debug".to_owned()
    })
}

fn full_name(module: &str) -> Result<String, String> {
    let is_name =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !module.split("::").all(is_name) {
        return Err(format!("`{module}` is no module's name; expected directives like info,identity=debug"));
    }
    let is_ours = module.split("::").next().is_some_and(|first| OURS.contains(&first));
    Ok(if is_ours { format!("aoai_auth_proxy::{module}") } else { module.to_owned() })
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_bare_level_is_the_proxys_own() {
        let enabled = |text: &str, target: &str, level: LevelFilter| {
            let targets = LogLevel::try_from(text.to_owned()).expect("a level").0;
            targets.would_enable(target, &level.into_level().expect("a level"))
        };
        assert!(enabled("debug", "aoai_auth_proxy::identity", LevelFilter::DEBUG));
        assert!(enabled("debug", "hyper", LevelFilter::WARN) && !enabled("debug", "hyper", LevelFilter::INFO));
        assert!(enabled("error", "hyper", LevelFilter::ERROR) && !enabled("error", "hyper", LevelFilter::WARN));
        assert!(!enabled("off", "aoai_auth_proxy", LevelFilter::ERROR));
        for bare in ["error", "info", "trace"] {
            assert!(!enabled(bare, "rustls_platform_verifier::verification::others", LevelFilter::ERROR), "{bare}");
        }
        assert!(enabled("info,rustls_platform_verifier=debug", "rustls_platform_verifier", LevelFilter::DEBUG));
    }

    #[test]
    fn our_modules_are_known_by_their_names_alone() {
        let targets =
            LogLevel::try_from(" Info, identity = DEBUG,forward::pool=trace,request=off,hyper=debug".to_owned())
                .expect("directives")
                .0;
        for (target, level, is_enabled) in [
            ("aoai_auth_proxy::identity::chain", Level::DEBUG, true),
            ("aoai_auth_proxy::forward::pool", Level::TRACE, true),
            ("aoai_auth_proxy::forward", Level::DEBUG, false),
            ("aoai_auth_proxy::request", Level::ERROR, false),
            ("aoai_auth_proxy::server", Level::INFO, true),
            ("aoai_auth_proxy::server", Level::DEBUG, false),
            ("identity", Level::DEBUG, false),
            ("hyper::client", Level::DEBUG, true),
            ("h2", Level::INFO, true),
        ] {
            assert_eq!(targets.would_enable(target, &level), is_enabled, "{target} {level}");
        }
    }

    #[test]
    fn our_modules_are_all_there_are() {
        let map = include_str!("../lib.rs").lines();
        let modules = map.filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
        let mut known: Vec<_> = modules.chain(["request"]).collect();
        known.sort_unstable();
        assert_eq!(known, OURS);
    }

    #[test]
    fn what_is_no_level_is_said_to_be_none() {
        for text in ["loud", "", "3", "info,", "info,loud", "identity", "identity=", "identity=loud", "identity=3"] {
            let error = LogLevel::try_from(text.to_owned()).unwrap_err();
            assert!(error.contains("info,identity=debug"), "{text}: {error}");
        }
        for text in ["=debug", "info,my module=debug", "hyper[span]=debug"] {
            assert!(LogLevel::try_from(text.to_owned()).unwrap_err().contains("no module"), "{text}");
        }
    }
}
