//! Log lines that one worker has yet to hand over: together, once it has looked after whatever else was ready. To take a lock that
//! other processors take as well costs more than to make a line.

use std::cell::RefCell;
use std::io::{self, Write};

use tracing_subscriber::fmt::MakeWriter;

use super::queue::Queue;
use crate::workers;

/// So many bytes of one thread's are handed over before their time.
const MOST: usize = 4 << 10;

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

/// One more line for `queue`, with others of this worker, or at once if this thread is none.
pub(super) fn push(queue: &Queue, line: &[u8]) {
    match NEAR.try_with(|near| near.try_borrow_mut().ok()?.add(queue, line)) {
        Ok(Some(0)) => {
            // Once all tasks have run that are ready now; or at the end, where it is dropped.
            let last = HandOver;
            drop(tokio::spawn(async move { drop(last) }));
        }
        Ok(Some(MOST..)) => hand_over(),
        Ok(Some(_)) => {}
        Ok(None) | Err(_) => push_alone(queue, line),
    }
}

/// One more line for `queue`, at once, behind those that this thread has yet to hand over.
pub(super) fn push_alone(queue: &Queue, line: &[u8]) {
    hand_over();
    queue.take(line);
}

/// Hands over what this thread has: what other workers have yet to is there when they have ended.
pub(super) fn hand_over() {
    // A thread that ends has done so already.
    let _ = NEAR.try_with(|near| near.try_borrow_mut().map(|mut near| near.hand_over()));
}

impl Near {
    /// Adds a line, if this thread is a worker. How many bytes there were before: if none, it is yet to be seen to that they are
    /// handed over.
    fn add(&mut self, queue: &Queue, line: &[u8]) -> Option<usize> {
        if self.queue.as_ref().is_some_and(|other| other != queue) {
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
        push_alone(self.0, line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::workers::Workers;

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
            push(&queue, b"one\n");
            push(&queue, b"two\n");
            assert_eq!(queue.waiting(), "");
            tokio::task::yield_now().await;
            assert_eq!(queue.waiting(), "one\ntwo\n");
            push(&queue, b"three\n");
            push_alone(&queue, b"four\n");
            assert_eq!(queue.waiting(), "one\ntwo\nthree\nfour\n");
            push(&queue, b"five\n");
            push(&other, b"six\n");
            assert!(queue.waiting().ends_with("four\nfive\n"));
            hand_over();
            assert_eq!(other.waiting(), "six\n");
        });
    }

    #[test]
    fn much_is_handed_over_before_the_end_of_the_turn() {
        at_work(async {
            let queue = Queue::default();
            let line = ["x".repeat(MOST), "\n".to_owned()].concat();
            push(&queue, line.as_bytes());
            push(&queue, b"y\n");
            assert!(queue.waiting().ends_with("x\ny\n"));
        });
    }

    #[tokio::test]
    async fn whoever_is_no_worker_hands_over_at_once() {
        let queue = Queue::default();
        push(&queue, b"one\n");
        assert_eq!(queue.waiting(), "one\n");
    }

    #[test]
    fn an_end_loses_no_line() {
        struct Last(Queue);
        impl Drop for Last {
            fn drop(&mut self) {
                push(&self.0, b"three\n");
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
            push(&of_worker, b"one\n");
            push(&of_worker, b"two\n");
        });
        assert_eq!(queue.waiting(), "one\ntwo\nthree\n");
    }
}
