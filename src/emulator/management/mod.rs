//! Azure Resource Manager, as far as it tells about models: those of a region, accounts, and their deployments.

mod errors;
mod listings;
mod page;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::extract::{Path, Query, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderValue, Uri};
use serde_json::Value;
use uuid::Uuid;

use self::page::page;
use super::control::Control;
use super::gate::{Gate, gate};
use super::openai::authorize::bearer;
use super::route::Server;
use super::world::{ACCOUNT, LOCATION, MANAGEMENT_AUDIENCES, RESOURCE_GROUP, SUBSCRIPTION_ID};

/// The versions of `Microsoft.CognitiveServices` that are known.
const API_VERSIONS: [&str; 7] = [
    "2023-05-01",
    "2024-04-01-preview",
    "2024-10-01",
    "2025-04-01-preview",
    "2025-06-01",
    "2025-09-01",
    "2026-03-15-preview",
];

/// How many reads a principal has per subscription before it is throttled. The emulator counts and never throttles.
const READS: u32 = 250;

/// What ARM's operations share.
#[derive(Debug, Clone)]
struct Arm {
    control: Arc<Control>,
    origin: Arc<str>,
    openai: Arc<str>,
}

type Parameters = Query<HashMap<String, String>>;

/// ARM as a service that clients reach at `origin`, and whose account is served at `openai`.
pub(super) fn router(control: Arc<Control>, origin: String, openai: String) -> Router {
    let arm = Arm { control: control.clone(), origin: origin.into(), openai: openai.into() };
    let provider = "/subscriptions/{subscription}/providers/Microsoft.CognitiveServices";
    let group = "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.CognitiveServices";
    Router::new()
        .route(&format!("{provider}/locations/{{location}}/models"), get(models))
        .route(&format!("{provider}/accounts"), get(accounts))
        .route(&format!("{group}/accounts"), get(accounts_of_group))
        .route(&format!("{group}/accounts/{{account}}"), get(account))
        .route(&format!("{group}/accounts/{{account}}/deployments"), get(deployments))
        .fallback(|uri: Uri| async move { errors::no_route(uri.path()) })
        .with_state(arm)
        // Whom ARM does not know it tells nothing, not even which versions there are.
        .layer(from_fn(check_api_version))
        .layer(from_fn_with_state(control.clone(), authorize))
        .layer(from_fn(add_fields))
        .layer(from_fn_with_state(Gate { server: Server::Management, control }, gate))
}

async fn authorize(State(control): State<Arc<Control>>, request: Request, next: Next) -> Response {
    let Some(token) = bearer(request.headers()) else { return errors::no_token() };
    let claims = match control.tokens.judge(token, &MANAGEMENT_AUDIENCES) {
        Ok(claims) => claims,
        Err(refusal) => return errors::bad_token(refusal),
    };
    let path = request.uri().path();
    if !control.has_management_role() {
        return errors::authorization_failed(&claims.appid, &claims.oid, path);
    }
    match path.split('/').nth(2) {
        Some(subscription) if !subscription.eq_ignore_ascii_case(SUBSCRIPTION_ID) => {
            errors::subscription_not_found(subscription)
        }
        _ => next.run(request).await,
    }
}

async fn check_api_version(Query(parameters): Parameters, request: Request, next: Next) -> Response {
    let version = parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case("api-version"));
    match version.map(|(_, version)| version.as_str()) {
        None | Some("") => errors::missing_api_version(),
        Some(version) if API_VERSIONS.contains(&version) => next.run(request).await,
        Some(version) => errors::no_provider(LOCATION, version, &API_VERSIONS),
    }
}

/// The fields ARM puts on every answer.
async fn add_fields(request: Request, next: Next) -> Response {
    static READS_LEFT: AtomicU32 = AtomicU32::new(READS);
    let mut response = next.run(request).await;
    let left = READS_LEFT.fetch_sub(1, Ordering::Relaxed) % READS;
    let fields = response.headers_mut();
    fields.insert("x-ms-ratelimit-remaining-subscription-reads", HeaderValue::from(left));
    let id = Uuid::new_v4().to_string();
    for name in ["x-ms-request-id", "x-ms-correlation-request-id"] {
        if let Ok(id) = HeaderValue::try_from(&id) {
            fields.insert(name, id);
        }
    }
    response
}

async fn models(
    State(arm): State<Arm>,
    Path((_, location)): Path<(String, String)>,
    uri: Uri,
    Query(parameters): Parameters,
) -> Response {
    if location.replace(' ', "").eq_ignore_ascii_case(LOCATION) {
        arm.list(&uri, &parameters, listings::models())
    } else {
        let version = parameters.get("api-version").map_or("", String::as_str);
        errors::no_provider(&location, version, &API_VERSIONS)
    }
}

async fn accounts(State(arm): State<Arm>, uri: Uri, Query(parameters): Parameters) -> Response {
    arm.list(&uri, &parameters, vec![listings::account(&arm.openai)])
}

async fn accounts_of_group(
    State(arm): State<Arm>,
    Path((_, group)): Path<(String, String)>,
    uri: Uri,
    Query(parameters): Parameters,
) -> Response {
    if group.eq_ignore_ascii_case(RESOURCE_GROUP) {
        arm.list(&uri, &parameters, vec![listings::account(&arm.openai)])
    } else {
        errors::group_not_found(&group)
    }
}

async fn account(State(arm): State<Arm>, Path((_, group, account)): Path<(String, String, String)>) -> Response {
    match find_account(&group, &account) {
        Ok(()) => Json(listings::account(&arm.openai)).into_response(),
        Err(refusal) => refusal,
    }
}

async fn deployments(
    State(arm): State<Arm>,
    Path((_, group, account)): Path<(String, String, String)>,
    uri: Uri,
    Query(parameters): Parameters,
) -> Response {
    match find_account(&group, &account) {
        Ok(()) => arm.list(&uri, &parameters, listings::deployments()),
        Err(refusal) => refusal,
    }
}

fn find_account(group: &str, account: &str) -> Result<(), Response> {
    if !group.eq_ignore_ascii_case(RESOURCE_GROUP) {
        Err(errors::group_not_found(group))
    } else if !account.eq_ignore_ascii_case(ACCOUNT) {
        Err(errors::account_not_found(group, account))
    } else {
        Ok(())
    }
}

impl Arm {
    fn list(&self, uri: &Uri, parameters: &HashMap<String, String>, entries: Vec<Value>) -> Response {
        let origin = self.control.evil_next_link().unwrap_or_else(|| self.origin.to_string());
        match page(&origin, uri.path(), parameters, entries) {
            Some(page) => Json(page).into_response(),
            None => errors::bad_skip_token(),
        }
    }
}
