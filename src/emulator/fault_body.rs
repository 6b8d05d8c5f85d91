//! The bodies Azure's services usually send with a failure, for faults that name only a status.

use http::StatusCode;
use serde_json::{Value, json};

use super::openai::refusal::{Refusal, failure};
use super::route::Route;

/// The body that usually comes with `status` on `route`.
pub(super) fn usual_body(route: Route, status: StatusCode) -> String {
    match route {
        Route::Imds | Route::Metadata | Route::AppService => managed_identity(status),
        Route::Entra => entra(status),
        Route::Management => management(status),
        Route::Chat
        | Route::Responses
        | Route::Embeddings
        | Route::Files
        | Route::Models
        | Route::Realtime
        | Route::OpenAi => data_plane(status),
    }
    .to_string()
}

fn managed_identity(status: StatusCode) -> Value {
    let error = match status {
        StatusCode::BAD_REQUEST => "invalid_request",
        StatusCode::UNAUTHORIZED => "unauthorized_client",
        StatusCode::TOO_MANY_REQUESTS => "too_many_requests",
        _ => "unknown",
    };
    json!({ "error": error, "error_description": text(status) })
}

fn entra(status: StatusCode) -> Value {
    let (error, code) = match status {
        StatusCode::BAD_REQUEST => ("invalid_request", 900_144),
        StatusCode::UNAUTHORIZED => ("invalid_client", 7_000_215),
        _ => ("temporarily_unavailable", 90_033),
    };
    json!({
        "error": error,
        "error_description": format!("AADSTS{code}: {}\r\nThe emulator was asked for this failure.", text(status)),
        "error_codes": [code],
    })
}

fn management(status: StatusCode) -> Value {
    let code = match status {
        StatusCode::UNAUTHORIZED => "ExpiredAuthenticationToken",
        StatusCode::FORBIDDEN => "AuthorizationFailed",
        StatusCode::NOT_FOUND => "ResourceNotFound",
        StatusCode::TOO_MANY_REQUESTS => "SubscriptionRequestsThrottled",
        StatusCode::SERVICE_UNAVAILABLE => "ServerTimeout",
        _ => "InternalServerError",
    };
    json!({ "error": { "code": code, "message": text(status) } })
}

fn data_plane(status: StatusCode) -> Value {
    match status {
        StatusCode::UNAUTHORIZED => Refusal::StaleToken.body(),
        StatusCode::FORBIDDEN => failure("403", "Access denied due to Virtual Network/Firewall rules."),
        StatusCode::NOT_FOUND => Refusal::DeploymentNotFound.body(),
        StatusCode::TOO_MANY_REQUESTS => failure(
            "429",
            "Requests to the ChatCompletions_Create Operation under Azure OpenAI API have exceeded token rate limit \
             of your current OpenAI S0 pricing tier. Please retry after 1 second. Please go here: \
             https://aka.ms/oai/quotaincrease if you would like to further increase the default rate limit.",
        ),
        StatusCode::INTERNAL_SERVER_ERROR => failure(
            "500",
            "The server had an error processing your request. Sorry about that! You can retry your request.",
        ),
        StatusCode::SERVICE_UNAVAILABLE => failure(
            "ServiceUnavailable",
            "The server is currently overloaded with other requests. Sorry about that! You can retry your request.",
        ),
        other => failure(other.as_str(), text(other)),
    }
}

fn text(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("The emulator was asked for this failure.")
}
