//! From the signal to stop until the process may end.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};
use tokio::task::coop::unconstrained;

use crate::workers::{PerWorker, Present};

/// Shared by everything that behaves differently once the end has begun.
#[derive(Debug, Clone)]
pub struct Lifecycle(Arc<Flag>);

/// Something that is said once. To look costs nothing, and workers wait apart from each other.
#[derive(Debug, Default)]
struct Flag {
    is_raised: AtomicBool,
    /// Rung when it is.
    bells: PerWorker<Notify>,
}

impl Flag {
    fn raise(&self) {
        // Before anybody is woken because of it.
        self.is_raised.store(true, Ordering::SeqCst);
        self.bells.all().for_each(Notify::notify_waiters);
    }

    fn is_raised(&self) -> bool {
        self.is_raised.load(Ordering::SeqCst)
    }

    async fn raised(&self) {
        // What is rung from here on is heard, whenever that is listened to first.
        let rung = self.bells.own().notified();
        if !self.is_raised() {
            // Whatever else the task has done before: some wait by asking once.
            unconstrained(rung).await;
        }
    }
}

impl Lifecycle {
    /// A life that has not begun to end.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Flag::default()))
    }

    /// Begins the end: no new connections, running requests go on.
    pub fn end(&self) {
        self.0.raise();
    }

    /// Whether the end has begun.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.0.is_raised()
    }

    /// Completes when the end begins.
    pub async fn ending(&self) {
        self.0.raised().await;
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
pub struct Held(Arc<(OwnedSemaphorePermit, Running, Present)>);

impl Held {
    /// For one connection.
    #[must_use]
    pub fn new(place: OwnedSemaphorePermit, running: Running, present: Present) -> Self {
        Self(Arc::new((place, running, present)))
    }

    /// What the end waits for, and cuts off if that takes too long.
    #[must_use]
    pub fn running(&self) -> &Running {
        &self.0.1
    }
}

/// Something that runs; the end waits for it, for a while.
#[derive(Debug, Clone)]
pub struct Running {
    _alive: mpsc::Sender<()>,
    cut_off: Arc<Flag>,
}

/// Knows when nothing runs any more, and can see to it.
#[derive(Debug)]
pub struct Stillness {
    gone: mpsc::Receiver<()>,
    cut_off: Arc<Flag>,
}

impl Running {
    /// One that runs, and what completes once it and all its clones are gone.
    #[must_use]
    pub fn first() -> (Self, Stillness) {
        let (alive, gone) = mpsc::channel(1);
        let cut_off = Arc::new(Flag::default());
        (Self { _alive: alive, cut_off: cut_off.clone() }, Stillness { gone, cut_off })
    }

    /// Does `work` to its end, or drops it where it is when it is cut off. To be awaited by the task that is to be cut off: it
    /// waits for the word once, and is woken as whoever it was then.
    pub async fn unless_cut_off<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let (mut work, mut cut_off) = (pin!(work), pin!(self.cut_off.raised()));
        let mut waits = false;
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            if waits && !self.cut_off.is_raised() {
                return Poll::Pending;
            }
            waits = true;
            cut_off.as_mut().poll(cx).map(|()| None)
        })
        .await
    }
}

impl Stillness {
    /// Completes once nothing runs any more.
    pub async fn reached(&mut self) {
        // Nothing is ever sent: the wait ends when the last sender is gone.
        let _ = self.gone.recv().await;
    }

    /// Ends whatever still runs, where it is.
    pub fn cut_off(&self) {
        self.cut_off.raise();
    }
}
