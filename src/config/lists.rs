//! Several values under one key: a list in a file, or one text with commas between them where only text can be written.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer, SeqAccess, Visitor};

/// Reads each value of a list.
pub(super) fn list<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: FromStr<Err = String>,
    D: Deserializer<'de>,
{
    let read = |text: &String| text.parse().map_err(|problem| de::Error::custom(format!("{text:?} {problem}")));
    texts(deserializer)?.iter().map(read).collect()
}

/// The values as they are written.
pub(super) fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    deserializer.deserialize_any(Texts)
}

struct Texts;

impl<'de> Visitor<'de> for Texts {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list, or texts with commas between them")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<String>, E> {
        let text = text.trim();
        // As it would be written in a file.
        let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).filter(|inner| is_quoted(inner));
        let items = inner.unwrap_or(text).split(',').map(|item| item.trim().trim_matches(['"', '\'']).to_owned());
        // An empty text is a list of nothing, and a comma may stand behind the last.
        Ok(items.filter(|item| !item.is_empty()).collect())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Vec<String>, E> {
        Ok(vec![number.to_string()])
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Vec<String>, E> {
        Ok(vec![number.to_string()])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<String>, A::Error> {
        let mut texts = Vec::new();
        while let Some(item) = items.next_element()? {
            texts.push(item);
        }
        Ok(texts)
    }
}

/// Whether what stands in brackets is a list: `[::1]` is an address.
fn is_quoted(inner: &str) -> bool {
    let inner = inner.trim();
    inner.is_empty()
        || inner.starts_with(['"', '\''])
        || inner.bytes().all(|byte| byte.is_ascii_digit() || b", ".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        Texts.visit_str::<de::value::Error>(text).expect("a list")
    }

    #[test]
    fn commas_and_brackets_make_a_list() {
        assert_eq!(read("a, b,c,"), ["a", "b", "c"]);
        assert_eq!(read(r#"["a", 'b']"#), ["a", "b"]);
        assert_eq!(read("[1000, 1001]"), ["1000", "1001"]);
        assert_eq!(read("[::1]"), ["[::1]"]);
        assert_eq!(read("localhost, [::1]"), ["localhost", "[::1]"]);
        for nothing in ["", " ", "[]"] {
            assert!(read(nothing).is_empty(), "{nothing}");
        }
    }
}
