//! What a person can do about a refusal of the management plane.

use super::failure::Failure;
use crate::config::Segment;
use crate::explain::assignee;
use crate::identity::tokens::Token;

/// What helps against `failure`, met with `token`; nothing where its own words must do.
#[must_use]
pub fn remedy(failure: &Failure, token: Option<&Token>, subscription: &Segment) -> Option<String> {
    Some(match failure.said().code.as_str() {
        "AuthorizationFailed" | "LinkedAuthorizationFailed" => format!(
            "the identity needs the role Reader on the subscription, and a new assignment takes up to five minutes to work: \
             az role assignment create --role Reader {} --scope /subscriptions/{subscription}",
            assignee(token.map(|token| &*token.claims))
        ),
        "SubscriptionNotFound" | "InvalidSubscriptionId" => {
            "is management.subscription_id (AZURE_SUBSCRIPTION_ID) right, and of the identity's tenant? This lists yours: az \
             account list --output table"
                .to_owned()
        }
        "InvalidAuthenticationTokenTenant" => {
            "the subscription is of another tenant than the identity: name its tenant in credential.tenant_id \
             (AZURE_TENANT_ID), or, for a person: az login --tenant TENANT"
                .to_owned()
        }
        "NoRegisteredProviderFound" | "LocationNotAvailableForResourceType" => {
            "is it a region (--location, management.location), and management.api_version a version? This lists the \
             regions: az account list-locations --query [].name --output tsv"
                .to_owned()
        }
        "ResourceNotFound" | "ResourceGroupNotFound" | "ParentResourceNotFound" => {
            "are management.resource_group and management.account right? This lists the accounts: az cognitiveservices \
             account list --output table"
                .to_owned()
        }
        "MissingSubscriptionRegistration" | "SubscriptionNotRegistered" => {
            "az provider register --namespace Microsoft.CognitiveServices".to_owned()
        }
        _ => return None,
    })
}
