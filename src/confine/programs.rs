//! Whether a credential runs programs.

use std::path::Path;

use crate::config::{CredentialSource, Environment};

/// Where `azure_identity` makes the shell go before it looks for a program.
const WORKING_DIRECTORY: &str = "/bin";
/// Where shells look if nothing says where.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whether `source` runs programs. A chain does only if one of its tools is there: in most containers, none is.
pub(super) fn runs_programs(source: &CredentialSource, is_installed: impl Fn(&str) -> bool) -> bool {
    match source {
        CredentialSource::Auto(links) => links.iter().filter_map(CredentialSource::tool).any(is_installed),
        source => source.tool().is_some(),
    }
}

/// Whether a shell would find the program.
pub(super) fn is_installed(program: &str, environment: &Environment) -> bool {
    let path = environment.get("PATH").unwrap_or(DEFAULT_PATH);
    path.split(':').any(|directory| Path::new(WORKING_DIRECTORY).join(directory).join(program).is_file())
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::config::{IdentityName, ManagedIdentity, Place};

    fn az() -> CredentialSource {
        CredentialSource::AzureCli { tenant_id: None, home: None }
    }

    fn azd() -> CredentialSource {
        CredentialSource::AzureDeveloperCli { tenant_id: None, home: None }
    }

    fn deployed() -> CredentialSource {
        CredentialSource::ManagedIdentity(ManagedIdentity {
            identity: IdentityName::SystemAssigned,
            place: Place::Imds,
        })
    }

    fn secret() -> CredentialSource {
        CredentialSource::ClientSecret {
            tenant_id: "t".to_owned(),
            client_id: "c".to_owned(),
            secret: SecretString::from("s".to_owned()),
        }
    }

    #[test]
    fn only_tools_that_may_be_run_count() {
        for (source, installed, runs) in [
            (az(), "", true),
            (azd(), "", true),
            (deployed(), "az", false),
            (secret(), "az", false),
            (CredentialSource::Auto(vec![secret(), deployed(), az(), azd()]), "", false),
            (CredentialSource::Auto(vec![secret(), deployed(), az(), azd()]), "az", true),
            (CredentialSource::Auto(vec![secret(), deployed(), az(), azd()]), "azd", true),
            // As AZURE_TOKEN_CREDENTIALS=prod leaves it.
            (CredentialSource::Auto(vec![secret(), deployed()]), "az", false),
        ] {
            assert_eq!(runs_programs(&source, |tool| tool == installed), runs, "{source:?} with {installed:?}");
        }
    }

    #[test]
    fn a_program_is_looked_for_as_a_shell_does() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("sub")).unwrap();
        std::fs::write(directory.path().join("az"), "").unwrap();
        let path = |path: String| Environment::from_iter([("PATH", path)]);
        let there = directory.path().display();
        assert!(is_installed("az", &path(format!("/nonexistent:{there}"))));
        assert!(!is_installed("azd", &path(format!("/nonexistent:{there}"))));
        assert!(!is_installed("sub", &path(there.to_string())), "a directory is no program");
        assert!(is_installed("sh", &Environment::default()));
        assert!(is_installed("sh", &path("/nonexistent:".to_owned())), "from where the shell is");
    }
}
