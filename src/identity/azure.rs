//! Azure's credentials: the only file that names `azure_identity`.
//!
//! A credential is built anew for each fetch. `azure_identity` caches a token until five minutes before its end and has no
//! way to be told otherwise; a new credential has nothing cached, reads its files again, and costs next to nothing because
//! the HTTP clients are shared.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use azure_core::credentials::{Secret, TokenCredential};
use azure_core::error::{Error, ErrorKind};
use azure_core::http::{ClientMethodOptions, ClientOptions, Transport};
use azure_identity::{
    AzureCliCredential, AzureCliCredentialOptions, AzureDeveloperCliCredential, AzureDeveloperCliCredentialOptions,
    ClientAssertion, ClientAssertionCredential, ClientAssertionCredentialOptions, ClientSecretCredential,
    ClientSecretCredentialOptions, Executor, ManagedIdentityCredential, ManagedIdentityCredentialOptions,
    UserAssignedId,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use url::Url;
use zeroize::Zeroizing;

use super::certificate::ClientCertificate;
use super::credential::name;
use super::executor;
use super::failure::{Cause, CredentialError};
use super::remedy::remedy;
use super::transport::{Transports, line};
use super::{AccessToken, TokenSource};
use crate::clock::SharedClock;
use crate::config::{CredentialSource, IdentityName, ManagedIdentity, Place, Scope};

/// How long a service on the network may take to give a token.
const NETWORK_PATIENCE: Duration = Duration::from_secs(10);
/// How long a command-line tool may take: `az` starts a Python interpreter, and its own requests follow.
const TOOL_PATIENCE: Duration = Duration::from_secs(20);

/// How `az` and `azd` are run.
#[derive(Debug)]
struct KillOnDrop;

#[async_trait]
impl Executor for KillOnDrop {
    async fn run(&self, program: &OsStr, arguments: &[&OsStr]) -> io::Result<Output> {
        executor::run(program, arguments).await
    }
}

/// A token file that the platform keeps fresh, read whenever it is needed.
#[derive(Debug)]
struct FederatedToken(PathBuf);

#[async_trait]
impl ClientAssertion for FederatedToken {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        let shown = self.0.display();
        let text = tokio::fs::read_to_string(&self.0).await.map(Zeroizing::new);
        let text = text.map_err(|error| unusable(format!("cannot read the federated token {shown}: {error}")))?;
        // Whoever writes such a file by hand ends it with a line break, which is no part of the token.
        match text.trim() {
            "" => Err(unusable(format!("the federated token {shown} is empty"))),
            token => Ok(token.to_owned()),
        }
    }
}

/// A certificate in a file, read whenever it is needed: it may have been replaced.
#[derive(Debug, Clone)]
struct CertificateFile {
    path: PathBuf,
    password: Option<SecretString>,
    client_id: String,
    audience: String,
    send_chain: bool,
    clock: SharedClock,
}

#[async_trait]
impl ClientAssertion for CertificateFile {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        let file = self.clone();
        // Opening a file with a password is meant to take long.
        let assertion = spawn_blocking(move || file.assertion()).await;
        let assertion = assertion.unwrap_or_else(|error| Err(Cause::File(error.to_string())));
        Ok(assertion.map_err(|cause| Error::new(ErrorKind::Credential, cause))?.expose_secret().to_owned())
    }
}

impl CertificateFile {
    fn assertion(&self) -> Result<SecretString, Cause> {
        let now = self.clock.now();
        let certificate = ClientCertificate::read(&self.path, self.password.as_ref())
            .map_err(|error| Cause::File(error.to_string()))?;
        let end = certificate.expires_at();
        if end <= now {
            let end = humantime::format_rfc3339_seconds(end);
            let words = format!("{} holds a certificate that expired on {end}", self.path.display());
            return Err(Cause::ExpiredCertificate(words));
        }
        let assertion = certificate.assertion(&self.audience, &self.client_id, now, self.send_chain);
        assertion.map_err(|error| Cause::File(error.to_string()))
    }
}

fn unusable(words: String) -> Error {
    Error::new(ErrorKind::Credential, Cause::File(words))
}

/// One of Azure's credentials, remade for every fetch.
#[derive(Debug)]
pub(super) struct AzureCredential {
    pub(super) source: CredentialSource,
    pub(super) authority_host: Url,
    pub(super) transports: Transports,
    pub(super) clock: SharedClock,
}

#[async_trait]
impl TokenSource for AzureCredential {
    async fn fetch(&self, scope: &Scope) -> Result<AccessToken, CredentialError> {
        let failed = |cause| CredentialError {
            credential: name(&self.source),
            remedy: remedy(&self.source, scope, &cause),
            cause,
        };
        let credential = self.build().map_err(failed)?;
        let given = timeout(self.patience(), credential.get_token(&[scope.as_str()], None)).await;
        let given = given.map_err(|_| failed(Cause::Overdue(self.patience())))?;
        let token = given.map_err(|error| failed(self.cause(&error)))?;
        Ok(AccessToken {
            secret: token.token.secret().to_owned().into(),
            expires_at: SystemTime::from(token.expires_on),
        })
    }

    /// Later than what [`AzureCredential::patience`] allows, which comes with advice.
    fn deadline(&self) -> Duration {
        self.patience() + Duration::from_secs(1)
    }

    fn name(&self) -> &'static str {
        name(&self.source)
    }

    fn touched(&self) -> Option<SystemTime> {
        match &self.source {
            CredentialSource::AzureCli { home: Some(home), .. } => touched(AZ_FILES.iter().map(|file| home.join(file))),
            CredentialSource::AzureDeveloperCli { home: Some(home), .. } => {
                touched(AZD_FILES.iter().map(|file| home.join(file)))
            }
            CredentialSource::WorkloadIdentity { token_file: file, .. }
            | CredentialSource::ClientCertificate { path: file, .. } => touched([file.clone()]),
            CredentialSource::Auto(_)
            | CredentialSource::ManagedIdentity(_)
            | CredentialSource::ClientSecret { .. }
            | CredentialSource::AzureCli { home: None, .. }
            | CredentialSource::AzureDeveloperCli { home: None, .. } => None,
        }
    }
}

/// What `az login` and `az account set` write, and nothing else does: a token cache changes with every use.
const AZ_FILES: [&str; 1] = ["azureProfile.json"];
/// What `azd auth login` writes.
const AZD_FILES: [&str; 3] = ["config.json", "auth.json", "auth"];

fn touched(files: impl IntoIterator<Item = PathBuf>) -> Option<SystemTime> {
    files.into_iter().filter_map(|file| file.metadata().ok()?.modified().ok()).max()
}

impl AzureCredential {
    fn patience(&self) -> Duration {
        match self.source {
            CredentialSource::AzureCli { .. } | CredentialSource::AzureDeveloperCli { .. } => TOOL_PATIENCE,
            CredentialSource::Auto(_)
            | CredentialSource::ManagedIdentity(_)
            | CredentialSource::WorkloadIdentity { .. }
            | CredentialSource::ClientSecret { .. }
            | CredentialSource::ClientCertificate { .. } => NETWORK_PATIENCE,
        }
    }

    fn build(&self) -> Result<Arc<dyn TokenCredential>, Cause> {
        let built: azure_core::Result<Arc<dyn TokenCredential>> = match &self.source {
            CredentialSource::ManagedIdentity(managed) => return self.managed_identity(managed),
            CredentialSource::WorkloadIdentity { tenant_id, client_id, token_file } => {
                self.asserting(tenant_id, client_id, FederatedToken(token_file.clone()))
            }
            CredentialSource::ClientCertificate { tenant_id, client_id, path, password, send_chain } => {
                let certificate = CertificateFile {
                    path: path.clone(),
                    password: password.clone(),
                    client_id: client_id.clone(),
                    audience: format!("{}/{tenant_id}/oauth2/v2.0/token", self.authority()),
                    send_chain: *send_chain,
                    clock: self.clock.clone(),
                };
                self.asserting(tenant_id, client_id, certificate)
            }
            CredentialSource::ClientSecret { tenant_id, client_id, secret } => ClientSecretCredential::new(
                tenant_id,
                client_id.clone(),
                Secret::from(secret.expose_secret().to_owned()),
                Some(ClientSecretCredentialOptions { client_options: self.entra() }),
            )
            .map(|credential| credential as _),
            CredentialSource::AzureCli { tenant_id, .. } => AzureCliCredential::new(Some(AzureCliCredentialOptions {
                tenant_id: tenant_id.clone(),
                executor: Some(Arc::new(KillOnDrop)),
                ..AzureCliCredentialOptions::default()
            }))
            .map(|credential| credential as _),
            CredentialSource::AzureDeveloperCli { tenant_id, .. } => {
                AzureDeveloperCliCredential::new(Some(AzureDeveloperCliCredentialOptions {
                    tenant_id: tenant_id.clone(),
                    executor: Some(Arc::new(KillOnDrop)),
                }))
                .map(|credential| credential as _)
            }
            CredentialSource::Auto(_) => {
                return Err(Cause::Misfit("auto is a chain of credentials, not one".to_owned()));
            }
        };
        built.map_err(|error| Cause::Misfit(line(&error.to_string())))
    }

    fn managed_identity(&self, managed: &ManagedIdentity) -> Result<Arc<dyn TokenCredential>, Cause> {
        let client = match managed.place {
            Place::Imds => &self.transports.imds,
            Place::AppService => &self.transports.app_service,
            Place::Unsupported(place) => return Err(Cause::Unsupported(place)),
        };
        let transport = Some(Transport::new(client.clone()));
        let options = ManagedIdentityCredentialOptions {
            user_assigned_id: user_assigned(&managed.identity),
            client_options: ClientOptions { transport, ..ClientOptions::default() },
        };
        let built = ManagedIdentityCredential::new(Some(options));
        built.map(|credential| credential as _).map_err(|error| Cause::Misfit(line(&error.to_string())))
    }

    fn asserting(
        &self,
        tenant_id: &str,
        client_id: &str,
        assertion: impl ClientAssertion + 'static,
    ) -> azure_core::Result<Arc<dyn TokenCredential>> {
        let options = ClientAssertionCredentialOptions { client_options: self.entra() };
        let built =
            ClientAssertionCredential::new(tenant_id.to_owned(), client_id.to_owned(), assertion, Some(options))?;
        Ok(built)
    }

    fn authority(&self) -> &str {
        self.authority_host.as_str().trim_end_matches('/')
    }

    fn entra(&self) -> ClientOptions {
        let mut cloud = CustomConfiguration::default();
        self.authority().clone_into(&mut cloud.authority_host);
        ClientOptions {
            transport: Some(Transport::new(self.transports.entra.clone())),
            cloud: Some(Arc::new(CloudConfiguration::Custom(cloud))),
            ..ClientOptions::default()
        }
    }

    /// Our own cause if it is among the error's, else the credential's words without the advertisement behind them.
    fn cause(&self, error: &azure_core::Error) -> Cause {
        let causes = std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| error.source());
        for cause in causes {
            if let Some(ours) = cause.downcast_ref::<Cause>() {
                return ours.clone();
            }
            if let (Some(tool), Some(error)) = (self.source.tool(), cause.downcast_ref::<io::Error>())
                && matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
            {
                // There is not even a shell to look for it, or `confine` lets none be run: then it was not there at the start.
                return Cause::Missing(tool);
            }
        }
        let text = error.to_string();
        let text = text.split("\nTo troubleshoot").next().unwrap_or_default();
        let words = line(text.split_once(" authentication failed. ").map_or(text, |(_, words)| words));
        match self.source.tool() {
            Some(tool) if words.ends_with("not found on PATH") => Cause::Missing(tool),
            // The library quotes what it cannot read, and that may be a token.
            Some(_) if quotes(&words) => Cause::Tool("what it printed is no token".to_owned()),
            Some(_) => Cause::Tool(words),
            None => Cause::Misfit(words),
        }
    }
}

/// Whether these are a parser's words about what it has read.
fn quotes(words: &str) -> bool {
    ["invalid type:", "invalid value:", "expected value at", "EOF while", "trailing characters", "missing field"]
        .iter()
        .any(|beginning| words.contains(beginning))
}

fn user_assigned(identity: &IdentityName) -> Option<UserAssignedId> {
    match identity {
        IdentityName::SystemAssigned => None,
        IdentityName::ClientId(id) => Some(UserAssignedId::ClientId(id.clone())),
        IdentityName::ObjectId(id) => Some(UserAssignedId::ObjectId(id.clone())),
        IdentityName::ResourceId(id) => Some(UserAssignedId::ResourceId(id.clone())),
    }
}
