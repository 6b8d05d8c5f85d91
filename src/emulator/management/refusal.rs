//! Why ARM refuses a request, in its own words.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::WWW_AUTHENTICATE;
use serde_json::json;

use super::API_VERSIONS;
use crate::emulator::tokens::Flaw;
use crate::emulator::world::{LOCATION, TENANT_ID};

/// What is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No token came along.
    NoToken,
    /// The token that came along is no good.
    BadToken(Flaw),
    /// The principal has no role on the subscription.
    AuthorizationFailed { client_id: String, object_id: String, path: String },
    /// The tenant has no such subscription.
    SubscriptionNotFound(String),
    /// The subscription has no such resource group.
    GroupNotFound(String),
    /// The resource group has no such account.
    AccountNotFound { group: String, account: String },
    /// The query does not say which version of the interface is meant.
    MissingApiVersion,
    /// The provider is not there at this location, or not in this version.
    NoProvider { location: String, version: String },
    /// Nobody handed out this skip token.
    SkipToken,
    /// The emulator does not have this part of ARM.
    NoSuchType(String),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code, message) = (self.status(), self.code(), self.message());
        let body = Json(json!({ "error": { "code": code, "message": message } }));
        if status != StatusCode::UNAUTHORIZED {
            return (status, body).into_response();
        }
        let challenge = format!(
            "Bearer authorization_uri=\"https://login.windows.net/{TENANT_ID}\", error=\"invalid_token\", \
             error_description=\"{message}\""
        );
        (status, [(WWW_AUTHENTICATE, challenge)], body).into_response()
    }
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoToken | Self::BadToken(_) => StatusCode::UNAUTHORIZED,
            Self::AuthorizationFailed { .. } => StatusCode::FORBIDDEN,
            Self::SubscriptionNotFound(_)
            | Self::GroupNotFound(_)
            | Self::AccountNotFound { .. }
            | Self::NoProvider { .. }
            | Self::NoSuchType(_) => StatusCode::NOT_FOUND,
            Self::MissingApiVersion | Self::SkipToken => StatusCode::BAD_REQUEST,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NoToken => "AuthenticationFailed",
            Self::BadToken(Flaw::Expired | Flaw::Revoked) => "ExpiredAuthenticationToken",
            Self::BadToken(Flaw::Audience) => "InvalidAuthenticationTokenAudience",
            Self::BadToken(Flaw::Tenant) => "InvalidAuthenticationTokenTenant",
            Self::BadToken(Flaw::Early | Flaw::Invalid) => "InvalidAuthenticationToken",
            Self::AuthorizationFailed { .. } => "AuthorizationFailed",
            Self::SubscriptionNotFound(_) => "SubscriptionNotFound",
            Self::GroupNotFound(_) => "ResourceGroupNotFound",
            Self::AccountNotFound { .. } => "ResourceNotFound",
            Self::MissingApiVersion => "MissingApiVersionParameter",
            Self::NoProvider { .. } => "NoRegisteredProviderFound",
            Self::SkipToken => "InvalidSkipToken",
            Self::NoSuchType(_) => "InvalidResourceType",
        }
    }

    fn message(&self) -> String {
        match self {
            Self::NoToken => "Authentication failed. The 'Authorization' header is missing.".to_owned(),
            Self::BadToken(flaw) => token_message(*flaw).to_owned(),
            Self::AuthorizationFailed { client_id, object_id, path } => format!(
                "The client '{client_id}' with object id '{object_id}' does not have authorization to perform action \
                 '{}' over scope '{path}' or the scope is invalid. If access was recently granted, please refresh \
                 your credentials.",
                action(path)
            ),
            Self::SubscriptionNotFound(id) => format!("The subscription '{id}' could not be found."),
            Self::GroupNotFound(group) => format!("Resource group '{group}' could not be found."),
            Self::AccountNotFound { group, account } => format!(
                "The Resource 'Microsoft.CognitiveServices/accounts/{account}' under resource group '{group}' was not \
                 found. For more details please go to https://aka.ms/ARMResourceNotFoundFix"
            ),
            Self::MissingApiVersion => {
                "The api-version query parameter (?api-version=) is required for all requests.".to_owned()
            }
            Self::NoProvider { location, version } => format!(
                "No registered resource provider found for location '{location}' and API version '{version}' for type \
                 'locations/models'. The supported api-versions are '{}'. The supported locations are '{LOCATION}'.",
                API_VERSIONS.join(", ")
            ),
            Self::SkipToken => "The skip token is invalid.".to_owned(),
            Self::NoSuchType(path) => format!("The resource type could not be found at '{path}'."),
        }
    }
}

fn token_message(flaw: Flaw) -> &'static str {
    match flaw {
        Flaw::Expired => "The access token has expired.",
        Flaw::Revoked => "The access token has expired or been revoked.",
        Flaw::Audience => {
            "The access token has been obtained for wrong audience or resource. It should exactly match with one of \
             the allowed audiences 'https://management.core.windows.net/','https://management.azure.com/'."
        }
        Flaw::Tenant => {
            "The access token is from the wrong issuer. It must match the tenant associated with this subscription."
        }
        Flaw::Early | Flaw::Invalid => "The access token is invalid.",
    }
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
