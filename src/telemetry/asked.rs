//! Which model a request asks for, as far as its path, its query or the beginning of its content says: for its line in the log.
//!
//! What a caller writes there is its own affair, and told only if it looks like a name. Nothing is decided by it: whether a
//! model may be asked for is a matter of [`crate::apps::models`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use http::header::{CONTENT_ENCODING, HeaderMap};

use super::meter::is_of_kind;
use crate::inspect::model::ModelNames;

/// The longest name that is told: Azure's names of deployments are no longer.
const LONGEST_NAME: usize = 64;
/// How much of the content is looked at. Some clients write the model behind all messages.
const LONGEST_LOOK: usize = 1 << 20;

/// The model of one request, once that is known, and whether it was asked. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Asked(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    model: OnceLock<Box<str>>,
    has_gone: AtomicBool,
}

impl Asked {
    /// The request asks for `model`, if that is a name; what was known before wins.
    pub fn names(&self, model: &str) {
        let is_name = (1..=LONGEST_NAME).contains(&model.len()) && model.bytes().all(|byte| byte.is_ascii_graphic());
        if is_name {
            // Already known: then that stays.
            let _ = self.0.model.set(model.into());
        }
    }

    /// The model, if it is known.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.0.model.get().map(AsRef::as_ref)
    }

    /// The request begins to go to the resource.
    pub fn goes(&self) {
        self.0.has_gone.store(true, Ordering::Relaxed);
    }

    /// Whether the resource may have seen any of the request.
    #[must_use]
    pub fn has_gone(&self) -> bool {
        self.0.has_gone.load(Ordering::Relaxed)
    }

    /// Looks for the model in content with `fields`, if that can be read and it is not known yet.
    #[must_use]
    pub fn watch(&self, fields: &HeaderMap) -> Option<Watch> {
        let can_be_read = is_of_kind(fields, &["application/json"]) && !fields.contains_key(CONTENT_ENCODING);
        (can_be_read && self.model().is_none()).then(|| Watch {
            asked: self.clone(),
            names: ModelNames::default(),
            left: LONGEST_LOOK,
        })
    }
}

/// Looks at content on its way, until the model is known or cannot be.
#[derive(Debug)]
pub struct Watch {
    asked: Asked,
    names: ModelNames,
    left: usize,
}

impl Watch {
    /// Looks at the next piece. Whether there is anything left to look for.
    pub fn read(&mut self, piece: &[u8]) -> bool {
        let mut piece = piece.get(..self.left).unwrap_or(piece);
        self.left -= piece.len();
        match self.names.next(&mut piece) {
            Ok(Some(model)) => {
                self.asked.names(&model);
                false
            }
            Ok(None) => self.left > 0,
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::CONTENT_TYPE;

    use super::*;

    fn fields(kind: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))])
    }

    /// The model of content that comes in pieces of 1000 bytes, and how many of them were looked at.
    fn told(content: &str) -> (Option<String>, usize) {
        let asked = Asked::default();
        let mut watch = asked.watch(&fields("application/json; charset=utf-8")).unwrap();
        let pieces = content.as_bytes().chunks(1000);
        let looked = pieces.take_while(|piece| watch.read(piece)).count();
        (asked.model().map(str::to_owned), looked)
    }

    #[test]
    fn a_model_is_told_wherever_it_stands_near_the_beginning() {
        assert_eq!(told(r#"{"model":"gpt-4.1"}"#), (Some("gpt-4.1".to_owned()), 0));
        let behind = |length: usize| format!(r#"{{"messages":"{}","model":"o3","x":1}}"#, "x".repeat(length));
        assert_eq!(told(&behind(500_000)), (Some("o3".to_owned()), 500));
        assert_eq!(told(&behind(2_000_000)), (None, LONGEST_LOOK / 1000));
    }

    #[test]
    fn what_is_no_name_is_not_told() {
        for name in ["", "two words", "line\\nbreak", "esc\\u001b[31m", "ümlaut", &"x".repeat(65)] {
            assert_eq!(told(&format!(r#"{{"model":"{name}"}}"#)).0, None, "{name}");
        }
        assert_eq!(told(&format!(r#"{{"model":"{}"}}"#, "x".repeat(64))).0, Some("x".repeat(64)));
        assert_eq!(told("[1]"), (None, 0));
    }

    #[test]
    fn what_the_address_says_wins() {
        let asked = Asked::default();
        asked.names("of-the-path");
        asked.names("another");
        assert_eq!(asked.model(), Some("of-the-path"));
        assert!(asked.watch(&fields("application/json")).is_none());
    }

    #[test]
    fn only_json_that_can_be_read_is_looked_at() {
        assert!(Asked::default().watch(&fields("multipart/form-data")).is_none());
        let mut packed = fields("application/json");
        packed.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(Asked::default().watch(&packed).is_none());
    }
}
