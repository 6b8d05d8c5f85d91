//! The reference of the configuration in `docs/configuration.md` is what the program itself knows of its keys.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use aoai_auth_proxy::config::keys::{KEYS, Key};

const PAGE: &str = "docs/configuration.md";

/// The defaults as they are written, by key.
fn defaults() -> BTreeMap<String, String> {
    let mut section = String::new();
    let mut defaults = BTreeMap::new();
    for line in include_str!("../../config/default.toml").lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((name, value)) = line.split_once(" = ") {
            defaults.insert(format!("{section}.{name}"), value.to_owned());
        }
    }
    defaults
}

fn row(key: &Key, defaults: &BTreeMap<String, String>) -> String {
    let written =
        defaults.get(key.name).map(|value| match value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(text) => format!("`{text}`"),
            None => format!("`{value}`"),
        });
    let usual = written.or_else(|| key.otherwise.map(str::to_owned));
    let default = match (key.variable, usual) {
        (Some(variable), Some(usual)) => format!("`${variable}`, else {usual}"),
        (Some(variable), None) => format!("`${variable}`"),
        (None, usual) => usual.unwrap_or_else(|| "none".to_owned()),
    };
    let more = key.more.map(|page| format!(" ([more]({page}))")).unwrap_or_default();
    format!("| `{}` | {default} | {}{more} |\n", key.name, key.meaning)
}

#[test]
fn the_reference_has_every_key_as_it_is() {
    let defaults = defaults();
    assert!(defaults.keys().all(|name| KEYS.iter().any(|key| key.name == name)), "{defaults:?}");
    let rows: String = KEYS.iter().map(|key| row(key, &defaults)).collect();
    let table = format!("| key | default | meaning |\n| --- | --- | --- |\n{rows}");
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE)).unwrap();
    if !page.contains(&table) {
        let right = Path::new(env!("CARGO_TARGET_TMPDIR")).join("configuration-table.md");
        fs::write(&right, table).unwrap();
        panic!("the table in {PAGE} is not what the program knows; the right one is in {}", right.display());
    }
}
