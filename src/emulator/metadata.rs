//! IMDS: the managed identity endpoint of virtual machines.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode};
use serde_json::json;

use super::control::Control;
use super::identity_query::{Dialect, IdentityQuery, QueryProblem};
use super::tokens::Issued;
use super::world::TENANT_ID;

/// Where IMDS serves tokens.
pub(super) const PATH: &str = "/metadata/identity/oauth2/token";

/// Where IMDS says which versions it speaks; programs ask here whether it is there.
pub(super) const VERSIONS: &str = "/metadata/versions";

/// Versions from the oldest to the newest; SDKs use 2018-02-01 and 2019-08-01.
const DIALECT: Dialect = Dialect {
    api_versions: &[
        "2018-02-01",
        "2018-04-02",
        "2018-10-01",
        "2019-02-01",
        "2019-03-11",
        "2019-04-30",
        "2019-06-01",
        "2019-06-04",
        "2019-08-01",
        "2019-08-15",
        "2019-11-01",
        "2020-06-01",
        "2020-07-15",
        "2020-09-01",
        "2020-10-01",
        "2020-12-01",
        "2021-01-01",
        "2021-02-01",
        "2021-03-01",
        "2021-05-01",
        "2021-10-01",
        "2021-11-01",
        "2021-11-15",
        "2021-12-13",
        "2023-07-01",
        "2023-11-15",
        "2024-03-15",
        "2024-07-17",
        "2025-04-07",
    ],
    object_id: &["object_id", "principal_id"],
    resource_id: &["msi_res_id", "mi_res_id"],
};

/// How many versions an error lists.
const NEWEST: usize = 3;

/// Answers a token request.
pub(super) async fn token(State(control): State<Arc<Control>>, request: Request) -> Response {
    if request.method() != Method::GET {
        let allow = [(http::header::ALLOW, "GET")];
        return (StatusCode::METHOD_NOT_ALLOWED, allow, Json(json!({ "error": "Method not allowed" }))).into_response();
    }
    if let Some(refusal) = refuse_fields(request.headers()) {
        return refusal;
    }
    match IdentityQuery::parse(request.uri().query().unwrap_or_default(), &DIALECT) {
        Ok(query) => {
            let issued = control.tokens.managed_identity(&query.principal, &query.resource);
            granted(&issued, control.tokens.now())
        }
        Err(problem) => refused(&problem),
    }
}

/// Answers which versions there are.
pub(super) async fn versions(fields: HeaderMap) -> Response {
    refuse_fields(&fields).unwrap_or_else(|| Json(json!({ "apiVersions": DIALECT.api_versions })).into_response())
}

/// Requests that were forwarded, or that a browser was tricked into, do not get a token.
fn refuse_fields(fields: &HeaderMap) -> Option<Response> {
    if fields.contains_key("x-forwarded-for") {
        return Some(bad_request("bad_request_102", "Requests with X-Forwarded-For are not served"));
    }
    if fields.get("metadata").is_none_or(|value| !value.as_bytes().eq_ignore_ascii_case(b"true")) {
        return Some(bad_request("bad_request_102", "Required metadata header not specified"));
    }
    None
}

/// All values are strings, also the numbers.
fn granted(issued: &Issued, now: u64) -> Response {
    let expires_in = issued.expires_in(now).to_string();
    Json(json!({
        "access_token": issued.token,
        "client_id": issued.claims.appid,
        "expires_in": expires_in,
        "expires_on": issued.claims.exp.to_string(),
        "ext_expires_in": expires_in,
        "not_before": issued.claims.nbf.to_string(),
        "refresh_token": "",
        "resource": issued.claims.aud,
        "token_type": "Bearer",
    }))
    .into_response()
}

fn refused(problem: &QueryProblem) -> Response {
    match problem {
        QueryProblem::ApiVersion => {
            let newest: Vec<_> = DIALECT.api_versions.iter().rev().take(NEWEST).collect();
            let error = "Bad request. api-version is invalid or was not specified in the request. For more \
                         information refer to aka.ms/azureimds";
            (StatusCode::BAD_REQUEST, Json(json!({ "error": error, "newest-versions": newest }))).into_response()
        }
        QueryProblem::Duplicate(name) => {
            bad_request("invalid_request", &format!("Query parameter '{name}' was specified more than once"))
        }
        QueryProblem::NoResource => bad_request("invalid_request", "Required query variable 'resource' is missing"),
        QueryProblem::UnknownResource(resource) => bad_request(
            "invalid_resource",
            &format!(
                "AADSTS500011: The resource principal named {resource} was not found in the tenant named \
                 {TENANT_ID}. This can happen if the application has not been installed by the administrator of the \
                 tenant or consented to by any user in the tenant. You might have sent your authentication request \
                 to the wrong tenant."
            ),
        ),
        QueryProblem::SeveralIdentities => {
            bad_request("invalid_request", "Only one of client_id, object_id and msi_res_id may be specified")
        }
        QueryProblem::IdentityNotFound => bad_request("invalid_request", "Identity not found"),
    }
}

fn bad_request(error: &str, description: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": error, "error_description": description }))).into_response()
}
