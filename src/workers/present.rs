//! How many of something there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many of something there are at the moment. Clones count the same.
#[derive(Debug, Clone, Default)]
pub struct Count(Arc<AtomicUsize>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct Present(Count);

impl Count {
    /// One more.
    #[must_use]
    pub fn enter(&self) -> Present {
        self.0.fetch_add(1, Ordering::Relaxed);
        Present(self.clone())
    }

    /// How many there are.
    #[must_use]
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
