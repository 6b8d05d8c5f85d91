//! From what was written to what is meant: the one way from [`Settings`] to [`Config`].

use serde::Deserialize;
use url::Url;

use super::access::access;
use super::admin::admin;
use super::apps::{KEY_OF_A_RUN, apps};
use super::choices::{Cloud, ModelList};
use super::credential::credential;
use super::layers::Layers;
use super::otlp::{Read, otlp};
use super::prices::prices;
use super::settings::{self, Settings};
use super::usage::ledger;
use super::{
    AccountName, Config, ConfigError, Credential, Environment, Limits, Management, Proxies, Scope, Telemetry, Upstream,
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
    if endpoint.is_loopback() && is_of_a_run(layers, environment) {
        let problem = "is the proxy of the `aoai-auth-proxy run` in which this runs, and it takes no token of ours; say --endpoint \
                       https://NAME.openai.azure.com";
        return Err(layers.bad_value("upstream.endpoint", problem.to_owned()));
    }
    let default_scope = if endpoint.is_foundry_project() { cloud.foundry } else { cloud.cognitive_services };
    let (listen, access) = access(layers, settings.listen, settings.access)?;
    let admin = admin(layers, &settings.admin, &listen)?;
    let apps = apps(layers, settings.apps, access.require_key)?;
    let management = management(layers, settings.management, &cloud)?;
    if settings.upstream.models == ModelList::Deployments && management.subscription_id.is_none() {
        let problem = "needs the subscription of the account: set management.subscription_id (AZURE_SUBSCRIPTION_ID); `az account \
                       show --query id -o tsv` tells it";
        return Err(layers.bad_value("upstream.models", problem.to_owned()));
    }
    // Nothing that serves needs prices; they must be right all the same.
    prices(layers, settings.usage.currency.clone(), settings.prices)?;
    let ledger = ledger(layers, environment, settings.usage)?;
    let authority_host = settings.credential.authority_host.clone();
    let imds_endpoint = settings.credential.imds_endpoint.clone();
    Ok(Config {
        listen,
        upstream: Upstream {
            scope: settings.upstream.scope.unwrap_or_else(|| Scope::of(default_scope)),
            endpoint,
            models: settings.upstream.models,
            authorities: settings.upstream.ca_file,
            connect_timeout: settings.upstream.connect_timeout,
            response_timeout: settings.upstream.response_timeout,
            idle_timeout: settings.upstream.idle_timeout,
            explain_errors: settings.upstream.explain_errors,
        },
        credential: Credential {
            source: credential(layers, &settings.credential, environment)?,
            authority_host: authority_host.unwrap_or_else(|| known(cloud.authority)),
            imds_endpoint,
        },
        management,
        access,
        admin,
        apps,
        limits: Limits {
            max_connections: settings.limits.max_connections,
            max_in_flight: settings.limits.max_in_flight,
            max_body: settings.limits.max_body,
            header_timeout: settings.limits.header_timeout,
            shutdown_grace: settings.limits.shutdown_grace,
        },
        ledger,
        telemetry: telemetry(layers, settings.telemetry, environment)?,
        proxies: Proxies::read(environment)?,
    })
}

fn telemetry(
    layers: &Layers,
    settings: settings::Telemetry,
    environment: &Environment,
) -> Result<Telemetry, ConfigError> {
    let Read { otlp, ignored } = otlp(layers, settings.otlp_endpoint.as_deref(), environment)?;
    Ok(Telemetry { log_format: settings.log_format, log_level: settings.log_level.0, otlp, ignored })
}

/// Whether the endpoint is what `run` tells its command.
fn is_of_a_run(layers: &Layers, environment: &Environment) -> bool {
    let is_told =
        layers.origins("upstream.endpoint").next().is_some_and(|(layer, _)| layer.ends_with("AZURE_OPENAI_ENDPOINT"));
    is_told && environment.get("AZURE_OPENAI_API_KEY").is_some_and(|key| key.starts_with(KEY_OF_A_RUN))
}

/// Names the key, its value and its layer for whatever the merged values do not fit.
pub(super) fn read(layers: &Layers) -> Result<Settings, ConfigError> {
    Settings::deserialize(layers.merged()?).map_err(|error| {
        let (key, problem) = blamed(error);
        match problem.strip_prefix("unknown field `").and_then(|rest| rest.rsplit_once("`, expected ")) {
            Some((name, expected)) => {
                let key = if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
                layers.unknown_key(&key, &format!("expected {expected}"))
            }
            None => layers.bad_value(&key, plain(problem)),
        }
    })
}

/// Which key is to blame, and for what.
fn blamed(error: config::ConfigError) -> (String, String) {
    use config::ConfigError::{At, Type};

    match error {
        Type { expected, key, .. } => (key.unwrap_or_default(), format!("expected {expected}")),
        At { error, key, .. } => (key.unwrap_or_default(), error.to_string()),
        other => (String::new(), other.to_string()),
    }
}

/// The library's words without the value, which it has in some of its messages: ours name it, if they may.
fn plain(problem: String) -> String {
    match problem.strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected ")) {
        Some((_, wanted)) if wanted.starts_with("struct ") => "is a section; set the keys in it".to_owned(),
        Some((_, wanted)) => format!("expected {wanted}"),
        None => problem,
    }
}

/// What a cloud's name stands for.
struct CloudParts {
    authority: &'static str,
    cognitive_services: &'static str,
    foundry: &'static str,
    management: &'static str,
}

impl Cloud {
    /// Authorities and management endpoints are the ones that Azure documents for its national clouds. The audiences of the
    /// data plane follow their pattern there; where a cloud wants another, `upstream.scope` says so.
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

fn management(layers: &Layers, settings: settings::Management, cloud: &CloudParts) -> Result<Management, ConfigError> {
    let lone = |key, other| {
        let problem = format!("says where the account is only together with {other}: set both or neither");
        layers.bad_value(key, problem)
    };
    let account = match (settings.resource_group, settings.account) {
        (Some(resource_group), Some(account)) => Some(AccountName { resource_group, account }),
        (None, None) => None,
        (Some(_), None) => return Err(lone("management.resource_group", "management.account")),
        (None, Some(_)) => return Err(lone("management.account", "management.resource_group")),
    };
    Ok(Management {
        endpoint: settings.endpoint.unwrap_or_else(|| known(cloud.management)),
        scope: Scope::of(cloud.management),
        subscription_id: settings.subscription_id,
        location: settings.location,
        account,
        api_version: settings.api_version,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;
    use crate::config::keys::{KEYS, Key};

    /// The keys of a section, as the reader of the configuration itself names them: in its error for one that there is not.
    fn keys_read(section: &str) -> Vec<String> {
        let section = section.replace("NAME", "one");
        let assignments =
            vec!["upstream.endpoint=https://name.openai.azure.com".to_owned(), format!("{section}.zzz=1")];
        let error = Config::isolated(&Overrides { assignments, ..Overrides::default() }).expect_err("no such key");
        let ConfigError::UnknownKey { expected, .. } = error else { panic!("{error}") };
        let names = expected.split('`').skip(1).step_by(2);
        names.map(|name| format!("{section}.{name}").replace("one", "NAME")).collect()
    }

    #[test]
    fn every_key_that_is_read_is_told_of() {
        let mut sections: Vec<_> = KEYS.iter().map(Key::section).collect();
        sections.dedup();
        for section in &sections {
            let told: Vec<_> = KEYS.iter().filter(|key| key.section() == *section).map(|key| key.name).collect();
            assert_eq!(keys_read(section), told);
        }
        let error = Config::isolated(&Overrides { assignments: vec!["zzz.a=1".to_owned()], ..Overrides::default() });
        let Err(ConfigError::UnknownKey { expected, .. }) = error else { panic!("{error:?}") };
        assert_eq!(expected.split('`').skip(1).step_by(2).count(), sections.len(), "{expected}");
    }

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
