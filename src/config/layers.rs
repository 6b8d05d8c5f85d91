//! The layers of the configuration, in order, each with a name that an error message can give.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use config::{File, FileFormat, Source, Value, ValueKind};

use super::error::{ConfigError, Shown, printable};
use super::keys::{KEYS, find, near};
use super::{Environment, Overrides};

const DEFAULTS: &str = include_str!("../../config/default.toml");

/// Variables of ours: `AOAI_PROXY__SECTION__KEY`.
pub(crate) const PREFIX: &str = "AOAI_PROXY__";

/// Values by name; sections are tables among them.
type Table = config::Map<String, Value>;

/// All layers, the weakest first.
#[derive(Debug)]
pub(super) struct Layers(Vec<Layer>);

struct Layer {
    name: String,
    values: Table,
}

/// The name alone: values may be secrets.
impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Layers {
    /// Defaults, file, conventional variables, variables of ours, command line.
    pub(super) fn read(environment: &Environment, overrides: &Overrides) -> Result<Self, ConfigError> {
        let matters =
            |name: &&str| name.starts_with("AOAI_PROXY") || KEYS.iter().any(|key| key.variable == Some(*name));
        if let Some(variable) = environment.unreadable().find(matters) {
            return Err(ConfigError::NoText(printable(variable)));
        }
        let mut layers = Self::defaults();
        for (key, value) in &overrides.defaults {
            layers.push("the subcommand's defaults".to_owned(), key, value)?;
        }
        if let Some((path, named_by)) = find_file(environment, overrides.file.as_deref()) {
            layers.push_file(&path, named_by)?;
        }
        for (key, variable) in KEYS.iter().filter_map(|key| Some((key.name, key.variable?))) {
            if let Some(value) = environment.get(variable) {
                layers.push(format!("environment variable {variable}"), key, value)?;
            }
        }
        for (variable, value) in environment.starting_with(PREFIX) {
            layers.push(format!("environment variable {variable}"), &key_of(variable), value)?;
        }
        for variable in environment.empty().filter(|variable| variable.starts_with(PREFIX)) {
            let key = key_of(variable);
            if find(&key).is_some_and(|key| key.may_be_empty) {
                layers.push(format!("environment variable {variable}"), &key, "")?;
            }
        }
        layers.push_overrides(overrides)?;
        Ok(layers)
    }

    /// The embedded defaults alone.
    pub(super) fn defaults() -> Self {
        #[expect(clippy::expect_used, reason = "the text is part of the program and a test reads it")]
        let values = toml(DEFAULTS).expect("the embedded defaults are TOML");
        Self(vec![Layer { name: "the defaults".to_owned(), values }])
    }

    /// What was said on the command line.
    pub(super) fn push_overrides(&mut self, overrides: &Overrides) -> Result<(), ConfigError> {
        for (option, key, value) in &overrides.named {
            self.push(format!("command line {option}"), key, value)?;
        }
        for assignment in &overrides.assignments {
            let (key, value) =
                assignment.split_once('=').ok_or_else(|| ConfigError::Assignment(beginning(assignment)))?;
            self.push("command line --set".to_owned(), key.trim(), value)?;
        }
        Ok(())
    }

    /// All layers laid over each other.
    pub(super) fn merged(&self) -> Result<Value, ConfigError> {
        let mut merged = Table::new();
        for layer in &self.0 {
            lay_over(&mut merged, &layer.values).map_err(|(key, value)| ConfigError::BadValue {
                value: Shown::known(&key, value),
                key: printable(&key),
                layer: layer.name.clone(),
                problem: "is a section; set the keys in it".to_owned(),
            })?;
        }
        Ok(Value::new(None, ValueKind::Table(merged)))
    }

    /// The error for a key that there is, with a value that does not fit it.
    pub(super) fn bad_value(&self, key: &str, problem: String) -> ConfigError {
        // Of a list, the item is named and the whole was set.
        let whole = key.split('[').next().unwrap_or(key);
        let whole = if self.origins(key).next().is_some() { key } else { whole };
        let (layer, value) = self.origin(whole);
        ConfigError::BadValue { key: printable(key), value: Shown::known(whole, value), layer, problem }
    }

    /// The error for a key that there is not.
    pub(super) fn unknown_key(&self, key: &str, expected: &str) -> ConfigError {
        let (layer, value) = self.origin(key);
        let expected = meant(key, expected);
        ConfigError::UnknownKey { key: printable(key), value: Shown::unknown(key, value), layer, expected }
    }

    /// Every layer that sets `key`, the strongest first, and what it sets it to.
    pub(super) fn origins<'a>(&'a self, key: &str) -> impl Iterator<Item = (&'a str, &'a ValueKind)> {
        self.0.iter().rev().filter_map(move |layer| Some((layer.name.as_str(), look_up(&layer.values, key)?)))
    }

    /// What `key` is unless somebody says otherwise.
    pub(super) fn default_of(&self, key: &str) -> Option<&ValueKind> {
        self.0.first().and_then(|defaults| look_up(&defaults.values, key))
    }

    /// The names that any layer has in a section.
    pub(super) fn names_in(&self, section: &str) -> BTreeSet<String> {
        let tables = self.0.iter().filter_map(|layer| match look_up(&layer.values, section)? {
            ValueKind::Table(table) => Some(table.keys().cloned()),
            _ => None,
        });
        tables.flatten().collect()
    }

    /// The strongest layer that sets `key`, and what it sets it to.
    fn origin(&self, key: &str) -> (String, &ValueKind) {
        let strongest = self.origins(key).next();
        strongest.map_or(("no layer".to_owned(), &ValueKind::Nil), |(layer, value)| (layer.to_owned(), value))
    }

    /// One more layer, stronger than those before it, that sets one key.
    fn push(&mut self, name: String, key: &str, value: &str) -> Result<(), ConfigError> {
        let text = Value::from(value);
        if !is_key(key) {
            let expected = meant(key, "expected section.key, like upstream.endpoint");
            let value = Shown::unknown(key, &text.kind);
            return Err(ConfigError::UnknownKey { key: beginning(key), value, layer: name, expected });
        }
        let (sections, last) = key.rsplit_once('.').map_or((None, key), |(sections, last)| (Some(sections), last));
        let innermost = Table::from_iter([(last.to_owned(), text)]);
        let values =
            sections.into_iter().flat_map(|sections| sections.rsplit('.')).fold(innermost, |inner, section| {
                Table::from_iter([(section.to_owned(), Value::new(None, ValueKind::Table(inner)))])
            });
        self.0.push(Layer { name, values });
        Ok(())
    }

    fn push_file(&mut self, path: &Path, named_by: &'static str) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            named_by,
            source,
        })?;
        let values = toml(&text)
            .map_err(|error| ConfigError::Syntax { path: path.to_owned(), problem: unquoted(&error.to_string()) })?;
        self.0.push(Layer { name: path.display().to_string(), values });
        Ok(())
    }
}

/// Names are taken as they stand. A builder of the `config` crate would read each as an expression, in which `a[9]` makes
/// a list of ten.
fn toml(text: &str) -> Result<Table, config::ConfigError> {
    File::from_str(text, FileFormat::Toml).collect()
}

/// The parser's words and the place that they are about, without the line itself: a secret may stand there.
fn unquoted(error: &str) -> String {
    /// A frame above, the line, a frame below.
    const QUOTATION: usize = 3;
    let mut lines = error.trim_end().split('\n');
    let first = lines.next().unwrap_or_default();
    match first.strip_prefix("TOML parse error at ") {
        Some(place) => format!("{place}: {}", lines.skip(QUOTATION).collect::<Vec<_>>().join(", ")),
        None => first.to_owned(),
    }
}

/// The key that a variable of ours sets.
fn key_of(variable: &str) -> String {
    variable[PREFIX.len()..].to_ascii_lowercase().replace("__", ".")
}

/// What was `expected`, behind what `key` was probably meant to be.
fn meant(key: &str, expected: &str) -> String {
    near(key).map_or_else(|| expected.to_owned(), |near| format!("did you mean `{near}`? {expected}"))
}

/// Whether `key` is written as keys are: names joined by dots.
fn is_key(key: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let mut names = key.split('.');
    names.next().is_some_and(|section| !section.is_empty() && section.bytes().all(plain))
        && names.all(|name| !name.is_empty() && name.bytes().all(|byte| plain(byte) || byte == b'-'))
}

/// The part of what should have been a key that looks like one. A slip of the pen can put a secret behind it.
fn beginning(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    match text.find(|c| !plain(c)) {
        Some(end) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Fails with the first key that is a section below and a mere value above.
fn lay_over<'a>(lower: &mut Table, upper: &'a Table) -> Result<(), (String, &'a ValueKind)> {
    for (name, value) in upper {
        match (lower.get_mut(name).map(|value| &mut value.kind), &value.kind) {
            (Some(ValueKind::Table(below)), ValueKind::Table(above)) => {
                lay_over(below, above).map_err(|(key, value)| (format!("{name}.{key}"), value))?;
            }
            (Some(ValueKind::Table(_)), value) => return Err((name.clone(), value)),
            _ => {
                lower.insert(name.clone(), value.clone());
            }
        }
    }
    Ok(())
}

/// What `key` is set to. A name in a file may itself hold dots.
fn look_up<'a>(table: &'a Table, key: &str) -> Option<&'a ValueKind> {
    let within = |(dot, _)| match &table.get(&key[..dot])?.kind {
        ValueKind::Table(section) => look_up(section, &key[dot + 1..]),
        _ => None,
    };
    table.get(key).map(|value| &value.kind).or_else(|| key.match_indices('.').find_map(within))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_names_joined_by_dots() {
        for good in ["listen", "listen.address", "apps.my-app.key", "a.b.c_d"] {
            assert!(is_key(good), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a[9]", "A.b", "a-b.c", "a b", "a.b:c", "é"] {
            assert!(!is_key(bad), "{bad}");
        }
    }

    #[test]
    fn the_stronger_layer_wins_key_by_key() {
        let mut layers = Layers::defaults();
        for (name, value) in [("one", "1"), ("two", "2")] {
            layers.push(name.to_owned(), "limits.max_connections", value).expect("a key");
        }
        let merged = layers.merged().expect("sections").into_table().expect("sections");
        let limits = |key| look_up(&merged, key).map(ToString::to_string);
        assert_eq!(limits("limits.max_connections").as_deref(), Some("2"));
        assert_eq!(limits("limits.header_timeout").as_deref(), Some("15s"));
        assert_eq!(layers.origin("limits.max_connections").0, "two");
        assert_eq!(layers.origin("limits.header_timeout").0, "the defaults");
    }

    #[test]
    fn names_in_a_file_are_no_expressions() {
        let table = toml("\"a[99999999999999]\" = 1\n\"b.c\" = 2\n").expect("TOML");
        assert_eq!(look_up(&table, "a[99999999999999]"), Some(&ValueKind::I64(1)));
        assert_eq!(look_up(&table, "b.c"), Some(&ValueKind::I64(2)));
    }

    #[test]
    fn a_syntax_error_has_a_place_and_no_quotation() {
        let problem = |text| unquoted(&toml(text).map(|_| ()).expect_err("no TOML").to_string());
        let missing_quote = problem("[credential]\nclient_secret = \"hunter2\nkind = \"auto\"\n");
        assert!(missing_quote.starts_with("line 2, column "), "{missing_quote}");
        for text in [
            "client_secret = hunter2",
            "client_secret = \"hunter2",
            "client_secret = 'hunter2\n",
            "client_secret = \"\"\"hunter2\n",
            "client_secret \"hunter2\"",
            "client_secret = \"\\hunter2\"",
            "a = 1\na = \"hunter2\"",
            "a = [\"hunter2\"",
            "a = \"b\" \r hunter2",
        ] {
            let problem = problem(text);
            assert!(problem.starts_with("line "), "{problem}");
            assert!(problem.split_once(": ").is_some_and(|(_, words)| words.len() > 5), "{problem}");
            assert!(!problem.contains("hunter2") && !problem.contains('|') && !problem.contains('\n'), "{problem}");
        }
    }
}
