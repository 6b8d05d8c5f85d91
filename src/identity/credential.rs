//! Azure's credentials: the only file that names `azure_identity`.
//!
//! A credential is built anew for each fetch. `azure_identity` caches a token until five minutes before its end and has no
//! way to be told otherwise; a new credential has nothing cached, reads its token file again, and costs next to nothing
//! because the HTTP clients are shared.

use std::ffi::OsStr;
use std::io;
use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use azure_core::credentials::{Secret, TokenCredential};
use azure_core::http::{ClientOptions, Transport};
use azure_identity::{
    AzureCliCredential, AzureCliCredentialOptions, AzureDeveloperCliCredential, AzureDeveloperCliCredentialOptions,
    ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions, Executor,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};
use rustls::ClientConfig;
use secrecy::ExposeSecret;
use url::Url;

use super::chain::{Chain, Link};
use super::executor;
use super::transport::Transports;
use super::{AccessToken, CredentialError, TokenSource};
use crate::config::{Config, CredentialSource, IdentityName, ManagedIdentity, Scope};

/// How long a service on the network may take to give a token.
const NETWORK_DEADLINE: Duration = Duration::from_secs(10);
/// How long a command-line tool may take: `az` starts a Python interpreter, and its own requests follow.
const TOOL_DEADLINE: Duration = Duration::from_secs(30);

/// The source that the configuration asks for.
///
/// # Errors
///
/// If no HTTP client can be built for token requests.
pub fn source(config: &Config, tls: ClientConfig) -> Result<Arc<dyn TokenSource>, reqwest::Error> {
    let transports = Transports::new(config, tls)?;
    let single = |source: &CredentialSource| AzureCredential {
        source: source.clone(),
        authority_host: config.credential.authority_host.clone(),
        transports: transports.clone(),
    };
    Ok(match &config.credential.source {
        CredentialSource::Auto(links) => {
            let link = |source: &CredentialSource| Link {
                name: name(source),
                probe: is_imds(source).then(|| config.credential.imds_endpoint.clone()),
                source: Arc::new(single(source)),
            };
            Arc::new(Chain::new(links.iter().map(link).collect()))
        }
        source => Arc::new(single(source)),
    })
}

/// Whether a source asks the metadata service, which most machines do not have.
fn is_imds(source: &CredentialSource) -> bool {
    matches!(source, CredentialSource::ManagedIdentity(ManagedIdentity { app_service: false, .. }))
}

/// A credential's name as the configuration spells it.
#[must_use]
pub fn name(source: &CredentialSource) -> &'static str {
    match source {
        CredentialSource::Auto(_) => "auto",
        CredentialSource::ManagedIdentity(ManagedIdentity { app_service: true, .. }) => {
            "managed-identity (App Service)"
        }
        CredentialSource::ManagedIdentity(ManagedIdentity { app_service: false, .. }) => "managed-identity",
        CredentialSource::WorkloadIdentity { .. } => "workload-identity",
        CredentialSource::ClientSecret { .. } => "client-secret",
        CredentialSource::AzureCli { .. } => "azure-cli",
        CredentialSource::AzureDeveloperCli { .. } => "azure-developer-cli",
    }
}

/// How `az` and `azd` are run.
#[derive(Debug)]
struct KillOnDrop;

#[async_trait]
impl Executor for KillOnDrop {
    async fn run(&self, program: &OsStr, arguments: &[&OsStr]) -> io::Result<Output> {
        executor::run(program, arguments).await
    }
}

/// One of Azure's credentials, remade for every fetch.
#[derive(Debug)]
struct AzureCredential {
    source: CredentialSource,
    authority_host: Url,
    transports: Transports,
}

#[async_trait]
impl TokenSource for AzureCredential {
    async fn fetch(&self, scope: &Scope) -> Result<AccessToken, CredentialError> {
        let reason = |error: azure_core::Error| reason(name(&self.source), &error);
        let credential = self.build().map_err(reason)?;
        let token = credential.get_token(&[scope.as_str()], None).await.map_err(reason)?;
        Ok(AccessToken {
            secret: token.token.secret().to_owned().into(),
            expires_at: SystemTime::from(token.expires_on),
        })
    }

    fn deadline(&self) -> Duration {
        match self.source {
            CredentialSource::AzureCli { .. } | CredentialSource::AzureDeveloperCli { .. } => TOOL_DEADLINE,
            CredentialSource::Auto(_)
            | CredentialSource::ManagedIdentity(_)
            | CredentialSource::WorkloadIdentity { .. }
            | CredentialSource::ClientSecret { .. } => NETWORK_DEADLINE,
        }
    }
}

impl AzureCredential {
    fn build(&self) -> azure_core::Result<Arc<dyn TokenCredential>> {
        Ok(match &self.source {
            CredentialSource::ManagedIdentity(managed) => {
                let client = if managed.app_service { &self.transports.app_service } else { &self.transports.imds };
                let transport = Some(Transport::new(client.clone()));
                ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
                    user_assigned_id: user_assigned(&managed.identity),
                    client_options: ClientOptions { transport, ..ClientOptions::default() },
                }))?
            }
            CredentialSource::WorkloadIdentity { tenant_id, client_id, token_file } => {
                WorkloadIdentityCredential::new(Some(WorkloadIdentityCredentialOptions {
                    credential_options: ClientAssertionCredentialOptions { client_options: self.entra() },
                    client_id: Some(client_id.clone()),
                    tenant_id: Some(tenant_id.clone()),
                    token_file_path: Some(token_file.clone()),
                }))?
            }
            CredentialSource::ClientSecret { tenant_id, client_id, secret } => ClientSecretCredential::new(
                tenant_id,
                client_id.clone(),
                Secret::from(secret.expose_secret().to_owned()),
                Some(ClientSecretCredentialOptions { client_options: self.entra() }),
            )?,
            CredentialSource::AzureCli { tenant_id } => AzureCliCredential::new(Some(AzureCliCredentialOptions {
                tenant_id: tenant_id.clone(),
                executor: Some(Arc::new(KillOnDrop)),
                ..AzureCliCredentialOptions::default()
            }))?,
            CredentialSource::AzureDeveloperCli { tenant_id } => {
                AzureDeveloperCliCredential::new(Some(AzureDeveloperCliCredentialOptions {
                    tenant_id: tenant_id.clone(),
                    executor: Some(Arc::new(KillOnDrop)),
                }))?
            }
            CredentialSource::Auto(_) => {
                let message = "auto is a chain of credentials, not one";
                return Err(azure_core::Error::with_message(azure_core::error::ErrorKind::Credential, message));
            }
        })
    }

    fn entra(&self) -> ClientOptions {
        let mut cloud = CustomConfiguration::default();
        self.authority_host.as_str().trim_end_matches('/').clone_into(&mut cloud.authority_host);
        ClientOptions {
            transport: Some(Transport::new(self.transports.entra.clone())),
            cloud: Some(Arc::new(CloudConfiguration::Custom(cloud))),
            ..ClientOptions::default()
        }
    }
}

fn user_assigned(identity: &IdentityName) -> Option<UserAssignedId> {
    match identity {
        IdentityName::SystemAssigned => None,
        IdentityName::ClientId(id) => Some(UserAssignedId::ClientId(id.clone())),
        IdentityName::ObjectId(id) => Some(UserAssignedId::ObjectId(id.clone())),
        IdentityName::ResourceId(id) => Some(UserAssignedId::ResourceId(id.clone())),
    }
}

/// The transport's own error if it is among the causes, else the credential's words without the advertisement behind them.
fn reason(credential: &str, error: &azure_core::Error) -> CredentialError {
    let causes = std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| error.source());
    for cause in causes {
        if let Some(ours) = cause.downcast_ref::<CredentialError>() {
            return ours.clone();
        }
    }
    let text = error.to_string();
    let text = text.split("\nTo troubleshoot").next().unwrap_or_default();
    let text = text.split_once(" authentication failed. ").map_or(text, |(_, words)| words);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    CredentialError::Credential(format!("{credential}: {line}"))
}
