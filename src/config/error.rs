//! What can be wrong with a configuration: each message names the key, the value and the layer it came from.

use std::fmt;
use std::path::PathBuf;

/// A configuration that nothing can be started with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that was named, or found, cannot be read.
    #[error("cannot read configuration file {} (named by {named_by})", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What named it: an option, a variable or the search.
        named_by: &'static str,
        /// Why it cannot be read.
        #[source]
        source: std::io::Error,
    },
    /// A file is not TOML.
    #[error("configuration file {} is not valid TOML: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's words, with line and column.
        problem: String,
    },
    /// `--set` without `=`.
    #[error("--set {0}: expected section.key=value")]
    Assignment(String),
    /// A key that does not exist.
    #[error("unknown key `{key}` = {value} (from {layer}); {expected}")]
    UnknownKey {
        /// The key, dotted.
        key: String,
        /// What it was set to.
        value: Shown,
        /// Where it was set.
        layer: String,
        /// Which keys there are.
        expected: String,
    },
    /// A value of the wrong type or out of range.
    #[error("`{key}` = {value} (from {layer}): {problem}")]
    BadValue {
        /// The key, dotted.
        key: String,
        /// What it was set to.
        value: Shown,
        /// Where it was set.
        layer: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A value that must be given was not.
    #[error("`{key}` is not set: {problem}")]
    Missing {
        /// The key, dotted.
        key: &'static str,
        /// What it is needed for and how to set it.
        problem: &'static str,
    },
}

/// A value as it may be shown: secrets are not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown(String);

impl Shown {
    /// `value` of `key`, or a stand-in if the key holds a secret.
    pub(super) fn new(key: &str, value: &config::Value) -> Self {
        if super::is_secret(key) {
            return Self("(secret)".to_owned());
        }
        Self(match &value.kind {
            config::ValueKind::String(text) => format!("{text:?}"),
            other => other.to_string(),
        })
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
