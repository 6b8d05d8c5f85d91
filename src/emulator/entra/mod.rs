//! Entra's token endpoint for programs: client credentials with a secret or an assertion.

mod refusal;

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::StatusCode;
use http::header::CACHE_CONTROL;
use serde_json::{Value, json};

use self::refusal::Refusal;
use super::client_certificate;
use super::control::Control;
use super::gate::{Gate, gate};
use super::route::Server;
use super::world::{CLIENT_SECRET, Principal, SERVICE_PRINCIPAL, TENANT_ID, USER_ASSIGNED, knows_resource};

/// The kind of client assertion that Entra takes.
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What the endpoint needs.
#[derive(Debug, Clone)]
struct Entra {
    control: Arc<Control>,
    origin: Arc<str>,
}

/// The authority as a service that clients reach at `origin`.
pub(super) fn router(control: Arc<Control>, origin: String) -> Router {
    Router::new()
        .route("/{tenant}/oauth2/v2.0/token", post(token))
        .route("/{tenant}/v2.0/.well-known/openid-configuration", get(configuration))
        .route("/{tenant}/discovery/v2.0/keys", get(keys))
        .with_state(Entra { control: control.clone(), origin: origin.into() })
        .layer(from_fn_with_state(Gate { server: Server::Entra, control }, gate))
}

async fn token(State(entra): State<Entra>, Path(tenant): Path<String>, body: Bytes) -> Response {
    let form: HashMap<String, String> = url::form_urlencoded::parse(&body).into_owned().collect();
    let now = entra.control.tokens.now();
    match entra.grant(&tenant, &form) {
        Ok(body) => ([(CACHE_CONTROL, "no-store, no-cache")], Json(body)).into_response(),
        Err(refusal) => (refusal.status(), Json(refusal.body(&entra.origin, now))).into_response(),
    }
}

/// Where libraries look for the rest of the authority.
async fn configuration(State(entra): State<Entra>, Path(tenant): Path<String>) -> Response {
    let Entra { control, origin } = entra;
    if !is_tenant(&tenant) {
        let body = Refusal::UnknownTenant(tenant).body(&origin, control.tokens.now());
        return (StatusCode::BAD_REQUEST, Json(body)).into_response();
    }
    Json(json!({
        "issuer": format!("{origin}/{TENANT_ID}/v2.0"),
        "token_endpoint": format!("{origin}/{TENANT_ID}/oauth2/v2.0/token"),
        "authorization_endpoint": format!("{origin}/{TENANT_ID}/oauth2/v2.0/authorize"),
        "jwks_uri": format!("{origin}/{TENANT_ID}/discovery/v2.0/keys"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
    }))
    .into_response()
}

async fn keys(State(entra): State<Entra>) -> Json<Value> {
    Json(entra.control.tokens.key_set())
}

impl Entra {
    fn grant(&self, tenant: &str, form: &HashMap<String, String>) -> Result<Value, Refusal> {
        if !is_tenant(tenant) {
            return Err(Refusal::UnknownTenant(tenant.to_owned()));
        }
        let grant_type = required(form, "grant_type")?;
        if grant_type != "client_credentials" {
            return Err(Refusal::GrantType(grant_type.to_owned()));
        }
        let client_id = required(form, "client_id")?;
        let resource = resource(required(form, "scope")?)?;
        let principal = self.authenticate(client_id, tenant, form)?;
        let issued = self.control.tokens.entra(&principal, resource);
        let expires_in = issued.expires_in(self.control.tokens.now());
        Ok(json!({
            "token_type": "Bearer",
            "expires_in": expires_in,
            "ext_expires_in": expires_in,
            "access_token": issued.token,
        }))
    }

    fn authenticate(
        &self,
        client_id: &str,
        tenant: &str,
        form: &HashMap<String, String>,
    ) -> Result<Principal, Refusal> {
        let known = [SERVICE_PRINCIPAL, USER_ASSIGNED];
        let principal = known.into_iter().find(|principal| principal.client_id.eq_ignore_ascii_case(client_id));
        let principal = principal.ok_or_else(|| Refusal::UnknownClient(client_id.to_owned()))?;
        if let Some(assertion) = form.get("client_assertion") {
            if form.get("client_assertion_type").is_none_or(|kind| kind != JWT_BEARER) {
                return Err(Refusal::AssertionType);
            }
            if client_certificate::is_meant(assertion) {
                return self.judge_certificate(principal, tenant, assertion);
            }
            self.control.tokens.judge_federated(assertion)?;
            // The application has no federated credential.
            return if principal == USER_ASSIGNED { Ok(principal) } else { Err(Refusal::NoFederatedCredential) };
        }
        let secret = form.get("client_secret").ok_or(Refusal::NoCredential)?;
        if principal != SERVICE_PRINCIPAL || secret != CLIENT_SECRET {
            Err(Refusal::WrongSecret(principal.client_id))
        } else if self.control.is_secret_expired() {
            Err(Refusal::ExpiredSecret(principal.client_id))
        } else {
            Ok(principal)
        }
    }

    /// Only the application has a certificate. An assertion may be for the token endpoint or for the issuer.
    fn judge_certificate(&self, principal: Principal, tenant: &str, assertion: &str) -> Result<Principal, Refusal> {
        let endpoint = format!("{}/{tenant}/oauth2/v2.0/token", self.origin);
        let issuer = format!("{}/{tenant}/v2.0", self.origin);
        client_certificate::judge(self.control.tokens.now(), &[&endpoint, &issuer], assertion)?;
        if principal == SERVICE_PRINCIPAL { Ok(principal) } else { Err(Refusal::AssertionOfAnother) }
    }
}

fn is_tenant(tenant: &str) -> bool {
    tenant.eq_ignore_ascii_case(TENANT_ID)
}

fn required<'a>(form: &'a HashMap<String, String>, name: &'static str) -> Result<&'a str, Refusal> {
    form.get(name).map(String::as_str).filter(|value| !value.is_empty()).ok_or(Refusal::Missing(name))
}

/// The resource of a scope, which must be all that a program may do with one resource.
fn resource(scope: &str) -> Result<&str, Refusal> {
    let resource = scope.strip_suffix("/.default").ok_or_else(|| Refusal::Scope(scope.to_owned()))?;
    if knows_resource(resource) { Ok(resource) } else { Err(Refusal::UnknownResource(resource.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_names_a_known_resource() {
        assert_eq!(resource("https://ai.azure.com/.default"), Ok("https://ai.azure.com"));
        assert_eq!(
            resource("https://management.core.windows.net//.default"),
            Ok("https://management.core.windows.net/")
        );
        assert!(matches!(resource("https://ai.azure.com"), Err(Refusal::Scope(_))));
        assert!(matches!(resource("https://example.invalid/.default"), Err(Refusal::UnknownResource(_))));
    }
}
