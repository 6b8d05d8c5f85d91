//! Lets only requests in that carry a good access token of a principal with a role on the account.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method};

use super::realtime::calls;
use super::realtime::client_secrets::{self, ClientSecrets};
use super::refusal::Refusal;
use crate::emulator::control::Control;
use crate::emulator::route::{Route, Server};
use crate::emulator::world::OPENAI_AUDIENCES;

/// Whom the access token speaks for, among a request's extensions.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// The principal's object id.
    pub(super) object_id: String,
    /// What the token is for.
    pub(super) audience: String,
}

/// What there is to ask whether a request may pass.
#[derive(Debug, Clone)]
pub(super) struct Doorkeeper {
    pub(super) control: Arc<Control>,
    pub(super) secrets: Arc<ClientSecrets>,
}

/// The middleware.
pub(super) async fn authorize(State(keeper): State<Doorkeeper>, mut request: Request, next: Next) -> Response {
    match admit(&keeper, &request) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

fn admit(Doorkeeper { control, secrets }: &Doorkeeper, request: &Request) -> Result<Caller, Refusal> {
    let token = bearer(request.headers()).ok_or(Refusal::StaleToken)?;
    if request.uri().path() == calls::PATH && client_secrets::is_one(token) {
        return secrets.owner(token, control.tokens.now()).ok_or(Refusal::StaleToken);
    }
    let claims = control.tokens.judge(token, &OPENAI_AUDIENCES).map_err(|flaw| {
        tracing::debug!(?flaw, "emulator refuses an access token");
        Refusal::StaleToken
    })?;
    if !control.has_role() {
        let (action, operation) = data_action(request.method(), request.uri().path());
        return Err(Refusal::PermissionDenied { object_id: claims.oid, action, operation });
    }
    Ok(Caller { object_id: claims.oid, audience: claims.aud })
}

/// The token of the `Authorization` field.
pub(in crate::emulator) fn bearer(fields: &HeaderMap) -> Option<&str> {
    let (scheme, token) = fields.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim())
}

/// What the principal would have to be allowed, and for which operation, as Azure names them.
fn data_action(method: &Method, path: &str) -> (&'static str, String) {
    let (action, operation) = match (Route::of(Server::OpenAi, path), method) {
        (Route::Chat, _) => {
            ("deployments/chat/completions/action", "/openai/deployments/{deployment-id}/chat/completions")
        }
        (Route::Embeddings, _) => ("deployments/embeddings/action", "/openai/deployments/{deployment-id}/embeddings"),
        (Route::Responses, &Method::GET) => ("responses/read", path),
        (Route::Responses, _) => ("responses/write", path),
        (Route::Files, &Method::GET) => ("files/read", path),
        (Route::Files, _) => ("files/write", path),
        (Route::Models, _) => ("models/read", path),
        (Route::Realtime, _) => ("deployments/realtime/action", path),
        (_, _) => ("deployments/action", path),
    };
    (action, format!("{method} {operation}"))
}
