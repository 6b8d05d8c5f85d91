//! Entries of the management plane's lists, as far as anybody here reads them. Whatever is left out or null there is nothing
//! here, and an entry of another shape is passed over: one odd entry must not cost the whole list.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What a model or a deployment can do, as ARM writes it: even `true` is a text.
pub type Capabilities = BTreeMap<String, Value>;

/// A model that a region offers to one kind of account.
#[derive(Debug, Deserialize)]
pub struct Model {
    /// The kind of account.
    #[serde(default, deserialize_with = "or_nothing")]
    pub kind: String,
    /// The model itself.
    pub model: ModelDetails,
}

/// What is said of a model.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelDetails {
    /// Which it is.
    #[serde(flatten)]
    pub name: ModelName,
    /// Whether a deployment has this version if it names none.
    #[serde(default, deserialize_with = "or_nothing")]
    pub is_default_version: bool,
    /// Such as `GenerallyAvailable` or `Preview`.
    pub lifecycle_status: Option<String>,
    /// What it can do.
    #[serde(default, deserialize_with = "or_nothing")]
    pub capabilities: Capabilities,
    /// When it ends.
    #[serde(default, deserialize_with = "or_nothing")]
    pub deprecation: Deprecation,
    /// How it can be deployed.
    #[serde(default, deserialize_with = "or_nothing")]
    pub skus: Vec<Sku>,
}

/// A model, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct ModelName {
    /// The name.
    #[serde(default, deserialize_with = "or_nothing")]
    pub name: String,
    /// The version.
    #[serde(default, deserialize_with = "or_nothing")]
    pub version: String,
    /// Whose it is, such as `OpenAI` or `Mistral AI`.
    #[serde(default, deserialize_with = "or_nothing")]
    pub format: String,
}

/// When a model ends.
#[derive(Debug, Default, Deserialize)]
pub struct Deprecation {
    /// When it is no longer served.
    #[serde(default, deserialize_with = "time")]
    pub inference: Option<OffsetDateTime>,
}

/// A way to pay for a deployment.
#[derive(Debug, Clone, Deserialize)]
pub struct Sku {
    /// Such as `GlobalStandard`.
    #[serde(default, deserialize_with = "or_nothing")]
    pub name: String,
    /// How much of it, in a deployment.
    #[serde(default, deserialize_with = "capacity")]
    pub capacity: Option<u64>,
}

/// A deployment of the account.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// What requests give as their model.
    pub name: String,
    /// How it is paid for.
    pub sku: Option<Sku>,
    /// The rest.
    #[serde(default, deserialize_with = "or_nothing")]
    pub properties: DeploymentProperties,
    /// Who made it, and when.
    #[serde(default, deserialize_with = "or_nothing")]
    pub system_data: SystemData,
}

/// What is said of a deployment.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentProperties {
    /// The model behind it.
    #[serde(default, deserialize_with = "or_nothing")]
    pub model: ModelName,
    /// `Succeeded` once it can be called.
    #[serde(default, deserialize_with = "or_nothing")]
    pub provisioning_state: String,
    /// What it can do.
    #[serde(default, deserialize_with = "or_nothing")]
    pub capabilities: Capabilities,
}

/// When something was made.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SystemData {
    /// When.
    #[serde(default, deserialize_with = "time")]
    pub created_at: Option<OffsetDateTime>,
}

impl Deployment {
    /// Whether requests can name it.
    #[must_use]
    pub fn can_be_called(&self) -> bool {
        self.properties.provisioning_state.eq_ignore_ascii_case("Succeeded")
    }
}

fn or_nothing<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Of a region's ways to deploy, the same word says how much there may be.
fn capacity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(Value::deserialize(deserializer)?.as_u64())
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<OffsetDateTime>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    Ok(text.and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_out_or_null_is_nothing() {
        for entry in [
            json!({ "name": "d" }),
            json!({ "name": "d", "sku": null, "properties": null, "systemData": null }),
            json!({ "name": "d", "properties": { "model": null, "capabilities": null, "provisioningState": null } }),
            json!({ "name": "d", "properties": { "model": { "name": null, "version": "1" } } }),
            json!({ "name": "d", "properties": {}, "systemData": { "createdAt": "yesterday" } }),
        ] {
            let deployment: Deployment = serde_json::from_value(entry.clone()).expect("an entry");
            assert!(!deployment.can_be_called() && deployment.system_data.created_at.is_none(), "{entry}");
        }
        let model = json!({ "kind": null, "model": { "name": "m", "skus": [{ "capacity": { "default": 1 } }], "deprecation": null } });
        let model: Model = serde_json::from_value(model).expect("an entry");
        assert_eq!((model.model.name.name.as_str(), model.model.name.version.as_str()), ("m", ""));
        assert_eq!(model.model.skus[0].capacity, None);
    }

    #[test]
    fn times_are_read_as_arm_writes_them() {
        let entry = json!({ "name": "d", "systemData": { "createdAt": "2024-05-01T12:34:56.7891234Z" } });
        let deployment: Deployment = serde_json::from_value(entry).expect("an entry");
        assert_eq!(deployment.system_data.created_at.map(OffsetDateTime::unix_timestamp), Some(1_714_566_896));
    }
}
