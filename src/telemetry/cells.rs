//! What is counted by a few numbers, found without a look at names: made when it is needed first, and kept.

use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{PoisonError, RwLock};

use rustc_hash::FxHashMap;

/// As many as there are keys, which are made of lists that have an end: nobody chooses them, so a quick hash will do.
#[derive(Debug)]
pub(super) struct Cells<K, V>(RwLock<FxHashMap<K, V>>);

impl<K, V> Default for Cells<K, V> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<K: Eq + Hash, V> Cells<K, V> {
    /// Does `work` with the cell of `key`, which is made if there is none.
    pub(super) fn with<E>(&self, key: K, make: impl FnOnce() -> Result<V, E>, work: impl FnOnce(&V)) -> Result<(), E> {
        // A panic elsewhere leaves nothing half done in here.
        if let Some(cell) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            work(cell);
            return Ok(());
        }
        match self.0.write().unwrap_or_else(PoisonError::into_inner).entry(key) {
            // Somebody else may have been quicker.
            Entry::Occupied(cell) => work(cell.get()),
            Entry::Vacant(cell) => work(cell.insert(make()?)),
        }
        Ok(())
    }
}
