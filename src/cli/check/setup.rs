//! The first step: the configuration, and what is made of it before anything is sent.

use rustls::ClientConfig;
use serde_json::json;

use super::Failure;
use super::report::{Finding, Mend};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, ConfigError, Environment, Overrides};
use crate::error::Causes;
use crate::explain::{self, Facts, Words};
use crate::forward::connect::Connector;
use crate::identity::claims::Claims;
use crate::identity::credential::{self, Credentials};
use crate::tls::{self, Recorded};

/// What the steps need.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) config: Config,
    pub(super) connector: Connector,
    pub(super) credentials: Credentials,
    pub(super) clock: SystemClock,
    /// For the resource; it uses the same authorities, forward proxies and deadlines as the proxy does.
    pub(super) client: reqwest::Client,
    pub(super) tls: ClientConfig,
    pub(super) shown: Recorded,
}

impl Setup {
    /// All that the proxy reads before it serves, except sockets.
    pub(super) fn new(environment: &Environment, overrides: &Overrides) -> Result<Self, Failure> {
        let config = Config::load(environment, overrides)?;
        let (tls, shown) = tls::recorded(&config.upstream.authorities)?;
        let credentials = Credentials::new(&config, tls.clone(), std::sync::Arc::new(SystemClock))?;
        let connector = Connector::new(&config.upstream, config.proxies.rules(), tls.clone())
            .map_err(crate::app::BuildError::Endpoint)?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(config.upstream.connect_timeout);
        let client = config.proxies.apply(client).and_then(reqwest::ClientBuilder::build);
        let client = client.map_err(crate::app::BuildError::Client)?;
        Ok(Self { config, connector, credentials, clock: SystemClock, client, tls, shown })
    }

    pub(super) fn now(&self) -> std::time::SystemTime {
        self.clock.now()
    }

    /// What a refusal can be explained with.
    pub(super) fn facts<'a>(&'a self, claims: Option<&'a Claims>, words: &'a Words) -> Facts<'a> {
        let upstream = &self.config.upstream;
        Facts { claims, endpoint: &upstream.endpoint, scope: &upstream.scope, deployment: None, words }
    }

    pub(super) fn finding(&self) -> Finding {
        let endpoint = &self.config.upstream.endpoint;
        let kind = credential::name(&self.config.credential.source);
        let detail = json!({
            "endpoint": endpoint.to_string(),
            "credential": kind,
            "scope": self.config.upstream.scope.as_str(),
            "forward_proxy": self.connector.forward_proxy().map(|proxy| proxy.to_string()),
            "subscription_id": self.config.management.subscription_id.as_ref().map(ToString::to_string),
        });
        if explain::is_regional(endpoint) {
            let words = Words::default();
            let hint = explain::hint(explain::Cause::CustomSubdomain, &self.facts(None, &words));
            let message = format!("{endpoint} is shared by a region's resources: no token is taken there");
            return Finding::warning(message).detail(detail).mend(hinted(&hint));
        }
        Finding::ok(format!("{endpoint}, credential {kind}")).detail(detail)
    }
}

/// A hint, apart from its command.
pub(super) fn hinted(hint: &str) -> Mend {
    let (words, command) = explain::command(hint);
    let pasted = |command: &str| {
        let export = if command.starts_with("AOAI_PROXY__") { "export " } else { "" };
        format!("{export}{command}")
    };
    Mend::new(words, command.map(pasted))
}

/// What is wrong with the configuration.
pub(super) fn misfit(failure: &Failure) -> Finding {
    let mend = match failure {
        Failure::Config(ConfigError::Missing { key: "upstream.endpoint", .. }) => Mend::new(
            "say which resource is meant",
            ["export AZURE_OPENAI_ENDPOINT=https://NAME.openai.azure.com".to_owned()],
        ),
        Failure::Config(ConfigError::Missing { key, .. }) => {
            let variable = format!("AOAI_PROXY__{}", key.to_ascii_uppercase().replace('.', "__"));
            Mend::new(format!("set {key}"), [format!("export {variable}=VALUE")])
        }
        Failure::Config(ConfigError::Unreadable { path, .. }) => {
            Mend::new("name another file, or let this one be read", [format!("ls -l '{}'", path.display())])
        }
        Failure::Config(_) => Mend::new("change it where the message says that it comes from", None),
        Failure::Tls(_) => Mend::new(
            "install the system's certificate authorities (on Debian and Ubuntu as follows), or name a file with some in \
             SSL_CERT_FILE",
            ["sudo apt-get install ca-certificates".to_owned()],
        ),
        _ => Mend::new("change the setting that the message names", None),
    };
    Finding::failed(Causes(failure).to_string(), mend)
}
