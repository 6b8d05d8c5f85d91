//! What each worker has of its own: a processor that writes where another one has written waits for the other's cache, and
//! that takes longer than what is written.

use std::ops::Deref;
use std::sync::Arc;

use super::{count, index};

/// One of something for each worker. Whoever is none has the first one's.
#[derive(Debug)]
pub struct PerWorker<T>(Box<[Apart<T>]>);

/// Something that has the lines of the cache that it is in to itself. Processors fetch two of 64 bytes together.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Apart<T>(pub(crate) T);

impl<T: AsRef<[u8]>> AsRef<[u8]> for Apart<T> {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl<T> PerWorker<T> {
    /// As many as [`count`] says.
    #[must_use]
    pub fn new(mut make: impl FnMut() -> T) -> Self {
        // One at least, whatever `count` says.
        Self((0..count().max(1)).map(|_| Apart(make())).collect())
    }

    /// The same, of what may fail to be made.
    ///
    /// # Errors
    ///
    /// The first of `make`.
    pub fn try_new<E>(mut make: impl FnMut() -> Result<T, E>) -> Result<Self, E> {
        (0..count().max(1)).map(|_| make().map(Apart)).collect::<Result<_, _>>().map(Self)
    }

    /// This thread's.
    #[must_use]
    pub fn own(&self) -> &T {
        let Apart(own) = &self.0[index() % self.0.len()];
        own
    }

    /// Everybody's.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|Apart(one)| one)
    }
}

impl<T: Default> Default for PerWorker<T> {
    fn default() -> Self {
        Self::new(T::default)
    }
}

/// What all workers share, and each counts on its own who holds it.
#[derive(Debug)]
pub struct Shared<T> {
    all: Arc<T>,
    near: PerWorker<Near<T>>,
}

/// A handle of one worker's.
#[derive(Debug)]
pub struct Near<T>(Arc<Apart<Arc<T>>>);

impl<T> Shared<T> {
    /// Something to be shared.
    #[must_use]
    pub fn new(shared: T) -> Self {
        let all = Arc::new(shared);
        let near = PerWorker::new(|| Near(Arc::new(Apart(all.clone()))));
        Self { all, near }
    }

    /// A handle for what this worker does.
    #[must_use]
    pub fn near(&self) -> Near<T> {
        self.near.own().clone()
    }

    /// A handle for what is kept.
    #[must_use]
    pub fn handle(&self) -> Arc<T> {
        self.all.clone()
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.all
    }
}

impl<T> Clone for Near<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Near<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workers::on;

    #[test]
    fn each_worker_has_its_own() {
        let own: PerWorker<usize> = {
            let mut number = 0;
            PerWorker::new(|| {
                number += 1;
                number
            })
        };
        assert_eq!(own.all().count(), count());
        assert_eq!(*own.own(), 1, "this thread is none");
        for worker in 0..count() {
            assert_eq!(on(worker, || *own.own()), worker + 1);
        }
    }

    #[test]
    fn what_is_shared_lives_as_long_as_its_handles() {
        let shared = Shared::new(String::from("shared"));
        let (near, handle) = (shared.near(), shared.handle());
        drop(shared);
        assert_eq!((near.as_str(), Arc::strong_count(&handle)), ("shared", 2));
        drop(near);
        assert_eq!(Arc::strong_count(&handle), 1);
    }
}
