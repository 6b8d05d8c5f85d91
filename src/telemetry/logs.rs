//! Log lines on standard error: text for people, JSON for machines.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use serde_json::json;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use super::exchange::REQUESTS;
use super::line::{Form, Line};
use super::near;
use super::queue::{Queue, StandardError};
use super::text::Text;
use crate::clock::{Clock, SystemClock};
use crate::config::{Environment, LogFormat, Telemetry};

/// How long the end waits for somebody to read what was logged.
const PATIENCE: Duration = Duration::from_secs(2);

/// Logging of the whole process: when this is dropped, what was logged is written, unless nobody reads it.
#[derive(Debug)]
pub struct Logs(Queue);

/// Where this process has its lines of requests: nowhere until it logs.
static REQUEST_LINES: OnceLock<RequestLines> = OnceLock::new();

/// How requests are told.
#[derive(Debug)]
struct RequestLines {
    queue: Queue,
    form: Form,
    most: LevelFilter,
}

/// Starts logging for the whole process. Lines wait for [`Logs::write`].
///
/// # Errors
///
/// If this process logs already.
pub fn start(telemetry: &Telemetry, environment: &Environment) -> Result<Logs, TryInitError> {
    let queue = Queue::default();
    let lines = tracing_subscriber::fmt::layer().with_writer(queue.clone()).with_timer(Now);
    let form = match telemetry.log_format {
        // https://no-color.org: whatever its value.
        LogFormat::Text => {
            Form::Text { is_coloured: io::stderr().is_terminal() && environment.get("NO_COLOR").is_none() }
        }
        LogFormat::Json => Form::Json,
    };
    let lines = match form {
        Form::Text { is_coloured } => lines.with_ansi(is_coloured).event_format(Text).boxed(),
        Form::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(telemetry.log_level.clone())).try_init()?;
    let levels = [Level::TRACE, Level::DEBUG, Level::INFO, Level::WARN, Level::ERROR];
    let most = levels.into_iter().find(|level| telemetry.log_level.would_enable(REQUESTS, level));
    let most = most.map_or(LevelFilter::OFF, LevelFilter::from_level);
    // Nothing was there: this process has not logged before.
    let _ = REQUEST_LINES.set(RequestLines { queue: queue.clone(), form, most });
    // The usual words would wait for whoever reads standard error.
    let (lines, format) = (queue.clone(), telemetry.log_format);
    panic::set_hook(Box::new(move |panic| tell_panic(panic, &lines, format)));
    Ok(Logs(queue))
}

/// Whether lines of requests that are so grave are wanted.
pub(super) fn wants(level: Level) -> bool {
    REQUEST_LINES.get().is_some_and(|lines| level <= lines.most)
}

/// Tells of a request.
pub(super) fn tell(line: &Line<'_>) {
    if let Some(lines) = REQUEST_LINES.get() {
        line.write(lines.form, |line| near::push(&lines.queue, line));
    }
}

impl Logs {
    /// Begins to write, in a thread that has the rights of this one: not before those were given up that are not needed.
    ///
    /// # Errors
    ///
    /// If there can be no such thread.
    pub fn write(&self) -> io::Result<()> {
        self.0.begin(StandardError)
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        // An end before it has begun, or no thread to be had: then nobody can be told.
        if self.write().is_ok() {
            near::hand_over();
            self.0.flush(PATIENCE);
        }
    }
}

/// Says on standard error why the program ends, unless nobody reads that.
pub fn last_words(words: &str) {
    let (said, heard) = mpsc::channel();
    let spoken = format!("{words}\n");
    let speaking = thread::Builder::new().spawn(move || {
        let written = StandardError.write_all(spoken.as_bytes());
        // Nobody listens who has waited long enough.
        let _ = said.send(written);
    });
    // Told or not: it is over.
    let _ = match speaking {
        Ok(_) => heard.recv_timeout(PATIENCE).map_or(Ok(()), |written| written),
        Err(_) => StandardError::write_soon(format!("{words}\n").as_bytes(), PATIENCE),
    };
}

/// In a line of the log, whatever else is left out of it.
fn tell_panic(panic: &PanicHookInfo<'_>, lines: &Queue, format: LogFormat) {
    const MESSAGE: &str = "panicked: a fault in the proxy itself";
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let payload = panic.payload();
    let why = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let why = why.unwrap_or_default();
    let time = humantime::format_rfc3339_millis(SystemClock.now());
    let line = match format {
        LogFormat::Text => format!("{time} ERROR {MESSAGE}  place={place:?} why={why:?}\n"),
        LogFormat::Json => {
            let time = time.to_string();
            format!(
                "{}\n",
                json!({ "timestamp": time, "level": "ERROR", "message": MESSAGE, "place": place, "why": why })
            )
        }
    };
    near::push_alone(lines, line.as_bytes());
}

/// The time at the beginning of a line: UTC (RFC 3339), to the millisecond.
pub(super) struct Now;

impl FormatTime for Now {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", humantime::format_rfc3339_millis(SystemClock.now()))
    }
}
