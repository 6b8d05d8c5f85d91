//! Log lines on their way to standard error: whoever logs never waits for whoever reads.
//!
//! A pipe that nobody reads fills up, and then a write to it takes for ever. Hence a thread of its own writes, and what it
//! cannot write soon is dropped, counted and told of. Not `std::io::stderr()`: whoever else wrote there would wait for its lock.
//!
//! Lines of requests are handed over together, once their worker has looked after whatever else was ready: to take a lock that
//! other processors take as well costs more than to make a line.
//!
//! A line that is handed over after silence is written at once. Those behind it wait for a moment and are written together: to
//! wake a thread costs more than to make a line.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use memchr::memchr_iter;
use nix::sys::signal::{SigSet, Signal};
use rustix::event::{PollFd, PollFlags, poll};
use tracing_subscriber::fmt::MakeWriter;

use crate::workers;

/// How many bytes of lines wait at most. Twice that is held, as those that are being written wait no more.
const MOST_WAITING: usize = 4 << 20;
/// More room than this is given back once it is no longer needed, and so much is written before its time.
const USUAL_ROOM: usize = 64 << 10;
/// So many bytes of one thread's are handed over before their time.
const MOST_NEAR: usize = 4 << 10;
/// How long lines wait for others. Somebody may be looking.
const TOGETHER: Duration = Duration::from_millis(20);

/// Lines that wait to be written. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Lines>,
    /// There is something to write, at a time when that is waited for.
    more: Condvar,
    /// There is nothing left to write.
    empty: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    waiting: Vec<u8>,
    /// How many lines there was no room for, and how many of these were told of.
    dropped: u64,
    told: u64,
    is_writing: bool,
    /// The writer has nothing to do, and is to be told when it has.
    is_idle: bool,
    /// How many wait until all is written.
    flushing: usize,
    /// Whether there is a thread that writes.
    is_served: bool,
}

thread_local! {
    static NEAR: RefCell<Near> = const { RefCell::new(Near { queue: None, lines: Vec::new() }) };
}

/// Lines that one thread has yet to hand over.
struct Near {
    queue: Option<Queue>,
    lines: Vec<u8>,
}

/// Hands over what its thread has, at the latest when it is dropped.
struct HandOver;

impl Queue {
    /// Begins to write to `output`, in a thread that has the rights of this one.
    ///
    /// # Errors
    ///
    /// If there can be no such thread.
    pub(super) fn begin(&self, output: impl Write + Send + 'static) -> io::Result<()> {
        if mem::replace(&mut self.open().is_served, true) {
            return Ok(());
        }
        let queue = self.clone();
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || queue.serve(output));
        thread.map(|_| ()).inspect_err(|_| self.open().is_served = false)
    }

    /// Waits until all is written and told, but no longer than `patience`: what workers have yet to hand over is there when they
    /// have ended.
    pub(super) fn flush(&self, patience: Duration) {
        let end = Instant::now() + patience;
        hand_over();
        let mut lines = self.open();
        lines.flushing += 1;
        self.0.more.notify_one();
        while lines.is_writing || !lines.waiting.is_empty() || lines.dropped > lines.told {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            lines = self.0.empty.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        lines.flushing -= 1;
    }

    /// One more line, if there is room for it, behind those that this thread has yet to hand over.
    pub(super) fn push(&self, line: &[u8]) {
        hand_over();
        self.take(line);
    }

    /// One more line, with others of this worker, or at once if this thread is none.
    pub(super) fn push_with_others(&self, line: &[u8]) {
        match NEAR.try_with(|near| near.try_borrow_mut().ok()?.add(self, line)) {
            Ok(Some(0)) => {
                // Once all tasks have run that are ready now; or at the end, where it is dropped.
                let last = HandOver;
                drop(tokio::spawn(async move { drop(last) }));
            }
            Ok(Some(MOST_NEAR..)) => hand_over(),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => self.push(line),
        }
    }

    /// Takes lines, if there is room for them.
    fn take(&self, some: &[u8]) {
        let mut lines = self.open();
        if lines.waiting.len() + some.len() > MOST_WAITING {
            lines.dropped += memchr_iter(b'\n', some).count() as u64;
            return;
        }
        let were = lines.waiting.len();
        lines.waiting.extend_from_slice(some);
        let is_much = were < USUAL_ROOM && lines.waiting.len() >= USUAL_ROOM;
        let is_waited_for = mem::take(&mut lines.is_idle) || is_much;
        drop(lines);
        if is_waited_for {
            self.0.more.notify_one();
        }
    }

    fn serve(&self, mut output: impl Write) {
        write_from_the_background();
        let mut written = Vec::new();
        loop {
            let mut lines = self.next();
            mem::swap(&mut lines.waiting, &mut written);
            lines.is_writing = true;
            let (in_all, dropped) = (lines.dropped, lines.dropped - lines.told);
            lines.told = in_all;
            drop(lines);
            // Now that there is room; should others have filled it meanwhile, it is told with what they lose.
            if dropped > 0 {
                tracing::warn!(dropped, in_all, "log lines were dropped: nobody read them in time");
            }
            // A reader that is gone misses nothing.
            let _ = output.write_all(&written);
            written.clear();
            written.shrink_to(USUAL_ROOM);
        }
    }

    /// Waits for a moment, and then until there is something to write.
    fn next(&self) -> MutexGuard<'_, Lines> {
        let mut lines = self.open();
        lines.is_writing = false;
        self.0.empty.notify_all();
        let can_wait = |lines: &mut Lines| lines.flushing == 0 && lines.waiting.len() < USUAL_ROOM;
        lines = self.0.more.wait_timeout_while(lines, TOGETHER, can_wait).unwrap_or_else(PoisonError::into_inner).0;
        while lines.waiting.is_empty() {
            lines.is_idle = true;
            lines = self.0.more.wait(lines).unwrap_or_else(PoisonError::into_inner);
        }
        lines.is_idle = false;
        lines
    }

    /// A panic elsewhere leaves nothing half done in here.
    fn open(&self) -> MutexGuard<'_, Lines> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands over what this thread has.
fn hand_over() {
    // A thread that ends has done so already.
    let _ = NEAR.try_with(|near| near.try_borrow_mut().map(|mut near| near.hand_over()));
}

impl Near {
    /// Adds a line, if this thread is a worker. How many bytes there were before: if none, it is yet to be seen to that they are
    /// handed over.
    fn add(&mut self, queue: &Queue, line: &[u8]) -> Option<usize> {
        if self.queue.as_ref().is_some_and(|other| !Arc::ptr_eq(&other.0, &queue.0)) {
            self.hand_over();
        }
        if self.queue.is_none() {
            self.queue = workers::is_at_work().then(|| queue.clone());
            self.queue.as_ref()?;
        }
        let were = self.lines.len();
        self.lines.extend_from_slice(line);
        Some(were)
    }

    fn hand_over(&mut self) {
        if let Some(queue) = self.queue.take() {
            queue.take(&self.lines);
            self.lines.clear();
        }
    }
}

impl Drop for Near {
    fn drop(&mut self) {
        self.hand_over();
    }
}

impl Drop for HandOver {
    fn drop(&mut self) {
        hand_over();
    }
}

/// Where a terminal stops whoever writes to it from the background (`stty tostop`), this thread writes all the same, or it would
/// stop everybody who is served.
fn write_from_the_background() {
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTTOU);
    if let Err(error) = stop.thread_block() {
        tracing::debug!(%error, "a terminal may stop this process because of its log");
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// Takes one line, whole.
pub(super) struct Line<'a>(&'a Queue);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard error, without the lock that others might wait for.
pub(super) struct StandardError;

impl StandardError {
    /// Writes once, if it can be written to within `patience`.
    pub(super) fn write_soon(bytes: &[u8], patience: Duration) -> io::Result<()> {
        let stderr = io::stderr();
        let patience = patience.try_into().map_err(io::Error::other)?;
        if poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], Some(&patience))? > 0 {
            rustix::io::write(&stderr, bytes)?;
        }
        Ok(())
    }
}

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let stderr = io::stderr();
            match rustix::io::write(&stderr, bytes).map_err(io::Error::from) {
                // Whoever shares it may have made it so.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], None)?;
                }
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;
    use crate::workers::Workers;

    /// Takes nothing until it is told to.
    struct Stuck(Receiver<()>, Sender<Vec<u8>>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // An error: nobody will tell it any more, and it may go on.
            let _ = self.0.recv();
            let _ = self.1.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_was_logged_before_anybody_wrote_is_written() {
        let (queue, (go_on, stuck), (taken, written)) = (Queue::default(), channel(), channel());
        queue.push(b"one\n");
        queue.push(b"two\n");
        drop(go_on);
        queue.begin(Stuck(stuck, taken)).unwrap();
        queue.flush(Duration::from_secs(60));
        assert_eq!(written.try_recv().unwrap(), b"one\ntwo\n");
    }

    #[test]
    fn what_nobody_takes_is_bounded_and_counted() {
        let (queue, (go_on, stuck), (taken, written)) = (Queue::default(), channel(), channel());
        queue.begin(Stuck(stuck, taken)).unwrap();
        let line = ["x".repeat(1 << 10), "\n".to_owned()].concat();
        for _ in 0..20_000 {
            queue.push(line.as_bytes());
        }
        {
            let lines = queue.open();
            assert!(lines.waiting.len() <= MOST_WAITING);
            assert!(lines.dropped >= 20_000 - 2 * 4096, "{}", lines.dropped);
        }
        queue.flush(Duration::ZERO);
        drop(go_on);
        queue.flush(Duration::from_secs(60));
        assert!(written.try_iter().map(|bytes| bytes.len()).sum::<usize>() <= 2 * MOST_WAITING);
        let lines = queue.open();
        assert_eq!((lines.waiting.len(), lines.told), (0, lines.dropped));
        assert!(lines.waiting.capacity() <= USUAL_ROOM);
    }

    fn waiting(queue: &Queue) -> String {
        String::from_utf8(queue.open().waiting.clone()).unwrap()
    }

    /// Does `work` as one of the workers, which end then.
    fn at_work(work: impl Future<Output = ()> + Send + 'static) {
        let workers = Workers::start().unwrap();
        let (tell, told) = channel();
        workers.crew().serve(async move {
            work.await;
            tell.send(()).unwrap();
        });
        told.recv().unwrap();
    }

    #[test]
    fn lines_of_one_turn_are_handed_over_together_and_in_order() {
        at_work(async {
            let (queue, other) = (Queue::default(), Queue::default());
            queue.push_with_others(b"one\n");
            queue.push_with_others(b"two\n");
            assert_eq!(waiting(&queue), "");
            tokio::task::yield_now().await;
            assert_eq!(waiting(&queue), "one\ntwo\n");
            queue.push_with_others(b"three\n");
            queue.push(b"four\n");
            assert_eq!(waiting(&queue), "one\ntwo\nthree\nfour\n");
            queue.push_with_others(b"five\n");
            other.push_with_others(b"six\n");
            assert!(waiting(&queue).ends_with("four\nfive\n"));
            other.flush(Duration::ZERO);
            assert_eq!(waiting(&other), "six\n");
        });
    }

    #[test]
    fn much_is_handed_over_before_the_end_of_the_turn() {
        at_work(async {
            let queue = Queue::default();
            let line = ["x".repeat(MOST_NEAR), "\n".to_owned()].concat();
            queue.push_with_others(line.as_bytes());
            queue.push_with_others(b"y\n");
            assert!(waiting(&queue).ends_with("x\ny\n"));
        });
    }

    #[tokio::test]
    async fn whoever_is_no_worker_hands_over_at_once() {
        let queue = Queue::default();
        queue.push_with_others(b"one\n");
        assert_eq!(waiting(&queue), "one\n");
    }

    #[test]
    fn an_end_loses_no_line() {
        struct Last(Queue);
        impl Drop for Last {
            fn drop(&mut self) {
                self.0.push_with_others(b"three\n");
            }
        }
        let queue = Queue::default();
        let (of_worker, last) = (queue.clone(), Last(queue.clone()));
        at_work(async move {
            tokio::spawn(async move {
                let _last = last;
                std::future::pending::<()>().await;
            });
            tokio::task::yield_now().await;
            of_worker.push_with_others(b"one\n");
            of_worker.push_with_others(b"two\n");
        });
        assert_eq!(waiting(&queue), "one\ntwo\nthree\n");
    }
}
