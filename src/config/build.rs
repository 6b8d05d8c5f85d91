//! From what was written to what is meant: the one way from [`Settings`] to [`Config`].

use url::Url;

use super::choices::{Cloud, CredentialKind};
use super::layers::Layers;
use super::settings::{self, Settings};
use super::{
    Config, ConfigError, Credential, CredentialSource, Environment, IdentityName, Limits, ManagedIdentity, Management,
    Proxies, Scope, Telemetry, Upstream,
};

/// Reads the merged layers into [`Settings`] and decides what they mean.
pub(super) fn build(layers: &Layers, environment: &Environment) -> Result<Config, ConfigError> {
    let settings = read(layers)?;
    let cloud = settings.azure.cloud.parts();
    let endpoint = settings.upstream.endpoint.ok_or(ConfigError::Missing {
        key: "upstream.endpoint",
        problem: "which Azure OpenAI resource? Set AZURE_OPENAI_ENDPOINT=https://NAME.openai.azure.com, or --endpoint, or \
                  upstream.endpoint in a file; `aoai-auth-proxy demo` needs none",
    })?;
    let default_scope = if endpoint.is_foundry_project() { cloud.foundry } else { cloud.cognitive_services };
    let authority_host = settings.credential.authority_host.clone();
    let imds_endpoint = settings.credential.imds_endpoint.clone();
    Ok(Config {
        listen: settings.listen.address,
        upstream: Upstream {
            scope: settings.upstream.scope.unwrap_or_else(|| Scope::of(default_scope)),
            endpoint,
            authorities: settings.upstream.ca_file,
            connect_timeout: settings.upstream.connect_timeout,
            response_timeout: settings.upstream.response_timeout,
            idle_timeout: settings.upstream.idle_timeout,
        },
        credential: Credential {
            source: credential(layers, &settings.credential, environment)?,
            authority_host: authority_host.unwrap_or_else(|| known(cloud.authority)),
            imds_endpoint,
        },
        management: management(settings.management, &cloud),
        limits: Limits {
            max_connections: settings.limits.max_connections,
            header_timeout: settings.limits.header_timeout,
            shutdown_grace: settings.limits.shutdown_grace,
        },
        telemetry: Telemetry { log_format: settings.telemetry.log_format, log_level: settings.telemetry.log_level.0 },
        proxies: Proxies::read(environment),
    })
}

/// Names the key, its value and its layer for whatever the merged values do not fit.
fn read(layers: &Layers) -> Result<Settings, ConfigError> {
    let merged = layers.merged().map_err(|error| bad(layers, "", error.to_string()))?;
    serde_path_to_error::deserialize(merged.cache).map_err(|error| {
        let key = error.path().to_string();
        let problem = error.into_inner().to_string();
        match problem.split_once("unknown field ") {
            Some((_, rest)) => unknown(layers, &key, rest),
            None => bad(layers, &key, plain(&problem, &key)),
        }
    })
}

/// The library appends the key to some of its messages; ours name it themselves.
fn plain(problem: &str, key: &str) -> String {
    let last = key.rsplit('.').next().unwrap_or(key);
    [format!(" for key `{key}`"), format!(" for key `{last}`")]
        .iter()
        .fold(problem.to_owned(), |text, end| text.strip_suffix(end.as_str()).map_or(text.clone(), str::to_owned))
}

fn unknown(layers: &Layers, key: &str, rest: &str) -> ConfigError {
    let name = rest.split('`').nth(1).unwrap_or_default();
    // Depending on how deep the error arose, the path ends in the unknown name or before it.
    let named = key.ends_with(name);
    let key = if named || name.is_empty() {
        key.to_owned()
    } else {
        [key, name].join(".").trim_start_matches('.').to_owned()
    };
    let expected =
        rest.split_once(", ").map_or("", |(_, expected)| expected).split(" for key ").next().unwrap_or_default();
    let (layer, value) = layers.origin(&key).unwrap_or_else(|| nowhere(&key));
    ConfigError::UnknownKey { key, value, layer, expected: expected.to_owned() }
}

fn bad(layers: &Layers, key: &str, problem: String) -> ConfigError {
    let (layer, value) = layers.origin(key).unwrap_or_else(|| nowhere(key));
    ConfigError::BadValue { key: key.to_owned(), value, layer, problem }
}

fn nowhere(key: &str) -> (String, super::Shown) {
    ("no layer".to_owned(), super::Shown::new(key, &config::Value::from("")))
}

/// What a cloud's name stands for.
struct CloudParts {
    authority: &'static str,
    cognitive_services: &'static str,
    foundry: &'static str,
    management: &'static str,
}

impl Cloud {
    /// Hosts and audiences as Azure's documentation of its national clouds lists them.
    fn parts(self) -> CloudParts {
        match self {
            Self::Public => CloudParts {
                authority: "https://login.microsoftonline.com",
                cognitive_services: "https://cognitiveservices.azure.com",
                foundry: "https://ai.azure.com",
                management: "https://management.azure.com",
            },
            Self::UsGovernment => CloudParts {
                authority: "https://login.microsoftonline.us",
                cognitive_services: "https://cognitiveservices.azure.us",
                foundry: "https://ai.azure.us",
                management: "https://management.usgovcloudapi.net",
            },
            Self::China => CloudParts {
                authority: "https://login.chinacloudapi.cn",
                cognitive_services: "https://cognitiveservices.azure.cn",
                foundry: "https://ai.azure.cn",
                management: "https://management.chinacloudapi.cn",
            },
        }
    }
}

fn known(url: &'static str) -> Url {
    #[expect(clippy::expect_used, reason = "the texts stand above and a test reads each")]
    Url::parse(url).expect("a URL")
}

fn credential(
    layers: &Layers,
    settings: &settings::Credential,
    environment: &Environment,
) -> Result<CredentialSource, ConfigError> {
    let identity = identity_name(layers, settings)?;
    let app_service = environment.get("IDENTITY_ENDPOINT").is_some() && environment.get("IDENTITY_HEADER").is_some();
    let managed = ManagedIdentity { identity, app_service };
    let cli = CredentialSource::AzureCli { tenant_id: settings.tenant_id.clone() };
    let azd = CredentialSource::AzureDeveloperCli { tenant_id: settings.tenant_id.clone() };
    match settings.kind {
        CredentialKind::ManagedIdentity => {
            if app_service && matches!(managed.identity, IdentityName::ResourceId(_)) {
                let problem =
                    "App Service and Container Apps are asked by client or object id; set one of those instead";
                return Err(bad(layers, "credential.resource_id", problem.to_owned()));
            }
            Ok(CredentialSource::ManagedIdentity(managed))
        }
        CredentialKind::WorkloadIdentity => workload_identity(settings),
        CredentialKind::ClientSecret => client_secret(settings),
        CredentialKind::AzureCli => Ok(cli),
        CredentialKind::AzureDeveloperCli => Ok(azd),
        CredentialKind::Auto => {
            let explicit = client_secret(settings).ok().into_iter().chain(workload_identity(settings).ok());
            let found = [CredentialSource::ManagedIdentity(managed), cli, azd];
            Ok(CredentialSource::Auto(explicit.chain(found).collect()))
        }
    }
}

fn workload_identity(settings: &settings::Credential) -> Result<CredentialSource, ConfigError> {
    Ok(CredentialSource::WorkloadIdentity {
        tenant_id: required(settings.tenant_id.as_ref(), "credential.tenant_id", "the directory; set AZURE_TENANT_ID")?,
        client_id: required(
            settings.client_id.as_ref(),
            "credential.client_id",
            "the application; set AZURE_CLIENT_ID",
        )?,
        token_file: required(
            settings.federated_token_file.as_ref(),
            "credential.federated_token_file",
            "the platform's token; AKS sets AZURE_FEDERATED_TOKEN_FILE in pods labelled azure.workload.identity/use=true",
        )?,
    })
}

fn client_secret(settings: &settings::Credential) -> Result<CredentialSource, ConfigError> {
    Ok(CredentialSource::ClientSecret {
        tenant_id: required(settings.tenant_id.as_ref(), "credential.tenant_id", "the directory; set AZURE_TENANT_ID")?,
        client_id: required(
            settings.client_id.as_ref(),
            "credential.client_id",
            "the application; set AZURE_CLIENT_ID",
        )?,
        secret: required(
            settings.client_secret.as_ref(),
            "credential.client_secret",
            "the application's secret; set AZURE_CLIENT_SECRET",
        )?,
    })
}

fn required<T: Clone>(value: Option<&T>, key: &'static str, problem: &'static str) -> Result<T, ConfigError> {
    value.cloned().ok_or(ConfigError::Missing { key, problem })
}

fn identity_name(layers: &Layers, settings: &settings::Credential) -> Result<IdentityName, ConfigError> {
    match (&settings.client_id, &settings.object_id, &settings.resource_id) {
        (None, None, None) => Ok(IdentityName::SystemAssigned),
        (Some(id), None, None) => Ok(IdentityName::ClientId(id.clone())),
        (None, Some(id), None) => Ok(IdentityName::ObjectId(id.clone())),
        (None, None, Some(id)) => Ok(IdentityName::ResourceId(id.clone())),
        (_, None, Some(_)) | (_, Some(_), _) => {
            let key = if settings.object_id.is_some() { "credential.object_id" } else { "credential.resource_id" };
            let problem = "an identity has one name: set one of credential.client_id (AZURE_CLIENT_ID), \
                           credential.object_id and credential.resource_id";
            Err(bad(layers, key, problem.to_owned()))
        }
    }
}

fn management(settings: settings::Management, cloud: &CloudParts) -> Management {
    Management {
        endpoint: settings.endpoint.unwrap_or_else(|| known(cloud.management)),
        scope: Scope::of(cloud.management),
        subscription_id: settings.subscription_id,
        location: settings.location,
        api_version: settings.api_version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cloud_has_its_hosts() {
        for cloud in [Cloud::Public, Cloud::UsGovernment, Cloud::China] {
            let parts = cloud.parts();
            for url in [parts.authority, parts.management] {
                assert_eq!(known(url).scheme(), "https");
            }
            for resource in [parts.cognitive_services, parts.foundry, parts.management] {
                assert!(Scope::parse(Scope::of(resource).as_str()).is_ok());
            }
        }
    }
}
