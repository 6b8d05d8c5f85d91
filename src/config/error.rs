//! What can be wrong with a configuration: each message names the key, the value and the layer it came from.

use std::fmt;
use std::path::PathBuf;

use config::ValueKind;

use super::keys;

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
    /// `--set` without `=`; of what was written, the beginning that looks like a key.
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
    /// A key that was asked about does not exist.
    #[error("there is no key `{key}`{}; `aoai-auth-proxy config` lists all", near.as_ref().map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default())]
    NoSuchKey {
        /// The key, as it was asked about.
        key: String,
        /// What it was probably meant to be.
        near: Option<String>,
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
    /// A variable that other programs read too has a value that means nothing here.
    #[error("environment variable {variable}={value}: {problem}")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// Its value, which is no secret.
        value: Shown,
        /// What would be right.
        problem: String,
    },
    /// A variable that matters is set to bytes that are no text.
    #[error("environment variable {0} is not UTF-8")]
    NoText(String),
    /// The place where this runs does not fit the credential that was asked for.
    #[error(
        "credential.kind = managed-identity: the managed identity of {0} is not supported; virtual machines, AKS, App Service, Functions and Container Apps are. Use client-certificate, client-secret or azure-cli here"
    )]
    UnsupportedPlace(&'static str),
    /// A value that must be given was not.
    #[error("`{key}` is not set: {problem}")]
    Missing {
        /// The key, dotted.
        key: &'static str,
        /// What it is needed for and how to set it.
        problem: &'static str,
    },
}

/// A value as it may be shown: secrets are not, and neither are sections and lists, which may hold some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown(String);

/// Sections whose keys mostly hold secrets.
const SECRET_SECTIONS: [&str; 2] = ["credential", "apps"];

/// Parts of names that people give to secrets.
const SECRET_NAMES: [&str; 7] = ["secr", "key", "pass", "pwd", "token", "auth", "cred"];

impl Shown {
    /// The value of a key that there is.
    pub(super) fn known(key: &str, value: &ValueKind) -> Self {
        let section = key.split('.').next().unwrap_or_default();
        // A section that was given a value: whatever it was meant for, it may be the secret.
        let secret = keys::find(key).map_or(SECRET_SECTIONS.contains(&section), |key| key.is_secret);
        let is_address = key.ends_with("endpoint") || key.ends_with("_host");
        match value {
            _ if secret => Self::hidden(),
            // Some write a password or a key into it.
            ValueKind::String(text) if is_address => Self::url(text),
            value => Self::open(value),
        }
    }

    /// Whether a value can be shown as it is, with nothing left out.
    pub(super) fn is_whole(key: &str, value: &ValueKind) -> bool {
        match value {
            ValueKind::String(text) => Self::known(key, value) == Self::text(text),
            ValueKind::Array(items) => items.iter().all(|item| Self::is_whole(key, &item.kind)),
            ValueKind::Table(_) | ValueKind::Nil => false,
            ValueKind::Boolean(_)
            | ValueKind::I64(_)
            | ValueKind::I128(_)
            | ValueKind::U64(_)
            | ValueKind::U128(_)
            | ValueKind::Float(_) => !keys::find(key).is_some_and(|key| key.is_secret),
        }
    }

    /// The value of a key that there is not: hidden wherever it may have been meant for one that holds a secret.
    pub(super) fn unknown(key: &str, value: &ValueKind) -> Self {
        let key = key.to_ascii_lowercase();
        let secret = key.split('.').any(|name| SECRET_SECTIONS.contains(&name))
            || SECRET_NAMES.iter().any(|name| key.contains(name));
        if secret { Self::hidden() } else { Self::open(value) }
    }

    /// Text that is no secret.
    pub(super) fn text(text: &str) -> Self {
        Self(format!("{text:?}"))
    }

    /// A URL without what may be a user's name and password in it, or a key in its query.
    pub(super) fn url(text: &str) -> Self {
        let shown = text.find(['?', '#']).map_or(text, |end| &text[..=end]);
        let more = if shown.len() < text.len() { "…" } else { "" };
        let Some((_, behind)) = shown.rsplit_once('@') else { return Self(format!("{:?}", format!("{shown}{more}"))) };
        let scheme = shown.split_once("://").map_or("", |(scheme, _)| scheme);
        let separator = if scheme.is_empty() { "" } else { "://" };
        let host = behind.split(['/', '?', '#', '\\']).next().unwrap_or_default();
        let plain = |part: &str, signs: &str| part.chars().all(|c| c.is_ascii_alphanumeric() || signs.contains(c));
        if plain(scheme, "+-.") && plain(host, "-._:[]") {
            Self(format!("{scheme}{separator}{host}"))
        } else {
            Self::hidden()
        }
    }

    pub(super) fn hidden() -> Self {
        Self("(secret)".to_owned())
    }

    fn open(value: &ValueKind) -> Self {
        Self(match value {
            ValueKind::String(text) if text.contains("://") => return Self::url(text),
            ValueKind::String(text) => format!("{text:?}"),
            ValueKind::Table(_) => "{…}".to_owned(),
            ValueKind::Array(_) => "[…]".to_owned(),
            ValueKind::Nil
            | ValueKind::Boolean(_)
            | ValueKind::I64(_)
            | ValueKind::I128(_)
            | ValueKind::U64(_)
            | ValueKind::U128(_)
            | ValueKind::Float(_) => value.to_string(),
        })
    }
}

/// A name from outside as it may be shown: without anything that a terminal would obey.
pub(super) fn printable(name: &str) -> String {
    let mut shown = String::with_capacity(name.len());
    for c in name.chars() {
        if obeyed(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

/// Whether a character is not seen and does something: controls, what turns the direction of writing, breaks lines, joins
/// or parts letters, or has no width.
pub(crate) fn obeyed(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
        )
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        let value = ValueKind::from("hunter2");
        for key in [
            "credential.clientsecret",
            "apps.a.ky",
            "apps",
            "upstream.api_key",
            "Credential.Kind",
            "a.pwd",
            "upstream.credential",
            "upstream.apps",
            "client_secret",
        ] {
            assert_eq!(Shown::unknown(key, &value).to_string(), "(secret)", "{key}");
        }
        assert_eq!(Shown::unknown("upstream.endpont", &value).to_string(), "\"hunter2\"");
        for key in ["credential.client_secret", "credential", "apps", "apps.a.key", "apps.a.b.key", "apps.a"] {
            assert_eq!(Shown::known(key, &value).to_string(), "(secret)", "{key}");
        }
        assert_eq!(Shown::known("credential.authority_host", &value).to_string(), "\"hunter2\"");
        let section = ValueKind::from(config::Map::from_iter([("x".to_owned(), "hunter2")]));
        assert_eq!(Shown::unknown("sektion", &section).to_string(), "{…}");
        assert_eq!(Shown::unknown("list", &ValueKind::from(vec!["hunter2"])).to_string(), "[…]");
    }

    #[test]
    fn a_url_is_shown_without_its_user() {
        for (text, shown) in [
            ("socks5://proxy:1080", "\"socks5://proxy:1080\""),
            ("https://user:hunter2@proxy:443/x", "https://proxy:443"),
            ("user:hunter2@proxy:443", "proxy:443"),
            ("http://user:hun@ter2@proxy", "http://proxy"),
            ("https://name.example/?api-key=hunter2", "\"https://name.example/?…\""),
            ("https://user@name.example/?q=hunter2@x", "https://name.example"),
            ("user:hunter2://@proxy", "(secret)"),
            ("http://user@hunter2 x", "(secret)"),
        ] {
            assert_eq!(Shown::url(text).to_string(), shown);
        }
    }
}
