//! Apps that share the identity: how each is known, and what it may do.

use std::collections::BTreeMap;
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::Path;

use ring::digest::{SHA256, digest};
use secrecy::{ExposeSecret, SecretString};
use subtle::{Choice, ConstantTimeEq};

use super::layers::Layers;
use super::settings;
use super::{Config, ConfigError};

/// What the keys begin with that `run` makes, each for one command.
pub const KEY_OF_A_RUN: &str = "sk-run-";

/// One app that shares the identity: `apps.NAME`.
#[derive(Debug, Clone)]
pub struct App {
    /// How it is called in logs and metrics.
    pub name: AppName,
    /// What it is known by. Without a key, its name in place of one is a label that anybody may use.
    pub key: Option<KeyDigest>,
    /// Models that it may ask for; [`None`]: all.
    pub models: Option<Vec<String>>,
    /// How many requests it may make in a minute.
    pub requests_per_minute: Option<NonZeroU32>,
    /// How many tokens its requests may cost in a minute.
    pub tokens_per_minute: Option<NonZeroU64>,
}

/// An app's name: up to 64 letters, digits, `.`, `-` and `_`, of which one is a letter or a digit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppName(String);

impl AppName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A key's SHA-256: enough to know the key again, and not to present it.
#[derive(Clone, Copy)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// Of a key.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, key).as_ref());
        Self(bytes)
    }

    /// Whether both are of the same key, in a time that does not tell how much of them agrees.
    #[must_use]
    pub fn matches(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }

    /// As it is written in a configuration: a key, or the digest of one behind `sha256:`.
    fn read(text: &str) -> Result<Self, String> {
        let Some(digits) = text.strip_prefix("sha256:") else {
            return if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
                Ok(Self::of(text.as_bytes()))
            } else {
                Err("a key is visible ASCII characters without spaces, because it is sent in a field of HTTP"
                    .to_owned())
            };
        };
        let mut bytes = [0; 32];
        let is_hex = digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            let pair = digits.get(at..at + 2).filter(|_| is_hex);
            *byte = pair
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                .ok_or("expected 64 hexadecimal digits behind sha256:, as of `printf %s KEY | sha256sum`")?;
        }
        Ok(Self(bytes))
    }
}

/// Not even the digest: short keys can be found from it.
impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(…)")
    }
}

impl Config {
    /// Leaves one caller: whoever presents `key`. It is what `app` is to the configuration, or an app called `run` that may
    /// do everything.
    ///
    /// # Errors
    ///
    /// If there is no such app.
    pub fn leave_one_caller(&mut self, app: Option<&str>, key: &SecretString) -> Result<(), UnknownApp> {
        let caller = match app {
            None => App::unlimited("run"),
            Some(name) => self.app(name)?,
        };
        self.apps = vec![App { key: Some(KeyDigest::of(key.expose_secret().as_bytes())), ..caller }];
        self.access.require_key = true;
        Ok(())
    }

    fn app(&self, name: &str) -> Result<App, UnknownApp> {
        let found = self.apps.iter().find(|app| app.name.as_str() == name);
        found.cloned().ok_or_else(|| UnknownApp {
            name: name.to_owned(),
            known: self.apps.iter().map(|app| app.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }
}

impl App {
    fn unlimited(name: &str) -> Self {
        Self {
            name: AppName(name.to_owned()),
            key: None,
            models: None,
            requests_per_minute: None,
            tokens_per_minute: None,
        }
    }
}

/// An app that the configuration does not name.
#[derive(Debug, thiserror::Error)]
#[error("--app {name}: the configuration has no apps.{name}; it has {}", if known.is_empty() { "none" } else { known })]
pub struct UnknownApp {
    name: String,
    /// The names that there are.
    known: String,
}

/// All apps, in the order of their names.
pub(super) fn apps(
    layers: &Layers,
    settings: BTreeMap<String, settings::App>,
    require_key: bool,
) -> Result<Vec<App>, ConfigError> {
    let mut apps: Vec<App> = Vec::new();
    for (name, settings) in settings {
        let app = app(layers, &name, settings)?;
        let alike = |other: &&App| other.name.as_str().eq_ignore_ascii_case(&name);
        if let Some(other) = apps.iter().find(alike) {
            let other = other.name.as_str();
            let problem = format!("there is apps.{other} too: an environment variable could not tell them apart");
            return Err(layers.bad_value(&format!("apps.{name}"), problem));
        }
        if let Some(other) = apps.iter().find(|other| are_confused(other, &app)) {
            let other = other.name.as_str();
            let problem = format!(
                "a caller could be apps.{other} as well: each app needs a key of its own, which is no other app's name"
            );
            return Err(layers.bad_value(&format!("apps.{name}"), problem));
        }
        if require_key && app.key.is_none() {
            let problem = "has no key, and access.require_key lets nobody call without; set apps.NAME.key or key_file";
            return Err(layers.bad_value(&format!("apps.{name}"), problem.to_owned()));
        }
        apps.push(app);
    }
    if require_key && apps.is_empty() {
        let problem = "nobody could call: there is no app. Add one, like `[apps.my-app]` with `key_file = \"…\"`";
        return Err(layers.bad_value("access.require_key", problem.to_owned()));
    }
    Ok(apps)
}

/// Whether a caller could be taken for either.
fn are_confused(one: &App, other: &App) -> bool {
    let known_by = |app: &App| app.key.unwrap_or_else(|| KeyDigest::of(app.name.as_str().as_bytes()));
    known_by(one).matches(&known_by(other)).into()
}

fn app(layers: &Layers, name: &str, settings: settings::App) -> Result<App, ConfigError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let named = name.bytes().any(|byte| byte.is_ascii_alphanumeric());
    if !named || name.len() > 64 || !name.bytes().all(plain) {
        let problem = "an app's name is up to 64 letters, digits, dots, dashes and underscores";
        return Err(layers.bad_value(&format!("apps.{name}"), problem.to_owned()));
    }
    let in_key = |key: &str, problem: String| layers.bad_value(&format!("apps.{name}.{key}"), problem);
    let key = match (settings.key, settings.key_file) {
        (Some(_), Some(_)) => return Err(in_key("key_file", "there is a key besides; set one of both".to_owned())),
        (Some(key), None) => Some(KeyDigest::read(key.expose_secret()).map_err(|problem| in_key("key", problem))?),
        (None, Some(path)) => Some(read_file(&path).map_err(|problem| in_key("key_file", problem))?),
        (None, None) => None,
    };
    if settings.models.as_ref().is_some_and(Vec::is_empty) {
        return Err(in_key("models", "the app could ask for nothing; leave it out to allow all".to_owned()));
    }
    Ok(App {
        name: AppName(name.to_owned()),
        key,
        models: settings.models,
        requests_per_minute: settings.requests_per_minute,
        tokens_per_minute: settings.tokens_per_minute,
    })
}

/// Without the end of line that editors leave.
fn read_file(path: &Path) -> Result<KeyDigest, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    let text = SecretString::from(text);
    KeyDigest::read(text.expose_secret().trim_end_matches(['\r', '\n']))
        .map_err(|problem| format!("what stands in it is no key: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_its_digest() {
        let known = |text: &str, key: &[u8]| -> bool {
            KeyDigest::read(text).expect("a key").matches(&KeyDigest::of(key)).into()
        };
        assert!(known("hunter2", b"hunter2"));
        assert!(!known("hunter2", b"hunter3"));
        let digest = "sha256:f52fbd32b2b3b86ff88ef6c490628285f482af15ddcb29541f94bcf526a3f6c7";
        assert!(known(digest, b"hunter2"));
        assert!(known(&digest.to_ascii_uppercase().replace("SHA", "sha"), b"hunter2"));
        assert!(!known(digest, digest.as_bytes()));
        for bad in [
            "",
            "two words",
            "é",
            "sha256:",
            "sha256:00",
            &digest[..70],
            &format!("{digest}0"),
            &digest.replace('f', "g"),
        ] {
            assert!(KeyDigest::read(bad).is_err(), "{bad}");
        }
        assert_eq!(format!("{:?}", KeyDigest::of(b"k")), "KeyDigest(…)");
    }
}
