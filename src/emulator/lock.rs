//! A mutex for short critical sections that stays usable after a panic elsewhere.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Shared state that is never held across an await.
#[derive(Debug, Default)]
pub(super) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// The value, for this moment. A panic of another holder is that holder's affair: every section leaves whole values.
    pub(super) fn open(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
