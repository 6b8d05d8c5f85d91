//! Log lines on their way to standard error: whoever logs never waits for whoever reads.
//!
//! A pipe that nobody reads fills up, and then a write to it takes for ever. Hence a thread of its own writes, and what it
//! cannot write soon is dropped, counted and told of. Not `std::io::stderr()`: whoever else wrote there would wait for its lock.
//!
//! A line that is handed over after silence is written at once. Those behind it wait for a moment and are written together: to
//! wake a thread costs more than to make a line.

use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use memchr::memchr_iter;
use nix::sys::signal::{SigSet, Signal};
use rustix::event::{PollFd, PollFlags, poll};

/// How many bytes of lines wait at most. Twice that is held, as those that are being written wait no more.
const MOST_WAITING: usize = 4 << 20;
/// More room than this is given back once it is no longer needed, and so much is written before its time.
const USUAL_ROOM: usize = 64 << 10;
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

    /// Waits until all that was taken is written and told, but no longer than `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let end = Instant::now() + patience;
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

    /// Takes lines, if there is room for them.
    pub(super) fn take(&self, some: &[u8]) {
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

    /// What waits.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> String {
        String::from_utf8(self.open().waiting.clone()).unwrap_or_default()
    }

    /// A panic elsewhere leaves nothing half done in here.
    fn open(&self) -> MutexGuard<'_, Lines> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialEq for Queue {
    /// Whether they are one and the same.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
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
        queue.take(b"one\n");
        queue.take(b"two\n");
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
            queue.take(line.as_bytes());
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
}
