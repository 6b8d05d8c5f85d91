//! Hints about the token and its principal.

use crate::config::Endpoint;
use crate::explain::facts::Facts;
use crate::explain::{account, assignee, audience};

pub(super) fn role_missing(facts: &Facts<'_>) -> String {
    let role = Role::for_endpoint(facts.endpoint);
    let assignee = assignee(facts.claims);
    format!(
        "The token is good, but its principal{principal} lacks the role {name} on the resource {account}. Owner and \
         Contributor do not count: they allow no data actions. {remark}A new assignment takes up to five minutes to work \
         and needs no restart. Whoever may assign roles can run, signed in to the resource's subscription: az role \
         assignment create {assignee} --role '{argument}' --scope {id}",
        principal = facts.principal(),
        name = role.name,
        account = facts.account(),
        remark = role.remark,
        argument = role.argument,
        id = account::id_argument(facts.endpoint),
    )
}

/// A role that allows what the endpoint is for.
struct Role {
    name: &'static str,
    /// The role's name or id.
    argument: &'static str,
    remark: &'static str,
}

impl Role {
    fn for_endpoint(endpoint: &Endpoint) -> Self {
        if endpoint.is_foundry_project() {
            // By its id: not every cloud has renamed it.
            let argument = "53ca6127-db72-4b80-b1b0-d745d6d5456d";
            return Self { name: "'Foundry User' (once 'Azure AI User')", argument, remark: "" };
        }
        let remark = "If it is there already: what writes files, batches or fine-tuning jobs needs 'Cognitive Services \
                      OpenAI Contributor' instead. ";
        Self { name: "'Cognitive Services OpenAI User'", argument: "Cognitive Services OpenAI User", remark }
    }
}

pub(super) fn stale_token(facts: &Facts<'_>) -> String {
    let audience = facts.audience();
    let wanted = audience::wanted(facts.words, facts.endpoint);
    let fits = wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(audience));
    match wanted.first() {
        Some(first) if !fits => format!(
            "The token is for the audience {audience}, and the resource takes {}. Set upstream.scope = '{first}/.default' \
             and restart the proxy; as a variable: AOAI_PROXY__UPSTREAM__SCOPE={first}/.default",
            wanted.join(" or "),
        ),
        _ => format!(
            "The resource did not take the token of this principal{principal}, which is for the audience {audience}. It is \
             hardly too old: the proxy renews a refused token and, if it still holds the request, tries once more. Check \
             that this machine's clock is right, that the principal is not blocked or deleted, that {host} is the resource \
             meant, in the cloud that azure.cloud names, and that nothing before it wants another token.",
            principal = facts.principal(),
            host = facts.host(),
        ),
    }
}

pub(super) fn claims_challenge(facts: &Facts<'_>) -> String {
    format!(
        "The resource asks for claims that the token of this principal{principal} lacks: a policy of the tenant \
         (conditional access, continuous access evaluation) wants more than the credential gave, such as a second factor or \
         another network. An application or a managed identity cannot give more; its tenant must exempt it or let it in \
         from here. A person can sign in anew, without a restart: az login --tenant {tenant} --scope {scope}",
        principal = facts.principal(),
        tenant = facts.tenant().unwrap_or("TENANT_ID"),
        scope = facts.scope,
    )
}

pub(super) fn tenant_mismatch(facts: &Facts<'_>) -> String {
    let (resources, tenant) = match facts.other_tenant() {
        Some(tenant) => (format!("tenant {tenant}"), tenant),
        None => ("another one".to_owned(), "TENANT_ID"),
    };
    format!(
        "The token is of {own}, and the resource belongs to {resources}. Set credential.tenant_id or AZURE_TENANT_ID to the \
         resource's tenant and restart the proxy; an application must be known there, and a managed identity cannot leave \
         its own tenant. If the credential is a person's sign-in: az login --tenant {tenant}",
        own = facts.tenant().map_or_else(|| "one tenant".to_owned(), |own| format!("tenant {own}")),
    )
}
