//! Which of a subscription's accounts is meant: a pure function from what the management plane says of them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::config::{AccountName, Endpoint, ResourceName, Segment};
use crate::explain;

/// An account, found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Where it is.
    pub name: AccountName,
    /// Its region, if it is said.
    pub location: Option<Segment>,
}

/// What the management plane says of an account, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(super) struct Entry {
    #[serde(default)]
    id: String,
    location: Option<String>,
    properties: Option<Properties>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    endpoint: Option<String>,
    /// By what they are for.
    endpoints: Option<BTreeMap<String, Value>>,
    custom_sub_domain_name: Option<String>,
}

impl Entry {
    /// The account, if its id can be read.
    fn account(&self) -> Option<Account> {
        let [_, subscriptions, _, groups, group, _, _, accounts, account] =
            self.id.split('/').collect::<Vec<_>>().try_into().ok()?;
        let words = [(subscriptions, "subscriptions"), (groups, "resourceGroups"), (accounts, "accounts")];
        if !words.iter().all(|(word, expected)| word.eq_ignore_ascii_case(expected)) {
            return None;
        }
        let name = |text: &str| ResourceName::parse(text).ok();
        // Some lists write regions as people do.
        let location = self.location.as_ref().map(|location| location.replace(' ', "").to_lowercase());
        Some(Account {
            name: AccountName { resource_group: name(group)?, account: name(account)? },
            location: location.and_then(|location| Segment::parse(&location).ok()),
        })
    }

    /// Whether `endpoint` leads to this account: it is said to, or it is another name of the account's own subdomain.
    fn is_at(&self, endpoint: &Endpoint) -> bool {
        let Some(properties) = &self.properties else { return false };
        let subdomain = explain::subdomain(endpoint);
        let is_own = |own: &str| subdomain.is_some_and(|subdomain| subdomain.eq_ignore_ascii_case(own));
        let others = properties.endpoints.iter().flat_map(BTreeMap::values).filter_map(Value::as_str);
        let mut said =
            properties.endpoint.as_deref().into_iter().chain(others).filter_map(|url| Endpoint::parse(url).ok());
        properties.custom_sub_domain_name.as_deref().is_some_and(is_own)
            || said
                .any(|said| said.authority() == endpoint.authority() || explain::subdomain(&said).is_some_and(is_own))
    }
}

/// The accounts that `endpoint` leads to: one, unless it is shared or nobody's here.
pub(super) fn at(entries: &[Entry], endpoint: &Endpoint) -> Vec<Account> {
    entries.iter().filter(|entry| entry.is_at(endpoint)).filter_map(Entry::account).collect()
}

/// The account of this name.
pub(super) fn named(entries: &[Entry], name: &AccountName) -> Option<Account> {
    entries.iter().filter_map(Entry::account).find(|account| {
        account.name.account.is_like(&name.account) && account.name.resource_group.is_like(&name.resource_group)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn id(group: &str, account: &str) -> String {
        format!("/subscriptions/s/resourceGroups/{group}/providers/Microsoft.CognitiveServices/accounts/{account}")
    }

    fn found(entries: &Value, endpoint: &str) -> Vec<String> {
        let entries: Vec<Entry> = serde_json::from_value(entries.clone()).expect("entries");
        let accounts = at(&entries, &Endpoint::parse(endpoint).expect(endpoint));
        accounts.iter().map(|Account { name, .. }| format!("{}/{}", name.resource_group, name.account)).collect()
    }

    #[test]
    fn an_account_is_found_by_any_of_its_names() {
        let entries = json!([
            { "id": id("other", "other"), "properties": { "endpoint": "https://other.openai.azure.com/" } },
            { "id": id("bare", "bare") },
            { "id": id("null", "null"), "properties": { "endpoint": null, "endpoints": null } },
            { "id": id("odd", "odd"), "properties": { "endpoint": "no URL", "endpoints": { "x": 1 } } },
            { "id": id("my_group(1)", "acct"), "properties": {
                "endpoint": "https://Name.cognitiveservices.azure.com/",
                "endpoints": { "OpenAI Language Model Instance API": "https://gateway.example:8443/" },
                "customSubDomainName": "name",
            } },
        ]);
        for endpoint in [
            "https://name.openai.azure.com",
            "https://NAME.openai.azure.com/openai/v1",
            "https://name.services.ai.azure.com/api/projects/p",
            "https://name.cognitiveservices.azure.com",
            "https://name.privatelink.openai.azure.com",
            "https://gateway.example:8443",
        ] {
            assert_eq!(found(&entries, endpoint), ["my_group(1)/acct"], "{endpoint}");
        }
        for endpoint in [
            "https://name2.openai.azure.com",
            "https://gateway.example",
            "https://name.example.com",
            "https://acct.example",
        ] {
            assert!(found(&entries, endpoint).is_empty(), "{endpoint}");
        }
    }

    #[test]
    fn a_regions_endpoint_is_shared() {
        let endpoint = "https://eastus.api.cognitive.microsoft.com";
        let entry = |name| json!({ "id": id("g", name), "properties": { "endpoint": endpoint } });
        assert_eq!(found(&json!([entry("a"), entry("b")]), endpoint), ["g/a", "g/b"]);
    }

    #[test]
    fn an_id_that_could_lead_elsewhere_is_none() {
        for id in [
            "",
            "name",
            &id("..", "a"),
            &id("g", ".."),
            &id("g", "a/deployments/d"),
            &id("g", "a?x"),
            &id("g/x", "a"),
            "/x/s/resourceGroups/g/providers/p/accounts/a",
        ] {
            let entry = json!({ "id": id, "properties": { "customSubDomainName": "name" } });
            assert!(found(&json!([entry]), "https://name.openai.azure.com").is_empty(), "{id}");
        }
    }

    #[test]
    fn a_region_is_written_in_one_way() {
        let entry = json!([{ "id": id("g", "a"), "location": "Sweden Central" }]);
        let entries: Vec<Entry> = serde_json::from_value(entry).expect("entries");
        let name = |text| ResourceName::parse(text).expect(text);
        let wanted = AccountName { resource_group: name("G"), account: name("A") };
        let account = named(&entries, &wanted).expect("an account");
        assert_eq!(account.location.expect("a region").as_str(), "swedencentral");
    }
}
