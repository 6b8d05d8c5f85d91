//! The account behind an endpoint, as far as the host tells.

use super::plain;
use crate::config::Endpoint;

/// Where accounts have their subdomains, up to the cloud.
const DOMAINS: [&str; 3] = ["openai.azure.", "cognitiveservices.azure.", "services.ai.azure."];

/// The host, or a word that stands for it.
pub(super) fn host(endpoint: &Endpoint) -> &str {
    plain::id(endpoint.authority().host()).unwrap_or("HOST")
}

/// The account's own subdomain, which mostly is its name too. [`None`] at a region's endpoint, a gateway or an emulator.
#[must_use]
pub fn subdomain(endpoint: &Endpoint) -> Option<&str> {
    let (subdomain, domain) = endpoint.authority().host().split_once('.')?;
    let domain = domain.strip_prefix("privatelink.").unwrap_or(domain);
    let known = |cloud: &str| matches!(cloud, "com" | "us" | "cn");
    let found = DOMAINS.iter().any(|prefix| domain.strip_prefix(prefix).is_some_and(known));
    plain::id(subdomain).filter(|_| found)
}

/// Whether the endpoint is shared by all accounts of a region (`REGION.api.cognitive.microsoft.com`). No token is taken
/// there: it could be for any of them.
#[must_use]
pub fn is_regional(endpoint: &Endpoint) -> bool {
    endpoint.authority().host().split_once('.').is_some_and(|(_, domain)| domain.starts_with("api.cognitive."))
}

/// What Azure's names end with in the endpoint's cloud.
pub(super) fn cloud(endpoint: &Endpoint) -> &'static str {
    let host = endpoint.authority().host();
    if host.ends_with(".azure.us") || host.ends_with(".microsoft.us") {
        "us"
    } else if host.ends_with(".azure.cn") {
        "cn"
    } else {
        "com"
    }
}

/// The account's id for a command line: a question to `az` that finds it in the subscription signed in to, or a word that
/// stands for it.
///
/// The account may call another of its domains its endpoint, so only the subdomain is compared. `starts_with` gives up where
/// it finds no string: an account without endpoint is judged by its name, which begins like no URL. Literals are written
/// between backticks and without quotes, for the sake of [`hint`](super::hint())'s own; this one, being no JSON, always
/// reads as a string.
pub(super) fn id_argument(endpoint: &Endpoint) -> String {
    let Some(subdomain) = subdomain(endpoint) else { return "RESOURCE_ID".to_owned() };
    let query = format!("[?starts_with(not_null(properties.endpoint, name), `https://{subdomain}.`)].id | [0]");
    format!("$(az cognitiveservices account list --query '{query}' --output tsv)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(host: &str) -> Endpoint {
        Endpoint::parse(&format!("https://{host}")).expect(host)
    }

    #[test]
    fn an_account_has_a_subdomain_in_one_of_azures_domains() {
        for host in [
            "name.openai.azure.com",
            "Name.cognitiveservices.azure.com",
            "name.services.ai.azure.com",
            "name.openai.azure.us",
            "name.privatelink.openai.azure.com",
        ] {
            assert_eq!(subdomain(&endpoint(host)), Some("name"), "{host}");
        }
        for host in [
            "openai.azure.com",
            "name.openai.azure.com.example",
            "name.example.com",
            "eastus.api.cognitive.microsoft.com",
            "my_name.openai.azure.com",
            "127.0.0.1",
            "[::1]",
            "localhost",
        ] {
            assert_eq!(subdomain(&endpoint(host)), None, "{host}");
        }
    }

    #[test]
    fn a_region_is_no_account() {
        for (host, ending) in [
            ("swedencentral.api.cognitive.microsoft.com", "com"),
            ("usgovvirginia.api.cognitive.microsoft.us", "us"),
            ("usgovvirginia.api.cognitive.azure.us", "us"),
            ("chinaeast2.api.cognitive.azure.cn", "cn"),
        ] {
            assert!(is_regional(&endpoint(host)), "{host}");
            assert_eq!(cloud(&endpoint(host)), ending);
        }
        for host in ["name.openai.azure.com", "api.cognitive.example", "localhost"] {
            assert!(!is_regional(&endpoint(host)), "{host}");
        }
    }

    #[test]
    fn the_id_is_asked_for_by_the_subdomain_alone() {
        let id = id_argument(&endpoint("name.services.ai.azure.com"));
        assert!(id.contains("`https://name.`"), "{id}");
        assert_eq!(id_argument(&endpoint("gateway.example.com")), "RESOURCE_ID");
    }
}
