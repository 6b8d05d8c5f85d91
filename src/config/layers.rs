//! The layers of the configuration, in order, each with a name that an error message can give.

use std::path::{Path, PathBuf};

use config::builder::DefaultState;
use config::{Config as Values, ConfigBuilder, File, FileFormat, Source, Value};

use super::error::{ConfigError, Shown};
use super::{Environment, Overrides};

const DEFAULTS: &str = include_str!("../../config/default.toml");

/// Variables that other Azure programs read too, and the keys they set.
const CONVENTIONAL: [(&str, &str); 8] = [
    ("AZURE_OPENAI_ENDPOINT", "upstream.endpoint"),
    ("AZURE_TENANT_ID", "credential.tenant_id"),
    ("AZURE_CLIENT_ID", "credential.client_id"),
    ("AZURE_CLIENT_SECRET", "credential.client_secret"),
    ("AZURE_FEDERATED_TOKEN_FILE", "credential.federated_token_file"),
    ("AZURE_AUTHORITY_HOST", "credential.authority_host"),
    ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "credential.imds_endpoint"),
    ("AZURE_SUBSCRIPTION_ID", "management.subscription_id"),
];

/// Variables of ours: `AOAI_PROXY__SECTION__KEY`.
const PREFIX: &str = "AOAI_PROXY__";

/// All layers, the weakest first.
#[derive(Debug)]
pub(super) struct Layers(Vec<Layer>);

#[derive(Debug)]
struct Layer {
    name: String,
    values: Values,
}

impl Layers {
    /// Defaults, file, conventional variables, variables of ours, command line.
    pub(super) fn read(environment: &Environment, overrides: &Overrides) -> Result<Self, ConfigError> {
        let mut layers = Self::defaults();
        if let Some((path, named_by)) = find_file(environment, overrides.file.as_deref()) {
            layers.push_file(&path, named_by)?;
        }
        for (variable, key) in CONVENTIONAL {
            if let Some(value) = environment.get(variable) {
                layers.push(format!("environment variable {variable}"), key, value);
            }
        }
        for (variable, value) in environment.starting_with(PREFIX) {
            let key = variable[PREFIX.len()..].to_ascii_lowercase().replace("__", ".");
            layers.push(format!("environment variable {variable}"), &key, value);
        }
        layers.push_overrides(overrides)?;
        Ok(layers)
    }

    /// The embedded defaults alone.
    pub(super) fn defaults() -> Self {
        let mut layers = Self(Vec::new());
        let values = Values::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml)).build();
        #[expect(clippy::expect_used, reason = "the text is part of the program and a test reads it")]
        let values = values.expect("the embedded defaults are TOML");
        layers.0.push(Layer { name: "the defaults".to_owned(), values });
        layers
    }

    /// One more layer, stronger than those before it, that sets one key.
    pub(super) fn push(&mut self, name: String, key: &str, value: &str) {
        let setting = Setting { key: key.to_owned(), value: value.to_owned() };
        #[expect(clippy::expect_used, reason = "`Setting` cannot fail to be collected")]
        let values = Values::builder().add_source(setting).build().expect("one setting");
        self.0.push(Layer { name, values });
    }

    /// What was said on the command line.
    pub(super) fn push_overrides(&mut self, overrides: &Overrides) -> Result<(), ConfigError> {
        for (option, key, value) in &overrides.named {
            self.push(format!("command line {option}"), key, value);
        }
        for assignment in &overrides.assignments {
            let (key, value) = assignment.split_once('=').ok_or_else(|| ConfigError::Assignment(assignment.clone()))?;
            self.push("command line --set".to_owned(), key.trim(), value);
        }
        Ok(())
    }

    /// All layers laid over each other.
    pub(super) fn merged(&self) -> Result<Values, config::ConfigError> {
        let add = |builder: ConfigBuilder<DefaultState>, layer: &Layer| builder.add_source(layer.values.clone());
        self.0.iter().fold(Values::builder(), add).build()
    }

    /// The strongest layer that sets `key`, and what it sets it to.
    pub(super) fn origin(&self, key: &str) -> Option<(String, Shown)> {
        self.0.iter().rev().find_map(|layer| {
            let value = layer.values.get::<Value>(key).ok().or_else(|| table_entry(&layer.values, key))?;
            Some((layer.name.clone(), Shown::new(key, &value)))
        })
    }

    fn push_file(&mut self, path: &Path, named_by: &'static str) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            named_by,
            source,
        })?;
        let values = Values::builder()
            .add_source(File::from_str(&text, FileFormat::Toml))
            .build()
            .map_err(|error| ConfigError::Syntax { path: path.to_owned(), problem: error.to_string() })?;
        self.0.push(Layer { name: path.display().to_string(), values });
        Ok(())
    }
}

/// One key and its value, as a variable or an option gives them.
#[derive(Debug, Clone)]
struct Setting {
    key: String,
    value: String,
}

impl Source for Setting {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<config::Map<String, Value>, config::ConfigError> {
        Ok(config::Map::from_iter([(self.key.clone(), Value::from(self.value.as_str()))]))
    }
}

/// A top-level entry whose name is not a path expression.
fn table_entry(values: &Values, key: &str) -> Option<Value> {
    match &values.cache.kind {
        config::ValueKind::Table(table) => table.get(key).cloned(),
        _ => None,
    }
}

/// The one file that is read, and what named it. A file that was asked for by name must exist; the usual places may be
/// empty.
fn find_file(environment: &Environment, asked_for: Option<&Path>) -> Option<(PathBuf, &'static str)> {
    if let Some(path) = asked_for {
        return Some((path.to_owned(), "--config"));
    }
    if let Some(path) = environment.get("AOAI_PROXY_CONFIG") {
        return Some((PathBuf::from(path), "AOAI_PROXY_CONFIG"));
    }
    let beside = Some(PathBuf::from("aoai-auth-proxy.toml"));
    let user = environment.config_home().map(|home| home.join("aoai-auth-proxy/config.toml"));
    let system = Some(PathBuf::from("/etc/aoai-auth-proxy/config.toml"));
    let usual = [beside, user, system].into_iter().flatten();
    usual.into_iter().find(|path| path.exists()).map(|path| (path, "the usual places"))
}
