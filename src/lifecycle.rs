//! From the signal to stop until the process may end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

/// Shared by everything that behaves differently once the end has begun.
#[derive(Debug, Clone)]
pub struct Lifecycle(watch::Sender<bool>);

impl Lifecycle {
    /// A life that has not begun to end.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Begins the end: no new connections, running requests go on.
    pub fn end(&self) {
        self.0.send_replace(true);
    }

    /// Whether the end has begun.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        *self.0.borrow()
    }

    /// Completes when the end begins.
    pub async fn ending(&self) {
        // `self` holds the sender, so the wait ends only by its value.
        let _ = self.0.subscribe().wait_for(|ending| *ending).await;
    }
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

/// What a caller's connection holds while it lives: a place among the connections, and the server's patience at the end.
/// A connection that switches protocols outlives what the server knows of it: whoever carries it on takes a clone along.
#[derive(Debug, Clone)]
pub struct Held(#[expect(dead_code, reason = "held, not read")] Arc<(OwnedSemaphorePermit, Running, Present)>);

impl Held {
    /// For one connection.
    #[must_use]
    pub fn new(place: OwnedSemaphorePermit, running: Running, present: Present) -> Self {
        Self(Arc::new((place, running, present)))
    }
}

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

/// Something that runs; the end waits for it.
#[derive(Debug, Clone)]
pub struct Running(#[expect(dead_code, reason = "held, not read")] mpsc::Sender<()>);

/// Knows when nothing runs any more.
#[derive(Debug)]
pub struct Stillness(mpsc::Receiver<()>);

impl Running {
    /// One that runs, and what completes once it and all its clones are gone.
    #[must_use]
    pub fn first() -> (Self, Stillness) {
        let (running, gone) = mpsc::channel(1);
        (Self(running), Stillness(gone))
    }
}

impl Stillness {
    /// Completes once nothing runs any more.
    pub async fn reached(mut self) {
        // Nothing is ever sent: the wait ends when the last sender is gone.
        let _ = self.0.recv().await;
    }
}
