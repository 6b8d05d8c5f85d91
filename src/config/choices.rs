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

    /// A bare level is the proxy's own; libraries then only warn.
    fn try_from(text: String) -> Result<Self, String> {
        let expected =
            || "expected error, warn, info, debug, trace or off, or directives like info,hyper=debug".to_owned();
        let directives = match text.parse::<LevelFilter>() {
            Ok(LevelFilter::OFF) => Targets::new().with_default(LevelFilter::OFF),
            Ok(level) => Targets::new()
                .with_default(LevelFilter::WARN.min(level))
                .with_target("aoai_auth_proxy", level)
                // It tells of everything that callers do wrong.
                .with_target("h2", LevelFilter::ERROR.min(level))
                // It tells of every certificate that it refuses; so do we, with the host and what to do.
                .with_target("rustls_platform_verifier", LevelFilter::OFF),
            // The library takes a lone name for a module at its loudest; here it is a misspelt level.
            Err(_)
                if text.split(',').any(|part| !part.contains('=') && part.trim().parse::<LevelFilter>().is_err()) =>
            {
                return Err(expected());
            }
            Err(_) => text.parse().map_err(|_| expected())?,
        };
        Ok(Self(directives))
    }
}

#[cfg(test)]
mod tests {
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
}
