//! What the configuration comes to, key by key: each with its value and the layer that set it, for people to read and for
//! the program to read back.

use std::fmt::Write;

use config::{Value, ValueKind};

use super::build::build;
use super::error::{ConfigError, Shown, obeyed, printable};
use super::keys::{KEYS, Key, find, near};
use super::layers::Layers;
use super::{Config, Environment, Overrides};
use super::{lists, otlp};

/// Variables that are no keys and have their effect.
const OTHER_VARIABLES: [&str; 9] = [
    "AZURE_TOKEN_CREDENTIALS",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// The configuration as it is in force.
#[derive(Debug)]
pub struct Effective {
    layers: Layers,
    variables: Vec<(&'static str, Shown)>,
    config: Result<Config, ConfigError>,
}

/// A value, and who says so.
struct Setting {
    value: Option<String>,
    source: String,
    /// Whether something of the value is left out: then it is nothing to be fed back.
    is_cut: bool,
}

impl Effective {
    /// Reads all layers.
    ///
    /// # Errors
    ///
    /// If a layer cannot be read at all. Values that are wrong are told by [`Effective::into_config`].
    pub fn read(environment: &Environment, overrides: &Overrides) -> Result<Self, ConfigError> {
        let layers = Layers::read(environment, overrides)?;
        let config = build(&layers, environment);
        let set = |name| Some((name, otlp::shown(name, environment.get(name)?)));
        let variables = OTHER_VARIABLES.into_iter().chain(otlp::VARIABLES).filter_map(set).collect();
        Ok(Self { layers, variables, config })
    }

    /// The same as the proxy takes it.
    ///
    /// # Errors
    ///
    /// What keeps the proxy from starting with it.
    pub fn into_config(self) -> Result<Config, ConfigError> {
        self.config
    }

    /// All keys as TOML: what is secret or not set is a comment, so that a file with this in it means the same.
    #[must_use]
    pub fn toml(&self) -> String {
        let mut text =
            format!("# The configuration of aoai-auth-proxy {}, as it is in force.\n", env!("CARGO_PKG_VERSION"));
        text.push_str("# Secrets are left out: whoever feeds it back must set them again.\n");
        let mut section = "";
        for key in KEYS.iter().filter(|key| key.of_each().is_none()) {
            if key.section() != section {
                section = key.section();
                let _ = write!(text, "\n[{section}]\n");
            }
            self.line(&mut text, key, key.name);
        }
        for section in ["apps", "prices"] {
            // Those that some layer speaks of.
            for name in self.layers.names_in(section) {
                let _ = write!(text, "\n[{section}.{}]\n", quoted_name(&name));
                for key in KEYS.iter().filter(|key| key.of_each() == Some(section)) {
                    self.line(&mut text, key, &key.name.replacen("NAME", &name, 1));
                }
            }
        }
        if !self.variables.is_empty() {
            text.push_str("\n# Variables that have their effect besides:\n");
        }
        for (name, value) in &self.variables {
            let _ = writeln!(text, "#   {name} = {value}");
        }
        text
    }

    /// One key: what it means, its value, who says so and how to say otherwise. Of a section, the keys that it has.
    ///
    /// # Errors
    ///
    /// If there is no such key.
    pub fn explain(&self, name: &str) -> Result<String, ConfigError> {
        let within: Vec<_> = KEYS.iter().filter(|key| is_within(key, name)).map(|key| key.name).collect();
        if !within.is_empty() {
            return Ok(format!("{name} is a section; its keys are\n  {}", within.join("\n  ")));
        }
        let key = find(name).ok_or_else(|| ConfigError::NoSuchKey { key: printable(name), near: near(name) })?;
        let setting = self.setting(key, name);
        let mut text = format!("{}\n  {}\n\n", printable(name), key.meaning.replace('`', ""));
        let mut row = |title: &str, words: &str| {
            let _ = writeln!(text, "  {title:<9} {words}");
        };
        row("value", setting.value.as_deref().unwrap_or("not set"));
        if !setting.source.is_empty() {
            row("from", &setting.source);
        }
        for (layer, value) in self.layers.origins(name).skip(1) {
            row("over", &format!("{} from {layer}", Shown::known(name, value)));
        }
        row("set by", &format!("--set {name}=…"));
        for way in ways(key, name) {
            row("", &way);
        }
        if let Some(page) = key.more {
            row("more", &format!("docs/{page}"));
        }
        Ok(text.trim_end().to_owned())
    }

    fn line(&self, text: &mut String, key: &Key, name: &str) {
        let Setting { value, source, is_cut } = self.setting(key, name);
        let short = key.short();
        // Writing to memory does not fail.
        let _ = match value {
            Some(value) if is_cut => writeln!(text, "# {short} = {value}  # {source}"),
            Some(value) => writeln!(text, "{:<40}  # {source}", format!("{short} = {value}")),
            None if source.is_empty() => writeln!(text, "# {short} is not set"),
            None => writeln!(text, "# {short} is not set: {source}"),
        };
    }

    fn setting(&self, key: &Key, name: &str) -> Setting {
        if let Some((layer, value)) = self.layers.origins(name).next() {
            let is_cut = !Shown::is_whole(name, value);
            let value = if is_cut { Shown::known(name, value).to_string() } else { self.written(name, value) };
            return Setting { value: Some(value), source: printable(layer), is_cut };
        }
        let value = self.config.as_ref().ok().and_then(|config| derived(config, name)).map(|value| quoted(&value));
        Setting { value, source: key.otherwise.unwrap_or_default().to_owned(), is_cut: false }
    }

    /// A value as it is written in a file. Where only text can be written, it is what a file would have.
    fn written(&self, name: &str, value: &ValueKind) -> String {
        let usual = self.layers.default_of(name);
        match (value, usual) {
            (ValueKind::String(text), Some(ValueKind::Boolean(_))) if text == "1" => "true".to_owned(),
            (ValueKind::String(text), Some(ValueKind::Boolean(_))) if text == "0" => "false".to_owned(),
            (ValueKind::String(text), Some(ValueKind::Boolean(_))) if text == "true" || text == "false" => text.clone(),
            (ValueKind::String(text), Some(ValueKind::I64(_))) if text.parse::<i64>().is_ok() => text.clone(),
            (ValueKind::String(_), Some(ValueKind::Array(_))) => {
                let texts = lists::texts(Value::new(None, value.clone())).unwrap_or_default();
                list(texts.iter().map(|text| quoted(text)))
            }
            _ => as_toml(value),
        }
    }
}

/// Whether a key stands in a section of this name, or somewhere below it.
fn is_within(key: &Key, section: &str) -> bool {
    key.name.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
}

/// What follows from other keys.
fn derived(config: &Config, name: &str) -> Option<String> {
    match name {
        "upstream.scope" => Some(config.upstream.scope.to_string()),
        "credential.authority_host" => Some(plain(&config.credential.authority_host)),
        "management.endpoint" => Some(plain(&config.management.endpoint)),
        "usage.database" => config.ledger.as_ref().map(|ledger| ledger.database.display().to_string()),
        _ => None,
    }
}

/// As it would be written.
fn plain(url: &url::Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

/// The ways to set a key, besides `--set`.
fn ways(key: &Key, name: &str) -> Vec<String> {
    let (section, short) = name.rsplit_once('.').unwrap_or(("", name));
    let variable = format!("AOAI_PROXY__{}", name.replace('.', "__").to_uppercase());
    let mut ways: Vec<String> = key.variable.map(|name| format!("environment variable {name}")).into_iter().collect();
    // A variable's name has no dashes, and the names of apps and models may.
    if !name.contains('-') {
        ways.push(format!("environment variable {variable}"));
    }
    ways.push(format!("{short} = … below [{section}] in a configuration file"));
    ways
}

fn as_toml(value: &ValueKind) -> String {
    match value {
        ValueKind::String(text) => quoted(text),
        ValueKind::Array(items) => list(items.iter().map(|item| as_toml(&item.kind))),
        ValueKind::Boolean(_)
        | ValueKind::I64(_)
        | ValueKind::I128(_)
        | ValueKind::U64(_)
        | ValueKind::U128(_)
        | ValueKind::Float(_) => value.to_string(),
        // No key has such a value; the error that says so is told besides.
        ValueKind::Nil | ValueKind::Table(_) => quoted(&value.to_string()),
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// A basic string of TOML, always on one line.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if obeyed(c) => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A name that may need quotes.
fn quoted_name(name: &str) -> String {
    let is_bare = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if is_bare && !name.is_empty() { name.to_owned() } else { quoted(name) }
}
