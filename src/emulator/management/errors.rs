//! ARM's failures, in its own words.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::WWW_AUTHENTICATE;
use serde_json::json;

use crate::emulator::tokens::Refusal;
use crate::emulator::world::TENANT_ID;

/// No token came along.
pub(super) fn no_token() -> Response {
    unauthorized("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
}

/// The token that came along is no good.
pub(super) fn bad_token(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Expired => unauthorized("ExpiredAuthenticationToken", "The access token has expired."),
        Refusal::Revoked => {
            unauthorized("ExpiredAuthenticationToken", "The access token has been revoked or has expired.")
        }
        Refusal::Audience => unauthorized(
            "InvalidAuthenticationTokenAudience",
            "The access token has been obtained for wrong audience or resource. It should exactly match with one of \
             the allowed audiences 'https://management.core.windows.net/','https://management.azure.com/'.",
        ),
        Refusal::Tenant => unauthorized(
            "InvalidAuthenticationTokenTenant",
            "The access token is from the wrong issuer. It must match the tenant associated with this subscription.",
        ),
        Refusal::Early | Refusal::Invalid => unauthorized("InvalidAuthenticationToken", "The access token is invalid."),
    }
}

/// The principal has no role on the subscription.
pub(super) fn authorization_failed(client_id: &str, object_id: &str, path: &str) -> Response {
    let action = action(path);
    let message = format!(
        "The client '{client_id}' with object id '{object_id}' does not have authorization to perform action \
         '{action}' over scope '{path}' or the scope is invalid. If access was recently granted, please refresh your \
         credentials."
    );
    failure(StatusCode::FORBIDDEN, "AuthorizationFailed", &message)
}

/// The tenant has no such subscription.
pub(super) fn subscription_not_found(subscription: &str) -> Response {
    let message = format!("The subscription '{subscription}' could not be found.");
    failure(StatusCode::NOT_FOUND, "SubscriptionNotFound", &message)
}

/// The subscription has no such resource group.
pub(super) fn group_not_found(group: &str) -> Response {
    let message = format!("Resource group '{group}' could not be found.");
    failure(StatusCode::NOT_FOUND, "ResourceGroupNotFound", &message)
}

/// The resource group has no such account.
pub(super) fn account_not_found(group: &str, account: &str) -> Response {
    let message = format!(
        "The Resource 'Microsoft.CognitiveServices/accounts/{account}' under resource group '{group}' was not found. \
         For more details please go to https://aka.ms/ARMResourceNotFoundFix"
    );
    failure(StatusCode::NOT_FOUND, "ResourceNotFound", &message)
}

/// The query does not say which version of the interface is meant.
pub(super) fn missing_api_version() -> Response {
    failure(
        StatusCode::BAD_REQUEST,
        "MissingApiVersionParameter",
        "The api-version query parameter (?api-version=) is required for all requests.",
    )
}

/// The provider is not there at this location, or not in this version.
pub(super) fn no_provider(location: &str, version: &str, known: &[&str]) -> Response {
    let message = format!(
        "No registered resource provider found for location '{location}' and API version '{version}' for type \
         'locations/models'. The supported api-versions are '{}'. The supported locations are 'swedencentral'.",
        known.join(", ")
    );
    failure(StatusCode::NOT_FOUND, "NoRegisteredProviderFound", &message)
}

/// Nobody handed out this skip token.
pub(super) fn bad_skip_token() -> Response {
    failure(StatusCode::BAD_REQUEST, "InvalidSkipToken", "The skip token is invalid.")
}

/// The emulator does not have this part of ARM.
pub(super) fn no_route(path: &str) -> Response {
    let message = format!("The resource type could not be found at '{path}'.");
    failure(StatusCode::NOT_FOUND, "InvalidResourceType", &message)
}

fn unauthorized(code: &str, message: &str) -> Response {
    let challenge = format!(
        "Bearer authorization_uri=\"https://login.windows.net/{TENANT_ID}\", error=\"invalid_token\", \
         error_description=\"{message}\""
    );
    ([(WWW_AUTHENTICATE, challenge)], failure(StatusCode::UNAUTHORIZED, code, message)).into_response()
}

fn failure(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "error": { "code": code, "message": message } }))).into_response()
}

/// The action that reading `path` is.
fn action(path: &str) -> &'static str {
    if path.ends_with("/models") {
        "Microsoft.CognitiveServices/locations/models/read"
    } else if path.ends_with("/deployments") {
        "Microsoft.CognitiveServices/accounts/deployments/read"
    } else {
        "Microsoft.CognitiveServices/accounts/read"
    }
}
