//! The threads that serve callers. Each has a runtime of its own, so that whatever belongs to one connection, and to the
//! resource's connection behind it, happens on one thread: nobody is woken across processors, and nothing is shared that need
//! not be.

mod own;

use std::cell::Cell;
use std::io;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::lifecycle::Count;

pub(crate) use own::Apart;
pub use own::{Near, PerWorker, Shared};

/// How long what a thread leaves behind may take to end.
const MOMENT: Duration = Duration::from_millis(200);

thread_local! {
    /// Which worker this thread is.
    static INDEX: Cell<usize> = const { Cell::new(0) };
}

/// How many threads serve callers: one for each processor that this process may use.
#[must_use]
pub fn count() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Which of the threads this is, less than [`count`]; 0 where there are none.
#[must_use]
pub fn index() -> usize {
    INDEX.get()
}

/// Does `work` as this one of the threads.
#[cfg(test)]
pub(crate) fn on<T: Send>(worker: usize, work: impl FnOnce() -> T + Send) -> T {
    let work = || {
        INDEX.set(worker);
        work()
    };
    thread::scope(|scope| scope.spawn(work).join().unwrap())
}

/// The threads that serve callers. They end when this is dropped.
#[derive(Debug, Default)]
pub struct Workers {
    workers: Vec<Worker>,
    /// Whose turn it is among those that have the same to do.
    turn: AtomicUsize,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    connections: Count,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Workers {
    /// None: everything happens in the runtime of whoever asks.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Starts as many as there should be.
    ///
    /// # Errors
    ///
    /// If the system gives no thread, or nothing to wait with.
    pub fn start() -> io::Result<Self> {
        let workers = (0..count()).map(Worker::start).collect::<io::Result<_>>()?;
        Ok(Self { workers, turn: AtomicUsize::new(0) })
    }

    /// Has `connection` served by whoever serves the fewest.
    pub fn serve(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let from_turn = (0..self.workers.len()).filter_map(|step| self.workers.get((turn + step) % self.workers.len()));
        let Some(worker) = from_turn.min_by_key(|worker| worker.connections.get()) else {
            tokio::spawn(connection);
            return;
        };
        let present = worker.connections.enter();
        worker.runtime.spawn(async move {
            connection.await;
            drop(present);
        });
    }

    /// Completes once each has done something since: not before, however long one is stuck.
    pub async fn answer(&self) {
        // All of them are asked before the first is waited for. One that has ended has nobody left to serve.
        let asked: Vec<_> = self.workers.iter().map(|worker| worker.runtime.spawn(async {})).collect();
        for answered in asked {
            let _ = answered.await;
        }
    }
}

impl Worker {
    fn start(index: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            INDEX.set(index);
            // An error is the drop of the other end, which means the same.
            let _ = runtime.block_on(stopped);
            // A name that is being looked up is left behind.
            runtime.shutdown_timeout(MOMENT);
        })?;
        Ok(Self { runtime: handle, connections: Count::default(), stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // All of them before the first is waited for.
        self.workers.iter_mut().for_each(|worker| drop(worker.stop.take()));
        for thread in self.workers.iter_mut().filter_map(|worker| worker.thread.take()) {
            if thread.join().is_err() {
                tracing::error!("a thread that served callers has panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;

    use tokio::sync::Notify;

    use super::*;

    #[test]
    fn whoever_serves_the_fewest_serves_the_next() {
        let mut workers = Workers::none();
        workers.workers = (0..3).map(|index| Worker::start(index).unwrap()).collect();
        let (tell, told) = mpsc::channel();
        let leave = Arc::new(Notify::new());
        let connect = || {
            let (tell, leave) = (tell.clone(), leave.clone());
            workers.serve(async move {
                tell.send(index()).unwrap();
                leave.notified().await;
            });
            told.recv().unwrap()
        };
        let mut first = [connect(), connect(), connect()];
        first.sort_unstable();
        assert_eq!(first, [0, 1, 2]);
        // Whoever waits the longest leaves, and its place is taken.
        let before: Vec<_> = workers.workers.iter().map(|worker| worker.connections.get()).collect();
        assert_eq!(before, [1, 1, 1]);
        leave.notify_one();
        while workers.workers.iter().all(|worker| worker.connections.get() == 1) {
            thread::yield_now();
        }
        let free = workers.workers.iter().position(|worker| worker.connections.get() == 0);
        assert_eq!(Some(connect()), free);
    }

    #[tokio::test]
    async fn one_that_is_stuck_does_not_answer() {
        let mut workers = Workers::none();
        workers.workers = (0..2).map(|index| Worker::start(index).unwrap()).collect();
        workers.answer().await;
        let (release, stuck) = mpsc::channel::<()>();
        workers.serve(async move {
            let _ = stuck.recv();
        });
        let mut answer = Box::pin(workers.answer());
        let free = workers.workers.last().unwrap().runtime.spawn(async {});
        assert!(futures_util::poll!(&mut answer).is_pending());
        free.await.unwrap();
        assert!(futures_util::poll!(&mut answer).is_pending(), "the other one has not");
        release.send(()).unwrap();
        answer.await;
    }

    #[test]
    fn what_is_left_behind_ends_with_the_threads() {
        struct Gone(mpsc::Sender<()>);
        impl Drop for Gone {
            fn drop(&mut self) {
                self.0.send(()).unwrap();
            }
        }
        let (tell, told) = mpsc::channel();
        let workers = Workers::start().unwrap();
        let gone = Gone(tell);
        workers.serve(async move {
            let _gone = gone;
            std::future::pending::<()>().await;
        });
        drop(workers);
        told.recv().unwrap();
    }
}
