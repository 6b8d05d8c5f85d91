//! A line that says what is waited for: on a terminal, only while it takes long, and gone afterwards.

use std::io::{IsTerminal, Write};
use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;

/// What is over sooner needs no such line.
const SOON: Duration = Duration::from_millis(500);

/// Writes on standard error, if that is a terminal.
#[derive(Debug)]
pub(super) struct Progress {
    is_seen: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { is_seen: std::io::stderr().is_terminal() }
    }

    /// Waits for `work`, and says so.
    pub(super) async fn during<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if self.is_seen
            && let Ok(done) = timeout(SOON, &mut work).await
        {
            return done;
        }
        let _line = self.is_seen.then(|| Line::new(what));
        work.await
    }
}

/// Wipes the line when it is dropped, also when somebody stops waiting.
struct Line;

impl Line {
    fn new(what: &str) -> Self {
        write(&format!("checking {what}…"));
        Self
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        write("\r\u{1b}[K");
    }
}

fn write(text: &str) {
    let mut terminal = std::io::stderr().lock();
    let _ = terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush());
}
