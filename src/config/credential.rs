//! Which credential the settings mean, and whether they hold all that it needs.

use super::choices::CredentialKind;
use super::layers::Layers;
use super::settings::Credential;
use super::{ConfigError, CredentialSource, Environment, IdentityName, ManagedIdentity};

pub(super) fn credential(
    layers: &Layers,
    settings: &Credential,
    environment: &Environment,
) -> Result<CredentialSource, ConfigError> {
    let identity = identity_name(layers, settings)?;
    let tenant_id = settings.tenant_id.as_ref().map(ToString::to_string);
    let cli = CredentialSource::AzureCli { tenant_id: tenant_id.clone() };
    let azd = CredentialSource::AzureDeveloperCli { tenant_id };
    match settings.kind {
        CredentialKind::ManagedIdentity => managed_identity(layers, identity, environment),
        CredentialKind::WorkloadIdentity => workload_identity(settings),
        CredentialKind::ClientSecret => client_secret(settings),
        CredentialKind::AzureCli => Ok(cli),
        CredentialKind::AzureDeveloperCli => Ok(azd),
        CredentialKind::Auto => {
            let mut links = Vec::new();
            // Whoever gave one of these wants it used: what is missing beside it is said, not passed over.
            if settings.client_secret.is_some() {
                links.push(client_secret(settings)?);
            }
            if settings.federated_token_file.is_some() {
                links.push(workload_identity(settings)?);
            }
            links.extend([managed_identity(layers, identity, environment)?, cli, azd]);
            Ok(CredentialSource::Auto(links))
        }
    }
}

fn identity_name(layers: &Layers, settings: &Credential) -> Result<IdentityName, ConfigError> {
    match (&settings.client_id, &settings.object_id, &settings.resource_id) {
        (None, None, None) => Ok(IdentityName::SystemAssigned),
        (Some(id), None, None) => Ok(IdentityName::ClientId(id.to_string())),
        (None, Some(id), None) => Ok(IdentityName::ObjectId(id.to_string())),
        (None, None, Some(id)) => Ok(IdentityName::ResourceId(id.to_string())),
        (_, None, Some(_)) | (_, Some(_), _) => {
            let key = if settings.object_id.is_some() { "credential.object_id" } else { "credential.resource_id" };
            let problem = "an identity has one name: set one of credential.client_id (AZURE_CLIENT_ID), \
                           credential.object_id and credential.resource_id";
            Err(layers.bad_value(key, problem.to_owned()))
        }
    }
}

fn managed_identity(
    layers: &Layers,
    identity: IdentityName,
    environment: &Environment,
) -> Result<CredentialSource, ConfigError> {
    let app_service = environment.get("IDENTITY_ENDPOINT").is_some() && environment.get("IDENTITY_HEADER").is_some();
    if app_service && matches!(identity, IdentityName::ResourceId(_)) {
        let problem = "App Service and Container Apps are asked by client or object id; set one of those instead";
        return Err(layers.bad_value("credential.resource_id", problem.to_owned()));
    }
    Ok(CredentialSource::ManagedIdentity(ManagedIdentity { identity, app_service }))
}

fn workload_identity(settings: &Credential) -> Result<CredentialSource, ConfigError> {
    Ok(CredentialSource::WorkloadIdentity {
        tenant_id: tenant_id(settings)?,
        client_id: client_id(settings)?,
        token_file: required(
            settings.federated_token_file.clone(),
            "credential.federated_token_file",
            "the platform's token; AKS sets AZURE_FEDERATED_TOKEN_FILE in pods labelled azure.workload.identity/use=true",
        )?,
    })
}

fn client_secret(settings: &Credential) -> Result<CredentialSource, ConfigError> {
    Ok(CredentialSource::ClientSecret {
        tenant_id: tenant_id(settings)?,
        client_id: client_id(settings)?,
        secret: required(
            settings.client_secret.clone(),
            "credential.client_secret",
            "the application's secret; set AZURE_CLIENT_SECRET",
        )?,
    })
}

fn tenant_id(settings: &Credential) -> Result<String, ConfigError> {
    let problem = "the directory that an application's secret or federated token is for; set AZURE_TENANT_ID";
    required(settings.tenant_id.as_ref().map(ToString::to_string), "credential.tenant_id", problem)
}

fn client_id(settings: &Credential) -> Result<String, ConfigError> {
    let problem = "the application that a secret or federated token is for; set AZURE_CLIENT_ID";
    required(settings.client_id.as_ref().map(ToString::to_string), "credential.client_id", problem)
}

fn required<T>(value: Option<T>, key: &'static str, problem: &'static str) -> Result<T, ConfigError> {
    value.ok_or(ConfigError::Missing { key, problem })
}
