//! Names that callers choose, and no more of them than there is room for.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

/// How many names of models are told apart. A resource has some dozens of deployments.
const MOST: usize = 200;

/// What stands for all names that came when there was no more room.
pub(super) const OTHERS: &str = "others";

/// The names that were used so far.
#[derive(Debug, Default)]
pub(super) struct Names(RwLock<HashSet<Arc<str>>>);

impl Names {
    /// `name` itself while there is room for it, else what stands for [`OTHERS`].
    pub(super) fn keep(&self, name: &str) -> Arc<str> {
        let known = |names: &HashSet<Arc<str>>| {
            names.get(name).or_else(|| (names.len() >= MOST).then(|| names.get(OTHERS)).flatten()).cloned()
        };
        if let Some(known) = known(&self.0.read().unwrap_or_else(PoisonError::into_inner)) {
            return known;
        }
        let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let kept: Arc<str> = if names.len() + 1 >= MOST { OTHERS.into() } else { name.into() };
        names.insert(kept.clone());
        kept
    }

    /// `name`, if it was kept before.
    pub(super) fn find(&self, name: &str) -> Option<Arc<str>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
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
}
