//! Hints about where the request went.

use crate::explain::facts::Facts;
use crate::explain::{account, plain};

pub(super) fn custom_subdomain(facts: &Facts<'_>) -> String {
    let begin = if account::is_regional(facts.endpoint) {
        format!("{} is the endpoint of a region, which takes no Entra tokens, only keys.", facts.host())
    } else {
        "The resource takes no Entra tokens, only keys, for want of a subdomain of its own.".to_owned()
    };
    format!(
        "{begin} Tokens are taken at a resource's own subdomain: set upstream.endpoint to {endpoint} and restart the proxy. \
         If the resource has no subdomain yet, choose NAME, which nobody in Azure may have and which cannot be changed \
         afterwards, and run: az cognitiveservices account update --name ACCOUNT --resource-group GROUP --custom-domain NAME",
        endpoint = facts.own_endpoint(),
    )
}

pub(super) fn keys_only(facts: &Facts<'_>) -> String {
    format!(
        "{host} asks for an API key although a token was sent; the proxy sends no keys. Perhaps an API gateway (API \
         Management) stands there, or it is the wrong host: set upstream.endpoint to the resource itself, such as \
         {endpoint}, or have the gateway take Entra tokens.",
        host = facts.host(),
        endpoint = facts.own_endpoint(),
    )
}

pub(super) fn network_rules(facts: &Facts<'_>) -> String {
    format!(
        "{host} keeps out networks that its rules do not name, and this machine's is among them. Run the proxy inside a \
         virtual network that may enter or has a private endpoint of the resource, or add the public address that this \
         machine is seen with, as ADDRESS: az cognitiveservices account network-rule add --name {account} --resource-group \
         GROUP --ip-address ADDRESS",
        host = facts.host(),
        account = facts.account(),
    )
}

pub(super) fn virtual_network_endpoint(facts: &Facts<'_>) -> String {
    format!(
        "The resource is in a virtual network, and this is not the way to it: upstream.endpoint must be the resource's own \
         subdomain, such as {endpoint}, and be asked from inside the network. {private}",
        endpoint = facts.own_endpoint(),
        private = private_address(facts),
    )
}

pub(super) fn public_access_disabled(facts: &Facts<'_>) -> String {
    format!(
        "The resource answers at its private endpoint only, and the request came over the public network. {private}",
        private = private_address(facts),
    )
}

/// How to find out whether this machine knows the private endpoint.
fn private_address(facts: &Facts<'_>) -> String {
    format!(
        "The name must lead to a private address here; if it does not, link the private endpoint's DNS zone to this \
         network, or run the proxy where it is linked. If HTTPS_PROXY is set, list the host in NO_PROXY. To see the address: \
         nslookup {}",
        facts.host(),
    )
}

pub(super) fn deployment_not_found(facts: &Facts<'_>) -> String {
    let deployment = facts.deployment.and_then(plain::name).map(|name| format!(" '{name}'")).unwrap_or_default();
    format!(
        "The resource has no deployment{deployment}. What a request gives as its model must be the name of a deployment on \
         {host}, not of a model; one made in the last five minutes may not be known yet. To list them: az \
         cognitiveservices account deployment list --name {account} --resource-group GROUP --output table",
        host = facts.host(),
        account = facts.account(),
    )
}
