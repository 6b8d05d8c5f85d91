//! Azure Resource Manager, as far as it tells about models: those of a region, accounts, and their deployments.

mod listings;
mod page;
mod refusal;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::extract::{Path, Query, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderValue, Uri};
use serde_json::Value;
use uuid::Uuid;

use self::page::page;
use self::refusal::Refusal;
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
        .fallback(|uri: Uri| async move { Refusal::NoSuchType(uri.path().to_owned()) })
        .with_state(arm)
        // Whom ARM does not know it tells nothing, not even which versions there are.
        .layer(from_fn(check_api_version))
        .layer(from_fn_with_state(control.clone(), authorize))
        .layer(from_fn_with_state(Arc::default(), add_fields))
        .layer(from_fn_with_state(Gate { server: Server::Management, control }, gate))
}

async fn authorize(State(control): State<Arc<Control>>, request: Request, next: Next) -> Result<Response, Refusal> {
    let token = bearer(request.headers()).ok_or(Refusal::NoToken)?;
    let claims = control.tokens.judge(token, &MANAGEMENT_AUDIENCES).map_err(Refusal::BadToken)?;
    let path = request.uri().path();
    if !control.has_management_role() {
        let path = path.to_owned();
        return Err(Refusal::AuthorizationFailed { client_id: claims.appid, object_id: claims.oid, path });
    }
    match path.split('/').nth(2) {
        Some(subscription) if !subscription.eq_ignore_ascii_case(SUBSCRIPTION_ID) => {
            Err(Refusal::SubscriptionNotFound(subscription.to_owned()))
        }
        _ => Ok(next.run(request).await),
    }
}

async fn check_api_version(Query(parameters): Parameters, request: Request, next: Next) -> Result<Response, Refusal> {
    let version = parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case("api-version"));
    match version.map(|(_, version)| version) {
        None => Err(Refusal::MissingApiVersion),
        Some(version) if API_VERSIONS.contains(&version.as_str()) => Ok(next.run(request).await),
        Some(version) => Err(Refusal::NoProvider { location: LOCATION.to_owned(), version: version.clone() }),
    }
}

/// The fields ARM puts on every answer.
async fn add_fields(State(reads): State<Arc<AtomicU32>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let left = READS - 1 - reads.fetch_add(1, Ordering::Relaxed) % READS;
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
) -> Result<Json<Value>, Refusal> {
    if location.replace(' ', "").eq_ignore_ascii_case(LOCATION) {
        arm.list(&uri, &parameters, listings::models())
    } else {
        let version = parameters.get("api-version").cloned().unwrap_or_default();
        Err(Refusal::NoProvider { location, version })
    }
}

async fn accounts(State(arm): State<Arm>, uri: Uri, Query(parameters): Parameters) -> Result<Json<Value>, Refusal> {
    arm.list(&uri, &parameters, vec![listings::account(&arm.openai)])
}

async fn accounts_of_group(
    State(arm): State<Arm>,
    Path((_, group)): Path<(String, String)>,
    uri: Uri,
    Query(parameters): Parameters,
) -> Result<Json<Value>, Refusal> {
    find_group(&group)?;
    arm.list(&uri, &parameters, vec![listings::account(&arm.openai)])
}

async fn account(
    State(arm): State<Arm>,
    Path((_, group, account)): Path<(String, String, String)>,
) -> Result<Json<Value>, Refusal> {
    find_account(group, account)?;
    Ok(Json(listings::account(&arm.openai)))
}

async fn deployments(
    State(arm): State<Arm>,
    Path((_, group, account)): Path<(String, String, String)>,
    uri: Uri,
    Query(parameters): Parameters,
) -> Result<Json<Value>, Refusal> {
    find_account(group, account)?;
    arm.list(&uri, &parameters, listings::deployments())
}

fn find_group(group: &str) -> Result<(), Refusal> {
    let found = group.eq_ignore_ascii_case(RESOURCE_GROUP);
    if found { Ok(()) } else { Err(Refusal::GroupNotFound(group.to_owned())) }
}

fn find_account(group: String, account: String) -> Result<(), Refusal> {
    find_group(&group)?;
    let found = account.eq_ignore_ascii_case(ACCOUNT);
    if found { Ok(()) } else { Err(Refusal::AccountNotFound { group, account }) }
}

impl Arm {
    fn list(
        &self,
        uri: &Uri,
        parameters: &HashMap<String, String>,
        entries: Vec<Value>,
    ) -> Result<Json<Value>, Refusal> {
        let origin = self.control.evil_next_link().unwrap_or_else(|| self.origin.to_string());
        page(&origin, uri.path(), parameters, entries).map(Json).ok_or(Refusal::SkipToken)
    }
}
