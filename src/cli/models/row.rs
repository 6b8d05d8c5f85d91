//! What is listed: a region's models, each once for all kinds of account, joined with the account's deployments.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, Serializer};
use time::Date;

use super::capability::Capability;
use crate::management::{Deployment, Model, ModelName};

/// A model in one version.
#[derive(Debug, Default, Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) format: String,
    pub(super) kinds: BTreeSet<String>,
    pub(super) default_version: bool,
    pub(super) lifecycle: Option<String>,
    pub(super) capabilities: BTreeSet<Capability>,
    pub(super) deprecation: Option<Day>,
    pub(super) skus: BTreeSet<String>,
    /// Nothing if nobody knows them.
    pub(super) deployments: Option<Vec<Deployed>>,
}

/// A day, written as `2026-03-31`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Day(pub(super) Date);

/// A deployment of the model.
#[derive(Debug, Serialize)]
pub(super) struct Deployed {
    pub(super) name: String,
    pub(super) sku: Option<String>,
    pub(super) capacity: Option<u64>,
    pub(super) state: String,
}

/// By name and version, in any case, and whose it is.
type Key = (String, String, String);

/// Everything there is, in the order of the models' names and versions. What is deployed is listed, whether the region still
/// offers it or not.
pub(super) fn joined(models: Vec<Model>, deployments: Option<Vec<Deployment>>) -> Vec<Row> {
    let mut rows: BTreeMap<Key, Row> = BTreeMap::new();
    // A model without a name is none.
    for model in models.into_iter().filter(|model| !model.model.name.name.is_empty()) {
        row(&mut rows, &model.model.name).add(model);
    }
    let are_known = deployments.is_some();
    for deployment in deployments.into_iter().flatten() {
        row(&mut rows, &deployment.properties.model).add_deployment(deployment);
    }
    let mut rows: Vec<Row> = rows.into_values().collect();
    for row in rows.iter_mut().filter(|_| are_known) {
        row.deployments.get_or_insert_default();
    }
    rows
}

fn row<'a>(rows: &'a mut BTreeMap<Key, Row>, model: &ModelName) -> &'a mut Row {
    let key = (model.name.to_lowercase(), model.version.to_lowercase(), model.format.to_lowercase());
    rows.entry(key).or_insert_with(|| {
        let ModelName { name, version, format } = model.clone();
        Row { name, version, format, ..Row::default() }
    })
}

impl Row {
    fn add(&mut self, Model { kind, model }: Model) {
        self.kinds.extend(Some(kind).filter(|kind| !kind.is_empty()));
        self.default_version |= model.is_default_version;
        self.lifecycle = self.lifecycle.take().or(model.lifecycle_status);
        self.capabilities.extend(Capability::of(&model.capabilities));
        // Should kinds differ, the earlier day is the one to know.
        let ends = [self.deprecation, model.deprecation.inference.map(|time| Day(time.date()))];
        self.deprecation = ends.into_iter().flatten().min();
        self.skus.extend(model.skus.into_iter().map(|sku| sku.name).filter(|name| !name.is_empty()));
    }

    fn add_deployment(&mut self, deployment: Deployment) {
        if self.kinds.is_empty() {
            // The region offers it no more: only the deployment says what it can do.
            self.capabilities.extend(Capability::of(&deployment.properties.capabilities));
        }
        let (sku, capacity) = deployment.sku.map_or((None, None), |sku| (Some(sku.name), sku.capacity));
        let state = deployment.properties.provisioning_state;
        let deployed = Deployed { name: deployment.name, sku: sku.filter(|sku| !sku.is_empty()), capacity, state };
        self.deployments.get_or_insert_default().push(deployed);
    }

    /// Whether `text` is in the name of the model or of a deployment.
    pub(super) fn is_called(&self, text: &str) -> bool {
        let deployed = self.deployments.iter().flatten().map(|deployed| &deployed.name);
        [&self.name].into_iter().chain(deployed).any(|name| name.to_lowercase().contains(&text.to_lowercase()))
    }

    pub(super) fn is_deployed(&self) -> bool {
        self.deployments.as_ref().is_some_and(|deployments| !deployments.is_empty())
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn model(kind: &str, name: &str, version: &str, ends: &str) -> Value {
        json!({ "kind": kind, "model": {
            "name": name, "version": version, "format": "OpenAI", "lifecycleStatus": "Preview",
            "capabilities": { "chatCompletion": "true" }, "deprecation": { "inference": ends },
            "skus": [{ "name": "GlobalStandard", "capacity": { "default": 1 } }],
        } })
    }

    fn deployment(name: &str, model: &str, version: &str) -> Value {
        json!({ "name": name, "sku": { "name": "Standard", "capacity": 5 }, "properties": {
            "model": { "name": model, "version": version, "format": "OpenAI" },
            "provisioningState": "Succeeded", "capabilities": { "embeddings": "true" },
        } })
    }

    fn rows(models: Value, deployments: Option<Value>) -> Vec<Row> {
        let deployments = deployments.map(|entries| serde_json::from_value(entries).expect("deployments"));
        joined(serde_json::from_value(models).expect("models"), deployments)
    }

    #[test]
    fn a_model_is_listed_once_for_all_kinds() {
        let rows = rows(
            json!([
                model("OpenAI", "b", "2", "2027-03-31T00:00:00Z"),
                model("AIServices", "b", "2", "2027-02-28T00:00:00Z"),
                model("OpenAI", "b", "1", "never"),
                model("OpenAI", "a", "1", "2027-03-31T00:00:00Z"),
                model("OpenAI", "", "1", "2027-03-31T00:00:00Z"),
            ]),
            None,
        );
        let listed: Vec<_> = rows.iter().map(|row| (&*row.name, &*row.version)).collect();
        assert_eq!(listed, [("a", "1"), ("b", "1"), ("b", "2")]);
        assert_eq!(
            json!(rows[2]),
            json!({
                "name": "b", "version": "2", "format": "OpenAI", "kinds": ["AIServices", "OpenAI"],
                "default_version": false, "lifecycle": "Preview", "capabilities": ["chat"],
                "deprecation": "2027-02-28", "skus": ["GlobalStandard"], "deployments": null,
            })
        );
        assert_eq!(json!(rows[1])["deprecation"], Value::Null);
    }

    #[test]
    fn deployments_are_beside_their_models_and_none_is_lost() {
        let rows = rows(
            json!([model("OpenAI", "m", "1", "x"), model("OpenAI", "other", "1", "x")]),
            Some(json!([deployment("one", "M", "1"), deployment("two", "m", "1"), deployment("old", "gone", "0301")])),
        );
        let beside = |row: &Row| row.deployments.iter().flatten().map(|d| d.name.clone()).collect::<Vec<_>>();
        assert_eq!(rows.iter().map(beside).collect::<Vec<_>>(), [vec!["old"], vec!["one", "two"], vec![]]);
        assert_eq!(json!(rows[0])["capabilities"], json!(["embeddings"]));
        assert_eq!(
            json!(rows[0])["deployments"],
            json!([{ "name": "old", "sku": "Standard", "capacity": 5, "state": "Succeeded" }])
        );
        assert_eq!(json!(rows[2])["deployments"], json!([]), "known to be none");
        assert!(rows[1].is_called("TW") && rows[1].is_called("m") && !rows[1].is_called("old"));
    }
}
