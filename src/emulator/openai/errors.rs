//! The data plane's failures, in the shapes Azure gives them.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

/// The body most failures have.
pub(in crate::emulator) fn body(code: &str, message: &str) -> Value {
    json!({ "error": { "code": code, "message": message } })
}

/// The body that says that the access token is no good. Its shape differs from all others.
pub(in crate::emulator) fn stale_token_body() -> Value {
    json!({
        "statusCode": 401,
        "message": "Unauthorized. Access token is missing, invalid, audience is incorrect \
                    (https://cognitiveservices.azure.com), or have expired.",
    })
}

/// The body that says that there is no such deployment.
pub(in crate::emulator) fn deployment_not_found_body() -> Value {
    body(
        "DeploymentNotFound",
        "The API deployment for this resource does not exist. If you created the deployment within the last 5 \
         minutes, please wait a moment and try again.",
    )
}

/// No good access token came with the request.
pub(super) fn stale_token() -> Response {
    (StatusCode::UNAUTHORIZED, Json(stale_token_body())).into_response()
}

/// The token is good, and its principal has no role on the account.
pub(super) fn permission_denied(object_id: &str, action: &str, operation: &str) -> Response {
    let message = format!(
        "The principal `{object_id}` lacks the required data action \
         `Microsoft.CognitiveServices/accounts/OpenAI/{action}` to perform `{operation}` operation."
    );
    (StatusCode::UNAUTHORIZED, Json(body("PermissionDenied", &message))).into_response()
}

/// The account has no such deployment.
pub(super) fn deployment_not_found() -> Response {
    (StatusCode::NOT_FOUND, Json(deployment_not_found_body())).into_response()
}

/// There is no such path, or its `api-version` is missing.
pub(super) fn resource_not_found() -> Response {
    (StatusCode::NOT_FOUND, Json(body("404", "Resource not found"))).into_response()
}

/// There is no such file, response or model.
pub(super) fn item_not_found(what: &str, id: &str) -> Response {
    invalid(StatusCode::NOT_FOUND, &format!("{what} with id '{id}' not found."), Some("id"), None)
}

/// The request's content is wrong; `param` is the part that is.
pub(super) fn bad_request(message: &str, param: Option<&str>) -> Response {
    invalid(StatusCode::BAD_REQUEST, message, param, None)
}

/// The request's content is wrong in a way that has a code.
pub(super) fn bad_request_with_code(message: &str, param: Option<&str>, code: &str) -> Response {
    invalid(StatusCode::BAD_REQUEST, message, param, Some(code))
}

/// The model of the deployment cannot do this.
pub(super) fn operation_not_supported(operation: &str, model: &str) -> Response {
    let message = format!(
        "The {operation} operation does not work with the specified model, {model}. Please choose different model \
         and try again. You can learn more about which models can be used with each operation here: \
         https://go.microsoft.com/fwlink/?linkid=2197993."
    );
    (StatusCode::BAD_REQUEST, Json(body("OperationNotSupported", &message))).into_response()
}

/// The prompt met the content filter.
pub(super) fn content_filter() -> Response {
    let error = json!({ "error": {
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
    } });
    (StatusCode::BAD_REQUEST, Json(error)).into_response()
}

/// The upload does not fit into the emulator.
pub(super) fn too_large(message: &str) -> Response {
    invalid(StatusCode::PAYLOAD_TOO_LARGE, message, Some("file"), None)
}

/// More fields of the client's own than Azure lets through.
pub(super) fn too_many_fields(count: usize, most: usize) -> Response {
    let message = format!(
        "Request Header Fields Too Large: {count} custom request headers, and Azure OpenAI allows at most {most}."
    );
    (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, Json(body("431", &message))).into_response()
}

/// The emulator's own complaint, never Azure's: a proxy in front of it let something through.
pub(super) fn violation(what: &str) -> Response {
    let message = format!("emulator: proxy violated its contract: {what}");
    (StatusCode::BAD_REQUEST, Json(body("EmulatorProxyViolation", &message))).into_response()
}

fn invalid(status: StatusCode, message: &str, param: Option<&str>, code: Option<&str>) -> Response {
    let error = json!({ "message": message, "type": "invalid_request_error", "param": param, "code": code });
    (status, Json(json!({ "error": error }))).into_response()
}
