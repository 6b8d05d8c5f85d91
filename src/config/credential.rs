//! Which credential the settings mean, and whether they hold all that it needs.

use std::path::PathBuf;

use super::choices::CredentialKind;
use super::error::Shown;
use super::layers::Layers;
use super::settings::Credential;
use super::{ConfigError, CredentialSource, Environment, IdentityName, ManagedIdentity, Place};

/// What narrows `auto`, for Azure's SDKs too.
const STEERING: &str = "AZURE_TOKEN_CREDENTIALS";

pub(super) fn credential(
    layers: &Layers,
    settings: &Credential,
    environment: &Environment,
) -> Result<CredentialSource, ConfigError> {
    let sources = Sources { layers, settings, environment };
    match settings.kind {
        CredentialKind::ManagedIdentity => sources.chosen_managed_identity(),
        CredentialKind::WorkloadIdentity => sources.workload_identity(),
        CredentialKind::ClientSecret => sources.client_secret(),
        CredentialKind::ClientCertificate => sources.client_certificate(),
        CredentialKind::AzureCli => Ok(sources.azure_cli()),
        CredentialKind::AzureDeveloperCli => Ok(sources.azure_developer_cli()),
        CredentialKind::Auto => sources.auto(),
    }
}

struct Sources<'a> {
    layers: &'a Layers,
    settings: &'a Credential,
    environment: &'a Environment,
}

impl Sources<'_> {
    /// The whole chain, or the part of it that `AZURE_TOKEN_CREDENTIALS` leaves
    /// (<https://learn.microsoft.com/azure/developer/python/sdk/authentication/credential-chains>).
    fn auto(&self) -> Result<CredentialSource, ConfigError> {
        let steering = self.environment.get(STEERING).unwrap_or_default().trim();
        match steering.to_ascii_lowercase().as_str() {
            "" => {
                let mut links = self.deployed()?;
                links.extend(self.developer());
                Ok(CredentialSource::Auto(links))
            }
            "prod" => self.deployed().map(CredentialSource::Auto),
            "dev" => Ok(CredentialSource::Auto(self.developer())),
            "environmentcredential" if self.settings.client_certificate_path.is_some() => self.client_certificate(),
            "environmentcredential" => self.client_secret(),
            "workloadidentitycredential" => self.workload_identity(),
            "managedidentitycredential" => self.chosen_managed_identity(),
            "azureclicredential" => Ok(self.azure_cli()),
            "azuredeveloperclicredential" => Ok(self.azure_developer_cli()),
            _ => Err(ConfigError::Variable {
                variable: STEERING,
                value: Shown::text(steering),
                problem: "expected dev, prod, EnvironmentCredential, WorkloadIdentityCredential, ManagedIdentityCredential, \
                          AzureCliCredential or AzureDeveloperCliCredential; credential.kind other than auto makes this \
                          variable irrelevant"
                    .to_owned(),
            }),
        }
    }

    /// What is there when a program is deployed.
    fn deployed(&self) -> Result<Vec<CredentialSource>, ConfigError> {
        let mut links = Vec::new();
        // Whoever gave one of these wants it used: what is missing beside it is said, not passed over.
        if self.settings.client_secret.is_some() {
            links.push(self.client_secret()?);
        } else if self.settings.client_certificate_path.is_some() {
            links.push(self.client_certificate()?);
        }
        if self.settings.federated_token_file.is_some() {
            links.push(self.workload_identity()?);
        }
        links.push(self.managed_identity()?);
        Ok(links)
    }

    /// What a developer has signed in with.
    fn developer(&self) -> Vec<CredentialSource> {
        vec![self.azure_cli(), self.azure_developer_cli()]
    }

    fn managed_identity(&self) -> Result<CredentialSource, ConfigError> {
        let place = place(self.environment);
        let identity = self.identity_name()?;
        if place == Place::AppService && matches!(identity, IdentityName::ResourceId(_)) {
            let problem = "App Service and Container Apps are asked by client or object id; set one of those instead";
            return Err(self.layers.bad_value("credential.resource_id", problem.to_owned()));
        }
        Ok(CredentialSource::ManagedIdentity(ManagedIdentity { identity, place }))
    }

    /// Where nothing else is left to try, a place that is not supported is said at once.
    fn chosen_managed_identity(&self) -> Result<CredentialSource, ConfigError> {
        match place(self.environment) {
            Place::Unsupported(place) => Err(ConfigError::UnsupportedPlace(place)),
            Place::Imds | Place::AppService => self.managed_identity(),
        }
    }

    fn identity_name(&self) -> Result<IdentityName, ConfigError> {
        let settings = self.settings;
        match (&settings.client_id, &settings.object_id, &settings.resource_id) {
            (None, None, None) => Ok(IdentityName::SystemAssigned),
            (Some(id), None, None) => Ok(IdentityName::ClientId(id.to_string())),
            (None, Some(id), None) => Ok(IdentityName::ObjectId(id.to_string())),
            (None, None, Some(id)) => Ok(IdentityName::ResourceId(id.to_string())),
            (_, None, Some(_)) | (_, Some(_), _) => {
                let key = if settings.object_id.is_some() { "credential.object_id" } else { "credential.resource_id" };
                let problem = "an identity has one name: set one of credential.client_id (AZURE_CLIENT_ID), \
                               credential.object_id and credential.resource_id";
                Err(self.layers.bad_value(key, problem.to_owned()))
            }
        }
    }

    fn workload_identity(&self) -> Result<CredentialSource, ConfigError> {
        Ok(CredentialSource::WorkloadIdentity {
            tenant_id: self.tenant_id()?,
            client_id: self.client_id()?,
            token_file: required(
                self.settings.federated_token_file.clone(),
                "credential.federated_token_file",
                "the platform's token; AKS sets AZURE_FEDERATED_TOKEN_FILE in pods labelled azure.workload.identity/use=true",
            )?,
        })
    }

    fn client_secret(&self) -> Result<CredentialSource, ConfigError> {
        Ok(CredentialSource::ClientSecret {
            tenant_id: self.tenant_id()?,
            client_id: self.client_id()?,
            secret: required(
                self.settings.client_secret.clone(),
                "credential.client_secret",
                "the application's secret; set AZURE_CLIENT_SECRET",
            )?,
        })
    }

    fn client_certificate(&self) -> Result<CredentialSource, ConfigError> {
        Ok(CredentialSource::ClientCertificate {
            tenant_id: self.tenant_id()?,
            client_id: self.client_id()?,
            path: required(
                self.settings.client_certificate_path.clone(),
                "credential.client_certificate_path",
                "the application's certificate with its private key, PKCS#12 or PEM; set AZURE_CLIENT_CERTIFICATE_PATH",
            )?,
            password: self.settings.client_certificate_password.clone(),
            send_chain: self.settings.send_certificate_chain,
        })
    }

    fn azure_cli(&self) -> CredentialSource {
        let home = self.environment.get("AZURE_CONFIG_DIR").map(PathBuf::from);
        CredentialSource::AzureCli { tenant_id: self.tenant_name(), home: home.or_else(|| self.in_home(".azure")) }
    }

    fn azure_developer_cli(&self) -> CredentialSource {
        let home = self.environment.get("AZD_CONFIG_DIR").map(PathBuf::from);
        CredentialSource::AzureDeveloperCli {
            tenant_id: self.tenant_name(),
            home: home.or_else(|| self.in_home(".azd")),
        }
    }

    fn in_home(&self, name: &str) -> Option<PathBuf> {
        self.environment.get("HOME").map(|home| PathBuf::from(home).join(name))
    }

    fn tenant_name(&self) -> Option<String> {
        self.settings.tenant_id.as_ref().map(ToString::to_string)
    }

    fn tenant_id(&self) -> Result<String, ConfigError> {
        let problem = "the directory that an application or federated token belongs to; set AZURE_TENANT_ID";
        required(self.tenant_name(), "credential.tenant_id", problem)
    }

    fn client_id(&self) -> Result<String, ConfigError> {
        let problem = "the application that a secret, certificate or federated token is for; set AZURE_CLIENT_ID";
        required(self.settings.client_id.as_ref().map(ToString::to_string), "credential.client_id", problem)
    }
}

/// The same order of questions as in `azure_identity`, which asks them again of the process itself.
fn place(environment: &Environment) -> Place {
    let set = |name: &str| environment.get(name).is_some();
    match (set("IDENTITY_ENDPOINT"), set("IDENTITY_HEADER")) {
        (true, true) if set("IDENTITY_SERVER_THUMBPRINT") => Place::Unsupported("Service Fabric"),
        (true, true) => Place::AppService,
        (true, false) if set("IMDS_ENDPOINT") => Place::Unsupported("Azure Arc"),
        (false, _) if set("MSI_ENDPOINT") && set("MSI_SECRET") => Place::Unsupported("Azure Machine Learning"),
        (false, _) if set("MSI_ENDPOINT") => Place::Unsupported("Cloud Shell"),
        _ => Place::Imds,
    }
}

fn required<T>(value: Option<T>, key: &'static str, problem: &'static str) -> Result<T, ConfigError> {
    value.ok_or(ConfigError::Missing { key, problem })
}
