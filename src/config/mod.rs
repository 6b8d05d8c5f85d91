//! The configuration: layers of text on one side, a [`Config`] that cannot be wrong on the other.
//!
//! Layers, each stronger than the one before: the embedded defaults (`config/default.toml`), a file, the variables that
//! Azure's own tools and OpenTelemetry read, variables of ours (`AOAI_PROXY__SECTION__KEY`), the command line.

mod access;
mod admin;
mod apps;
mod build;
mod choices;
mod credential;
mod effective;
mod endpoint;
mod environment;
mod error;
pub mod keys;
mod layers;
mod lists;
mod names;
mod otlp;
mod prices;
mod proxies;
mod settings;
mod usage;

use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use secrecy::SecretString;
use tracing_subscriber::filter::Targets;
use url::Url;

pub use access::{Access, HostName, Listen, Origin, PeerUsers};
pub use admin::Admin;
pub use apps::{App, AppName, KEY_OF_A_RUN, KeyDigest, UnknownApp};
pub use choices::{LogFormat, ModelList};
pub use effective::Effective;
pub use endpoint::Endpoint;
pub use environment::Environment;
pub(crate) use error::obeyed;
pub use error::{ConfigError, Shown};
pub use names::{ResourceName, Scope, Segment};
pub use otlp::{Otlp, Sampling};
pub use prices::{Cost, Currency, Price, Prices, Rate};
pub use proxies::{Proxies, ProxyRules};
pub use usage::{Books, Ledger};

use build::build;
use layers::Layers;
pub(crate) use layers::PREFIX as OUR_VARIABLES;

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// What a subcommand has in place of the defaults: weaker than anything that somebody says. The key, its value.
    pub defaults: Vec<(&'static str, &'static str)>,
    /// `--config FILE`.
    pub file: Option<PathBuf>,
    /// Options with a name of their own: the option, the key it sets, the value.
    pub named: Vec<(&'static str, &'static str, String)>,
    /// `--set section.key=value`, as written.
    pub assignments: Vec<String>,
}

/// Everything the proxy was told, in types that cannot hold nonsense.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where callers connect.
    pub listen: Listen,
    /// The resource and the way there.
    pub upstream: Upstream,
    /// Who we are.
    pub credential: Credential,
    /// The management plane.
    pub management: Management,
    /// Who may call.
    pub access: Access,
    /// Where probes are answered besides, if anywhere.
    pub admin: Option<Admin>,
    /// Apps that share the identity, in the order of their names.
    pub apps: Vec<App>,
    /// What callers may cost.
    pub limits: Limits,
    /// Where it is written down what responses cost, if it is.
    pub ledger: Option<Ledger>,
    /// What is said about all that.
    pub telemetry: Telemetry,
    /// `HTTPS_PROXY` and its kin.
    pub proxies: Proxies,
}

/// The resource and the way there.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// `upstream.endpoint`, `AZURE_OPENAI_ENDPOINT`.
    pub endpoint: Endpoint,
    /// `upstream.scope`, else by cloud and kind of endpoint.
    pub scope: Scope,
    /// `upstream.models`: what is answered to whoever asks for the list of models.
    pub models: ModelList,
    /// `upstream.ca_file`, read: authorities trusted besides the system's.
    pub authorities: Vec<CertificateDer<'static>>,
    /// `upstream.connect_timeout`: DNS, TCP and TLS together.
    pub connect_timeout: Duration,
    /// `upstream.response_timeout`: from the last byte of the request to the head of the response.
    pub response_timeout: Duration,
    /// `upstream.idle_timeout`: the longest silence inside a response's content.
    pub idle_timeout: Duration,
    /// `upstream.explain_errors`: whether refusals that the proxy can explain get a hint.
    pub explain_errors: bool,
}

/// Who we are: which credential, and what it needs.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The kind, with what only that kind needs.
    pub source: CredentialSource,
    /// Where Entra is: `credential.authority_host`, `AZURE_AUTHORITY_HOST`, else by cloud.
    pub authority_host: Url,
    /// Where the metadata service is: `credential.imds_endpoint`, `AZURE_POD_IDENTITY_AUTHORITY_HOST`.
    pub imds_endpoint: Url,
}

/// A credential's kind, with what that kind needs.
#[derive(Debug, Clone)]
pub enum CredentialSource {
    /// The first of these that gives a token, in this order.
    Auto(Vec<Self>),
    /// The identity of the place where the proxy runs.
    ManagedIdentity(ManagedIdentity),
    /// A token file that a platform (AKS) keeps fresh.
    WorkloadIdentity {
        /// Directory.
        tenant_id: String,
        /// Application or user-assigned identity.
        client_id: String,
        /// The file.
        token_file: PathBuf,
    },
    /// An application's secret.
    ClientSecret {
        /// Directory.
        tenant_id: String,
        /// Application.
        client_id: String,
        /// Its secret.
        secret: SecretString,
    },
    /// An application's certificate.
    ClientCertificate {
        /// Directory.
        tenant_id: String,
        /// Application.
        client_id: String,
        /// PKCS#12 or PEM, with the private key.
        path: PathBuf,
        /// What opens the file.
        password: Option<SecretString>,
        /// Whether the certificate itself goes along, for applications that trust its subject and issuer.
        send_chain: bool,
    },
    /// Whoever is signed in with `az`.
    AzureCli {
        /// Directory, if not the signed-in one.
        tenant_id: Option<String>,
        /// Where `az` keeps who is signed in.
        home: Option<PathBuf>,
    },
    /// Whoever is signed in with `azd`.
    AzureDeveloperCli {
        /// Directory, if not the signed-in one.
        tenant_id: Option<String>,
        /// Where `azd` keeps who is signed in.
        home: Option<PathBuf>,
    },
}

impl CredentialSource {
    /// The program that it runs; for a chain, none of its own.
    #[must_use]
    pub fn tool(&self) -> Option<&'static str> {
        match self {
            Self::AzureCli { .. } => Some("az"),
            Self::AzureDeveloperCli { .. } => Some("azd"),
            Self::Auto(_)
            | Self::ManagedIdentity(_)
            | Self::WorkloadIdentity { .. }
            | Self::ClientSecret { .. }
            | Self::ClientCertificate { .. } => None,
        }
    }
}

/// Which managed identity is meant, and which service speaks for it.
#[derive(Debug, Clone)]
pub struct ManagedIdentity {
    /// Which of the identities assigned to this place.
    pub identity: IdentityName,
    /// Which kind of place this is.
    pub place: Place,
}

/// Kinds of places that have managed identities, told apart by what they put into the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A virtual machine, or nothing that says what it is: the metadata service is asked.
    Imds,
    /// App Service, Functions or Container Apps: `IDENTITY_ENDPOINT` and `IDENTITY_HEADER` are set.
    AppService,
    /// A place whose way to tokens the identity library does not know; its name.
    Unsupported(&'static str),
}

/// A managed identity's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityName {
    /// The one that the place has by itself.
    SystemAssigned,
    /// By client id.
    ClientId(String),
    /// By object (principal) id.
    ObjectId(String),
    /// By Azure resource id.
    ResourceId(String),
}

/// The management plane.
#[derive(Debug, Clone)]
pub struct Management {
    /// `management.endpoint`, else by cloud.
    pub endpoint: Url,
    /// What the management plane's token is asked for.
    pub scope: Scope,
    /// `management.subscription_id`, `AZURE_SUBSCRIPTION_ID`.
    pub subscription_id: Option<Segment>,
    /// `management.location`.
    pub location: Option<Segment>,
    /// `management.resource_group` and `management.account`, else found by the endpoint.
    pub account: Option<AccountName>,
    /// `management.api_version`.
    pub api_version: Segment,
}

/// Which account of a subscription is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountName {
    /// The group that it is in.
    pub resource_group: ResourceName,
    /// Its own name.
    pub account: ResourceName,
}

/// What callers may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// `limits.max_connections`: further connections wait in the listen queue.
    pub max_connections: usize,
    /// `limits.max_in_flight`: further requests are turned away.
    pub max_in_flight: usize,
    /// `limits.max_body`: the most bytes that a request's content may have.
    pub max_body: u64,
    /// `limits.header_timeout`: how long a request's head may take.
    pub header_timeout: Duration,
    /// `limits.shutdown_grace`: how long running requests may go on after the signal to stop.
    pub shutdown_grace: Duration,
}

/// What is said, and how.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// `telemetry.log_format`.
    pub log_format: LogFormat,
    /// `telemetry.log_level`: which modules say how much.
    pub log_level: Targets,
    /// `telemetry.otlp_endpoint` and what belongs to it: where traces and metrics go.
    pub otlp: Option<Otlp>,
    /// Variables of OpenTelemetry that mean nothing here, and what is made of that: for people.
    pub ignored: Vec<String>,
}

impl Config {
    /// Reads all layers.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with its key, value and layer.
    pub fn load(environment: &Environment, overrides: &Overrides) -> Result<Self, ConfigError> {
        let layers = Layers::read(environment, overrides)?;
        build(&layers, environment)
    }

    /// The defaults with `overrides` on them: no file, no variable, nothing of the machine.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn isolated(overrides: &Overrides) -> Result<Self, ConfigError> {
        let mut layers = Layers::defaults();
        layers.push_overrides(overrides)?;
        build(&layers, &Environment::default())
    }
}
