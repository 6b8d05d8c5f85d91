//! Names that callers choose, and no more of them than there is room for.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

/// How many names of models are told apart. A resource has some dozens of deployments.
const MOST: usize = 200;

/// What stands for all names that came when there was no more room.
pub(super) const OTHERS: &str = "others";

/// The names that were used so far, in lower case: Azure does not tell names of deployments apart by case, and what counts the
/// same should have one name whoever asked first, today and after the next start.
#[derive(Debug, Default)]
pub(super) struct Names(RwLock<HashSet<Arc<str>>>);

impl Names {
    /// `name` while there is room for it, else what stands for [`OTHERS`].
    pub(super) fn keep(&self, name: &str) -> Arc<str> {
        let name = lower(name);
        if let Some(known) = known(&self.0.read().unwrap_or_else(PoisonError::into_inner), &name) {
            return known;
        }
        let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have been quicker.
        if let Some(known) = known(&names, &name) {
            return known;
        }
        let kept: Arc<str> = if names.len() + 1 >= MOST { OTHERS.into() } else { name.into() };
        names.insert(kept.clone());
        kept
    }

    /// `name`, if it was kept before.
    pub(super) fn find(&self, name: &str) -> Option<Arc<str>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&*lower(name)).cloned()
    }
}

fn known(names: &HashSet<Arc<str>>, name: &str) -> Option<Arc<str>> {
    names.get(name).or_else(|| (names.len() >= MOST).then(|| names.get(OTHERS)).flatten()).cloned()
}

fn lower(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) { name.to_ascii_lowercase().into() } else { name.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_so_many_and_then_for_the_same() {
        let names = Names::default();
        let kept: Vec<_> = (0..1000).map(|number| names.keep(&number.to_string())).collect();
        assert_eq!(kept.iter().filter(|name| &***name == OTHERS).count(), 1000 - (MOST - 1));
        assert_eq!((&*names.keep("7"), &*names.keep("999")), ("7", OTHERS));
        assert_eq!(names.0.read().unwrap().len(), MOST);
    }

    #[test]
    fn names_do_not_differ_by_case_alone() {
        let names = Names::default();
        assert_eq!(["GPT-4o", "gpt-4o", "gPt-4O"].map(|name| names.keep(name).to_string()), ["gpt-4o"; 3]);
        assert_eq!(names.find("GPT-4O").as_deref(), Some("gpt-4o"));
        assert_eq!((names.find("o3"), names.0.read().unwrap().len()), (None, 1));
    }
}
