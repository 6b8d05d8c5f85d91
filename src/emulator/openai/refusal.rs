//! Why the data plane refuses a request, in the shapes Azure gives its failures.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

/// What is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::emulator) enum Refusal {
    /// No good access token came with it.
    StaleToken,
    /// The token is good, and its principal has no role on the account.
    PermissionDenied { object_id: String, action: &'static str, operation: String },
    /// The account has no such deployment.
    DeploymentNotFound,
    /// There is no such path, or its `api-version` is missing.
    ResourceNotFound,
    /// There is no such file, response or model.
    ItemNotFound { kind: &'static str, id: String },
    /// A parameter is missing.
    Missing(&'static str),
    /// A parameter, or the body as a whole, is wrong.
    Invalid { message: String, param: Option<&'static str> },
    /// The response that the client refers to is not there.
    PreviousResponseNotFound(String),
    /// The v1 interface does not have this version.
    ApiVersion,
    /// The model of the deployment cannot do this.
    OperationNotSupported { operation: &'static str, model: &'static str },
    /// The prompt met the content filter.
    ContentFilter,
    /// The body does not fit.
    TooLarge(String),
    /// The client sent more fields of its own than Azure lets through.
    TooManyFields { count: usize, most: usize },
    /// The emulator's own complaint, never Azure's: a proxy in front of it let something through.
    ProxyViolation(String),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status(), Json(self.body())).into_response()
    }
}

impl Refusal {
    /// The status.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::StaleToken | Self::PermissionDenied { .. } => StatusCode::UNAUTHORIZED,
            Self::DeploymentNotFound | Self::ResourceNotFound | Self::ItemNotFound { .. } => StatusCode::NOT_FOUND,
            Self::Missing(_)
            | Self::Invalid { .. }
            | Self::PreviousResponseNotFound(_)
            | Self::ApiVersion
            | Self::OperationNotSupported { .. }
            | Self::ContentFilter
            | Self::ProxyViolation(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooManyFields { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        }
    }

    /// The body. That of a stale token has a shape of its own.
    pub(in crate::emulator) fn body(&self) -> Value {
        match self {
            Self::StaleToken => json!({
                "statusCode": 401,
                "message": "Unauthorized. Access token is missing, invalid, audience is incorrect \
                            (https://cognitiveservices.azure.com), or have expired.",
            }),
            Self::PermissionDenied { object_id, action, operation } => failure(
                "PermissionDenied",
                &format!(
                    "The principal `{object_id}` lacks the required data action \
                     `Microsoft.CognitiveServices/accounts/OpenAI/{action}` to perform `{operation}` operation."
                ),
            ),
            Self::DeploymentNotFound => failure(
                "DeploymentNotFound",
                "The API deployment for this resource does not exist. If you created the deployment within the last 5 \
                 minutes, please wait a moment and try again.",
            ),
            Self::ResourceNotFound => failure("404", "Resource not found"),
            Self::ItemNotFound { kind, id } => invalid(&format!("{kind} with id '{id}' not found."), Some("id"), None),
            Self::Missing(name) => invalid(&format!("Missing required parameter: '{name}'."), Some(name), None),
            Self::Invalid { message, param } => invalid(message, *param, None),
            Self::PreviousResponseNotFound(id) => {
                let message = format!("Previous response with id '{id}' not found.");
                invalid(&message, Some("previous_response_id"), Some("previous_response_not_found"))
            }
            Self::ApiVersion => failure("BadRequest", "API version not supported"),
            Self::OperationNotSupported { operation, model } => failure(
                "OperationNotSupported",
                &format!(
                    "The {operation} operation does not work with the specified model, {model}. Please choose \
                     different model and try again. You can learn more about which models can be used with each \
                     operation here: https://go.microsoft.com/fwlink/?linkid=2197993."
                ),
            ),
            Self::ContentFilter => content_filter(),
            Self::TooLarge(message) => invalid(message, None, None),
            Self::TooManyFields { count, most } => failure(
                "431",
                &format!(
                    "Request Header Fields Too Large: {count} custom request headers, and Azure OpenAI allows at most \
                     {most}."
                ),
            ),
            Self::ProxyViolation(what) => {
                failure("EmulatorProxyViolation", &format!("emulator: proxy violated its contract: {what}"))
            }
        }
    }
}

/// The body most failures have.
pub(in crate::emulator) fn failure(code: &str, message: &str) -> Value {
    json!({ "error": { "code": code, "message": message } })
}

/// The body of failures that the model's interface finds, and not Azure's gateway.
fn invalid(message: &str, param: Option<&str>, code: Option<&str>) -> Value {
    json!({ "error": { "message": message, "type": "invalid_request_error", "param": param, "code": code } })
}

fn content_filter() -> Value {
    json!({ "error": {
        "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. \
                    Please modify your prompt and retry. To learn more about our content filtering policies please \
                    read our documentation: https://go.microsoft.com/fwlink/?linkid=2198766",
        "type": null,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {
                "hate": { "filtered": false, "severity": "safe" },
                "jailbreak": { "filtered": false, "detected": false },
                "self_harm": { "filtered": false, "severity": "safe" },
                "sexual": { "filtered": false, "severity": "safe" },
                "violence": { "filtered": true, "severity": "high" },
            },
        },
    } })
}
