//! The entries of ARM's lists.

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::emulator::catalogue::{Kind, MODELS, Model, deployments as all_deployments};
use crate::emulator::world::{ACCOUNT, LOCATION, RESOURCE_GROUP, SUBSCRIPTION_ID};

/// Every model once for each kind of account that can have it, as ARM lists them.
pub(super) fn models() -> Vec<Value> {
    let kinds = ["OpenAI", "AIServices"];
    MODELS.iter().flat_map(|model| kinds.map(|kind| model_entry(kind, model))).collect()
}

/// The account, served at `endpoint`.
pub(super) fn account(endpoint: &str) -> Value {
    json!({
        "id": account_id(),
        "name": ACCOUNT,
        "type": "Microsoft.CognitiveServices/accounts",
        "kind": "OpenAI",
        "location": LOCATION,
        "sku": { "name": "S0" },
        "properties": {
            "endpoint": format!("{endpoint}/"),
            "endpoints": { "OpenAI Language Model Instance API": format!("{endpoint}/") },
            "customSubDomainName": ACCOUNT,
            "disableLocalAuth": true,
            "provisioningState": "Succeeded",
            "publicNetworkAccess": "Enabled",
        },
    })
}

/// The deployments of the account.
pub(super) fn deployments() -> Vec<Value> {
    let entry = |deployment: crate::emulator::catalogue::Deployment| {
        let model = deployment.model;
        json!({
            "id": format!("{}/deployments/{}", account_id(), deployment.name),
            "name": deployment.name,
            "type": "Microsoft.CognitiveServices/accounts/deployments",
            "sku": { "name": "GlobalStandard", "capacity": 10 },
            "systemData": { "createdAt": date(model.created), "createdByType": "User" },
            "properties": {
                "model": { "format": "OpenAI", "name": model.name, "version": model.version },
                "versionUpgradeOption": "OnceNewDefaultVersionAvailable",
                "currentCapacity": 10,
                "capabilities": capabilities(model),
                "provisioningState": "Succeeded",
                "raiPolicyName": "Microsoft.DefaultV2",
                "rateLimits": [
                    { "key": "request", "renewalPeriod": 10, "count": 10 },
                    { "key": "token", "renewalPeriod": 60, "count": 10_000 },
                ],
            },
        })
    };
    all_deployments().map(entry).collect()
}

fn model_entry(kind: &str, model: &Model) -> Value {
    let newest = MODELS.iter().rfind(|other| other.name == model.name);
    let retires = date(model.retires());
    json!({
        "kind": kind,
        "skuName": "S0",
        "description": format!("Format: OpenAI, Name: {}, Version: {}", model.name, model.version),
        "model": {
            "format": "OpenAI",
            "name": model.name,
            "version": model.version,
            "isDefaultVersion": newest.is_some_and(|newest| newest.version == model.version),
            "maxCapacity": 3,
            "capabilities": capabilities(model),
            "deprecation": { "inference": retires },
            "lifecycleStatus": "GenerallyAvailable",
            "skus": [{
                "name": "GlobalStandard",
                "usageName": format!("OpenAI.GlobalStandard.{}", model.name),
                "deprecationDate": retires,
                "capacity": { "maximum": 1_000, "default": 10 },
                "rateLimits": [{ "key": "token", "renewalPeriod": 60, "count": 1_000 }],
            }],
            "systemData": { "createdAt": date(model.created), "createdBy": "Microsoft" },
        },
    })
}

/// What the model can do; ARM writes even `true` as a string.
fn capabilities(model: &Model) -> Value {
    match model.kind {
        Kind::Chat => json!({ "chatCompletion": "true", "responses": "true", "area": "EUR" }),
        Kind::Embeddings { .. } => json!({ "embeddings": "true", "embeddingsMaxInputs": "2048", "area": "EUR" }),
        Kind::Realtime => json!({ "realtime": "true", "audio": "true", "area": "EUR" }),
        Kind::Listed if model.name.contains("image") => json!({ "imageGenerations": "true", "area": "EUR" }),
        Kind::Listed => json!({ "audio": "true", "area": "EUR" }),
    }
}

fn account_id() -> String {
    format!(
        "/subscriptions/{SUBSCRIPTION_ID}/resourceGroups/{RESOURCE_GROUP}/providers/Microsoft.CognitiveServices/\
         accounts/{ACCOUNT}"
    )
}

/// As in `2026-01-31T00:00:00Z`.
fn date(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    format!("{}T00:00:00Z", time.unwrap_or(OffsetDateTime::UNIX_EPOCH).date())
}
