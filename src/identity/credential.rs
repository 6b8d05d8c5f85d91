//! Which credential the configuration asks for, and what makes token sources of it.

use std::sync::Arc;

use rustls::ClientConfig;

use super::TokenSource;
use super::azure::AzureCredential;
use super::certificate::ClientCertificate;
use super::chain::{Chain, Link, Presence, Probe};
use super::transport::Transports;
use crate::clock::SharedClock;
use crate::config::{Config, Credential, CredentialSource, ManagedIdentity, Place};

/// What makes token sources, one for each scope, over shared HTTP clients.
#[derive(Debug)]
pub struct Credentials {
    settings: Credential,
    transports: Transports,
    clock: SharedClock,
}

impl Credentials {
    /// Reads what can be read before the first token is asked for.
    ///
    /// # Errors
    ///
    /// If no HTTP client can be built for token requests, or the certificate cannot be used.
    pub fn new(config: &Config, tls: ClientConfig, clock: SharedClock) -> Result<Self, CredentialsError> {
        let transports = Transports::new(config, tls)?;
        let configured = &config.credential.source;
        let sources =
            if let CredentialSource::Auto(links) = configured { links } else { std::slice::from_ref(configured) };
        for source in sources {
            if let CredentialSource::ClientCertificate { path, password, .. } = source {
                ClientCertificate::read(path, password.as_ref())
                    .map_err(|error| CredentialsError::Certificate(error.to_string()))?;
            }
        }
        Ok(Self { settings: config.credential.clone(), transports, clock })
    }

    /// A source of tokens for one scope. Scopes share none: what one waits for, or has chosen, does not touch another.
    #[must_use]
    pub fn source(&self) -> Arc<dyn TokenSource> {
        match &self.settings.source {
            CredentialSource::Auto(sources) => Arc::new(Chain::new(self.links(sources))),
            source => self.single(source),
        }
    }

    /// Everything that a token could come from, in the order in which it is asked.
    pub(super) fn all(&self) -> Vec<Link> {
        match &self.settings.source {
            CredentialSource::Auto(sources) => self.links(sources),
            source => vec![Link { source: self.single(source), presence: Presence::Given }],
        }
    }

    pub(super) fn clock(&self) -> &SharedClock {
        &self.clock
    }

    fn links(&self, sources: &[CredentialSource]) -> Vec<Link> {
        let link = |source| Link { source: self.single(source), presence: self.presence(source) };
        sources.iter().map(link).collect()
    }

    fn single(&self, source: &CredentialSource) -> Arc<dyn TokenSource> {
        Arc::new(AzureCredential {
            source: source.clone(),
            authority_host: self.settings.authority_host.clone(),
            transports: self.transports.clone(),
            clock: self.clock.clone(),
        })
    }

    fn presence(&self, source: &CredentialSource) -> Presence {
        match source {
            CredentialSource::ManagedIdentity(ManagedIdentity { place: Place::Imds, .. }) => {
                let client = self.transports.metadata.clone();
                Presence::Answers(Probe { client, service: self.settings.imds_endpoint.clone() })
            }
            CredentialSource::ManagedIdentity(_) => Presence::Platform,
            CredentialSource::AzureCli { .. } | CredentialSource::AzureDeveloperCli { .. } => Presence::Tool,
            CredentialSource::Auto(_)
            | CredentialSource::WorkloadIdentity { .. }
            | CredentialSource::ClientSecret { .. }
            | CredentialSource::ClientCertificate { .. } => Presence::Given,
        }
    }
}

/// No token source can be made.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// No client for token requests.
    #[error("cannot build the client for token requests")]
    Client(#[from] reqwest::Error),
    /// The certificate's file, and what is wrong with it.
    #[error("`credential.client_certificate_path`: {0}")]
    Certificate(String),
}

/// A credential's name as the configuration spells it.
#[must_use]
pub fn name(source: &CredentialSource) -> &'static str {
    match source {
        CredentialSource::Auto(_) => "auto",
        CredentialSource::ManagedIdentity(ManagedIdentity { place: Place::AppService, .. }) => {
            "managed-identity (App Service)"
        }
        CredentialSource::ManagedIdentity(_) => "managed-identity",
        CredentialSource::WorkloadIdentity { .. } => "workload-identity",
        CredentialSource::ClientSecret { .. } => "client-secret",
        CredentialSource::ClientCertificate { .. } => "client-certificate",
        CredentialSource::AzureCli { .. } => "azure-cli",
        CredentialSource::AzureDeveloperCli { .. } => "azure-developer-cli",
    }
}
