//! The process environment, read in this one place and handed on as a plain map.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// A snapshot of environment variables. Tests build one by hand instead of setting process variables.
///
/// An empty variable counts as unset, as is the custom among Azure's SDKs; where a key can be nothing at all, a variable of ours
/// says that by being empty.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    /// Names of variables that are set to nothing.
    empty: BTreeSet<String>,
    /// Names of variables whose values are not UTF-8.
    unreadable: BTreeSet<String>,
}

impl Environment {
    /// The environment of this process.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    pub fn process() -> Self {
        let (mut unreadable, mut variables) = (BTreeSet::new(), Vec::new());
        for (name, value) in std::env::vars_os() {
            // Nothing here has a name that is not UTF-8.
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => variables.push((name, value)),
                Err(_) => {
                    unreadable.insert(name);
                }
            }
        }
        Self { unreadable, ..Self::from_iter(variables) }
    }

    /// Variables that are set to nothing, in the order of their names.
    pub(super) fn empty(&self) -> impl Iterator<Item = &str> {
        self.empty.iter().map(String::as_str)
    }

    /// Variables that are set to what is no text, in the order of their names.
    pub(super) fn unreadable(&self) -> impl Iterator<Item = &str> {
        self.unreadable.iter().map(String::as_str)
    }

    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// The variables whose names begin with `prefix`, in the order of their names.
    pub fn starting_with<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(move |(name, _)| name.starts_with(prefix))
    }

    /// Where a user's configuration files live: `$XDG_CONFIG_HOME`, else `$HOME/.config`.
    pub(super) fn config_home(&self) -> Option<PathBuf> {
        let home = || self.get("HOME").map(|home| PathBuf::from(home).join(".config"));
        self.get("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home)
    }

    /// Where what programs keep from one run to the next lives: `$XDG_STATE_HOME`, else `$HOME/.local/state`.
    pub(super) fn state_home(&self) -> Option<PathBuf> {
        let home = || self.get("HOME").map(|home| PathBuf::from(home).join(".local/state"));
        self.get("XDG_STATE_HOME").map(PathBuf::from).or_else(home).filter(|path| path.is_absolute())
    }
}

/// Names only: values may be secrets.
impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let owned = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        let (empty, variables): (Vec<_>, Vec<_>) = owned.partition(|(_, value): &(String, String)| value.is_empty());
        let empty = empty.into_iter().map(|(name, _)| name).collect();
        Self { variables: variables.into_iter().collect(), empty, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_is_not_set() {
        let environment = Environment::from_iter([("A_SET", "1"), ("A_EMPTY", "")]);
        assert_eq!((environment.get("A_SET"), environment.get("A_EMPTY")), (Some("1"), None));
        assert_eq!(environment.starting_with("A_").collect::<Vec<_>>(), [("A_SET", "1")]);
        assert_eq!(environment.empty().collect::<Vec<_>>(), ["A_EMPTY"]);
    }
}
