//! What a command finds in its environment: who serves it and with which key, and none of our secrets.
//!
//! Which variables the tools read was looked up in their sources:
//!
//! - `OPENAI_BASE_URL`, `OPENAI_API_KEY`: the `openai` packages of Python and npm, and what stands on them (`llm`, `LangChain`,
//!   Vercel AI SDK, Codex CLI, …).
//! - `OPENAI_API_BASE`: aider, `LlamaIndex` and whatever is older. Without it `LlamaIndex` would send to api.openai.com what is meant
//!   for this proxy. Its price: `AzureOpenAIEmbeddings` of `LangChain`, given a deployment, refuses to start while it is set.
//! - `AZURE_OPENAI_ENDPOINT`, `AZURE_OPENAI_API_KEY`: the packages' clients for Azure. Python's takes the first before
//!   `OPENAI_BASE_URL`; npm's does not unless it is told `baseURL: null`.
//! - `AZURE_API_BASE`, `AZURE_API_KEY`: `LiteLLM` and aider, for models called `azure/NAME`.
//!
//! - `OPENAI_API_TYPE`, unless it is set: Python's package, called without a client (its command line, up to 2.20, does), refuses to
//!   choose between the two keys; `openai` says which.
//!
//! `OPENAI_API_VERSION` is not set: only a program that needs one knows which. Taken away are Entra tokens that tools would send
//! instead of the key.

use std::net::SocketAddr;
use std::process::Command;

use secrecy::{ExposeSecret, SecretString};

use crate::config::{CredentialSource, Environment, OUR_VARIABLES};

/// Where clients are told to send, and the base of the OpenAI API there.
const ROOTS: [&str; 2] = ["AZURE_OPENAI_ENDPOINT", "AZURE_API_BASE"];
const BASES: [&str; 2] = ["OPENAI_BASE_URL", "OPENAI_API_BASE"];
const TYPE: &str = "OPENAI_API_TYPE";
const KEYS: [&str; 3] = ["OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "AZURE_API_KEY"];
/// What tools would send instead of a key.
const TOKENS: [&str; 2] = ["AZURE_OPENAI_AD_TOKEN", "AZURE_AD_TOKEN"];
/// What an application signs in with.
const SECRETS: [&str; 2] = ["AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PASSWORD"];
/// What makes tools go through a forward proxy, which would look for us on its own machine.
const PROXIES: [&str; 6] = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
/// Both are read, and by few tools both.
const EXEMPT: [&str; 2] = ["no_proxy", "NO_PROXY"];
const THIS_MACHINE: &str = "127.0.0.1,localhost,::1";

/// Variables that are set, and variables that are taken away. No `Debug`: a key is among them.
pub(super) struct Variables {
    set: Vec<(&'static str, SecretString)>,
    removed: Vec<String>,
}

impl Variables {
    pub(super) fn new(
        environment: &Environment,
        credential: &CredentialSource,
        address: SocketAddr,
        key: &SecretString,
        keep_secrets: bool,
    ) -> Self {
        let root = format!("http://{address}");
        let base = SecretString::from(format!("{root}/v1"));
        let root = SecretString::from(root);
        let all = |names: &[&'static str], value: &SecretString| -> Vec<_> {
            names.iter().map(|name| (*name, value.clone())).collect()
        };
        let ours = environment.starting_with(OUR_VARIABLES).map(|(name, _)| name);
        let secrets = SECRETS.into_iter().filter(|_| !keep_secrets && signs_in(credential));
        let kind = environment.get(TYPE).is_none().then(|| (TYPE, SecretString::from("openai".to_owned())));
        let kind: Vec<_> = kind.into_iter().collect();
        Self {
            set: [all(&BASES, &base), all(&ROOTS, &root), all(&KEYS, key), kind, exempt(environment)].concat(),
            removed: ours.chain(TOKENS).chain(secrets).map(str::to_owned).collect(),
        }
    }

    pub(super) fn apply(&self, command: &mut Command) {
        for name in &self.removed {
            command.env_remove(name);
        }
        command.envs(self.set.iter().map(|(name, value)| (name, value.expose_secret())));
    }
}

/// Whether the proxy is, or may be, an application that signs in with a secret or a certificate.
fn signs_in(credential: &CredentialSource) -> bool {
    match credential {
        CredentialSource::Auto(links) => links.iter().any(signs_in),
        CredentialSource::ClientSecret { .. } | CredentialSource::ClientCertificate { .. } => true,
        CredentialSource::ManagedIdentity(_)
        | CredentialSource::WorkloadIdentity { .. }
        | CredentialSource::AzureCli { .. }
        | CredentialSource::AzureDeveloperCli { .. } => false,
    }
}

/// Both names, with this machine in the list. Nothing where no forward proxy is named: the mere presence of a list makes some
/// libraries pass over the system's own settings.
fn exempt(environment: &Environment) -> Vec<(&'static str, SecretString)> {
    if !PROXIES.iter().any(|name| environment.get(name).is_some()) {
        return Vec::new();
    }
    let other = EXEMPT.iter().find_map(|name| environment.get(name));
    let list = |name| match environment.get(name).or(other) {
        Some(list) if list.split(',').any(|host| host.trim() == "*") => list.to_owned(),
        Some(list) => format!("{list},{THIS_MACHINE}"),
        None => THIS_MACHINE.to_owned(),
    };
    EXEMPT.into_iter().map(|name| (name, SecretString::from(list(name)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exempted(variables: &[(&str, &str)]) -> Vec<(&'static str, String)> {
        let environment: Environment = variables.iter().copied().collect();
        exempt(&environment).into_iter().map(|(name, value)| (name, value.expose_secret().to_owned())).collect()
    }

    #[test]
    fn this_machine_is_reached_directly() {
        let both = |lower: &str, upper: &str| vec![("no_proxy", lower.to_owned()), ("NO_PROXY", upper.to_owned())];
        let proxy = ("HTTPS_PROXY", "http://proxy:3128");
        assert_eq!(exempted(&[]), []);
        assert_eq!(exempted(&[("NO_PROXY", "a")]), [], "there is no proxy to be exempt from");
        assert_eq!(exempted(&[proxy]), both(THIS_MACHINE, THIS_MACHINE));
        let listed = |list: &str| format!("{list},{THIS_MACHINE}");
        assert_eq!(exempted(&[proxy, ("NO_PROXY", ".a,b")]), both(&listed(".a,b"), &listed(".a,b")));
        assert_eq!(exempted(&[proxy, ("NO_PROXY", "A"), ("no_proxy", "a")]), both(&listed("a"), &listed("A")));
        assert_eq!(exempted(&[proxy, ("no_proxy", "*")]), both("*", "*"));
    }
}
