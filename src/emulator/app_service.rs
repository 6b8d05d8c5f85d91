//! The managed identity endpoint of App Service, Functions and Container Apps.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use serde_json::json;

use super::control::Control;
use super::identity_query::{Dialect, IdentityQuery, QueryProblem};
use super::tokens::Issued;

/// Where the endpoint serves tokens.
pub(super) const PATH: &str = "/msi/token";

/// The field that proves that a request comes from within the app.
const SECRET_FIELD: &str = "x-identity-header";

const DIALECT: Dialect = Dialect {
    api_versions: &["2019-08-01"],
    object_id: &["principal_id", "object_id"],
    resource_id: &["mi_res_id", "msi_res_id"],
};

/// What the endpoint needs.
#[derive(Debug, Clone)]
pub(super) struct AppService {
    pub(super) control: Arc<Control>,
    pub(super) secret: Arc<str>,
}

/// Answers a token request.
pub(super) async fn token(State(app): State<AppService>, request: Request) -> Response {
    if request.method() != Method::GET {
        return failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "Only GET is supported");
    }
    if request.headers().get(SECRET_FIELD).is_none_or(|secret| secret.as_bytes() != app.secret.as_bytes()) {
        return failure(StatusCode::UNAUTHORIZED, "Unauthorized", "X-IDENTITY-HEADER is missing or wrong");
    }
    match IdentityQuery::parse(request.uri().query().unwrap_or_default(), &DIALECT) {
        Ok(query) => granted(&app.control.tokens.managed_identity(&query.principal, &query.resource)),
        Err(problem) => refused(&problem),
    }
}

fn granted(issued: &Issued) -> Response {
    Json(json!({
        "access_token": issued.token,
        "client_id": issued.claims.appid,
        "expires_on": issued.claims.exp.to_string(),
        "resource": issued.claims.aud,
        "token_type": "Bearer",
    }))
    .into_response()
}

fn refused(problem: &QueryProblem) -> Response {
    let message = match problem {
        QueryProblem::ApiVersion => "Unsupported API version; this endpoint supports 2019-08-01".to_owned(),
        QueryProblem::Duplicate(name) => format!("Query parameter '{name}' was specified more than once"),
        QueryProblem::NoResource => "Parameter 'resource' is required".to_owned(),
        QueryProblem::UnknownResource(resource) => {
            format!("AADSTS500011: The resource principal named {resource} was not found in the tenant")
        }
        QueryProblem::SeveralIdentities => "Only one of client_id, principal_id and mi_res_id may be given".to_owned(),
        QueryProblem::IdentityNotFound => "No User Assigned or Delegated Managed Identity found for specified \
                                           ClientId/ResourceId/PrincipalId."
            .to_owned(),
    };
    failure(StatusCode::BAD_REQUEST, "BadRequest", &message)
}

fn failure(status: StatusCode, code: &str, message: &str) -> Response {
    let body = json!({ "statusCode": status.as_u16(), "code": code, "message": message });
    (status, Json(body)).into_response()
}
