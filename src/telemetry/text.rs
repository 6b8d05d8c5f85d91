//! A log line for people: when, how grave, what happened, then the fields. Those of requests are made in `line.rs`.

use std::fmt::{self, Debug, Write};
use std::mem;

use http::HeaderValue;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::logs::Now;

/// Our own modules are known by their names alone.
const OURS: &str = concat!(env!("CARGO_CRATE_NAME"), "::");

pub(super) const PLAIN: &str = "\x1b[0m";
pub(super) const DIM: &str = "\x1b[2m";

/// The format.
pub(super) struct Text;

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let (level, target) = (event.metadata().level(), event.metadata().target());
        let is_coloured = writer.has_ansi_escapes();
        let mut fields = Fields { is_coloured, ..Fields::default() };
        event.record(&mut fields);
        let (colour, plain, dim) = if is_coloured { (colour(*level), PLAIN, DIM) } else { ("", "", "") };
        write!(writer, "{dim}")?;
        Now.format_time(&mut writer)?;
        write!(writer, "{plain} {colour}{level:>5}{plain} ")?;
        // What is said to everybody needs no place; whoever looks closer wants to know where to look.
        let target = fields.origin.as_deref().unwrap_or(target);
        match target.strip_prefix(OURS) {
            Some(_) if *level <= Level::INFO => {}
            Some(module) => write!(writer, "{dim}{module}:{plain} ")?,
            None => write!(writer, "{dim}{target}:{plain} ")?,
        }
        let Fields { message, rest, .. } = fields;
        let gap = if rest.is_empty() { "" } else { " " };
        writeln!(writer, "{message}{gap}{rest}")
    }
}

pub(super) fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

/// What an event says, in parts.
#[derive(Default)]
struct Fields {
    is_coloured: bool,
    message: String,
    rest: String,
    /// Where it is from, if a library says so that does not use `tracing`.
    origin: Option<String>,
    /// Room for a value that is no text yet.
    scratch: String,
}

impl Fields {
    fn add(&mut self, field: &Field, value: &str) {
        let written = match field.name() {
            "message" => write!(self.message, "{}", Safe(value)),
            "log.target" => {
                self.origin = Some(value.escape_debug().to_string());
                Ok(())
            }
            // Lines of source that say nothing to a reader.
            "log.module_path" | "log.file" | "log.line" => Ok(()),
            _ if is_word(value) => self.named(field, format_args!("{value}")),
            _ => self.named(field, format_args!("{value:?}")),
        };
        // Writing to memory does not fail.
        debug_assert!(written.is_ok());
    }

    fn named(&mut self, field: &Field, value: fmt::Arguments<'_>) -> fmt::Result {
        let (dim, plain) = if self.is_coloured { (DIM, PLAIN) } else { ("", "") };
        write!(self.rest, " {dim}{field}={plain}{value}")
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = mem::take(&mut self.scratch);
        text.clear();
        let written = write!(text, "{value:?}");
        debug_assert!(written.is_ok());
        self.add(field, &text);
        self.scratch = text;
    }
}

/// Whether a value needs no quotes for it to be seen where it ends.
pub(super) fn is_word(value: &str) -> bool {
    let is_plain = |c: char| (c.is_ascii_graphic() || c.is_alphanumeric()) && !matches!(c, '"' | '\\' | '=');
    is_visible_word(value.as_bytes()) || (!value.is_empty() && value.chars().all(is_plain))
}

/// The same of one in ASCII, as nearly all are.
pub(super) fn is_visible_word(value: &[u8]) -> bool {
    /// Looked up, as a line has some hundred bytes: values are too short for a compiler to look at many at once.
    static IS_VISIBLE: [bool; 256] = {
        let (mut is_visible, mut byte) = ([false; 256], b'!');
        while byte <= b'~' {
            is_visible[byte as usize] = !matches!(byte, b'"' | b'\\' | b'=');
            byte += 1;
        }
        is_visible
    };
    value.iter().fold(!value.is_empty(), |all, byte| all & IS_VISIBLE[usize::from(*byte)])
}

/// The same as a field's `to_str`, and quicker: its value has no bytes that cannot be seen, but those that are no ASCII.
pub(super) fn seen(value: &HeaderValue) -> Option<&str> {
    std::str::from_utf8(value.as_bytes()).ok().filter(|text| text.is_ascii())
}

/// Text on one line, without anything that a terminal would obey.
struct Safe<'a>(&'a str);

impl fmt::Display for Safe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '"' | '\'' | '\\' => f.write_char(c),
            c => write!(f, "{}", c.escape_debug()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Kept {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    /// What `log` logs, each line without its time.
    fn lines(is_coloured: bool, log: impl FnOnce()) -> Vec<String> {
        let kept = Kept::default();
        let lines = tracing_subscriber::fmt().with_max_level(Level::TRACE).with_writer(kept.clone());
        tracing::subscriber::with_default(lines.with_ansi(is_coloured).event_format(Text).finish(), log);
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let time = "2026-11-21T14:49:42.610Z ".len() + if is_coloured { DIM.len() + PLAIN.len() } else { 0 };
        text.lines().map(|line| line[time..].to_owned()).collect()
    }

    #[test]
    fn nobody_can_write_another_line_or_another_field() {
        let lines = lines(false, || {
            tracing::warn!(a = "two words", b = "x app=root", c = "a\nb\u{1b}[31m\u{202e}", d = %"say \"no\"", e = ?Some(1), f = "", "it's\nso");
        });
        assert_eq!(
            lines,
            [
                r#" WARN it's\nso  a="two words" b="x app=root" c="a\nb\u{1b}[31m\u{202e}" d="say \"no\"" e=Some(1) f="""#
            ]
        );
    }

    #[test]
    fn whoever_looks_closer_is_told_where_to_look() {
        let lines = lines(false, || {
            tracing::info!("said to everybody");
            tracing::debug!(n = 1, "said to some");
            tracing::info!(target: "hyper::client", "of a library");
        });
        assert_eq!(
            lines,
            [
                " INFO said to everybody",
                "DEBUG telemetry::text::tests: said to some  n=1",
                " INFO hyper::client: of a library"
            ]
        );
    }

    #[test]
    fn colours_are_for_terminals() {
        let line = lines(true, || tracing::error!(n = 1, "wrong")).remove(0);
        assert_eq!(line, "\x1b[31mERROR\x1b[0m wrong  \x1b[2mn=\x1b[0m1");
    }

    #[test]
    fn what_is_seen_is_what_is_graphic_and_means_nothing() {
        for byte in 0..=u8::MAX {
            let is_visible = byte.is_ascii_graphic() && !br#""\="#.contains(&byte);
            assert_eq!(is_visible_word(&[b'a', byte]), is_visible, "{byte}");
        }
        assert!(!is_visible_word(b""));
    }

    #[test]
    fn ids_are_seen_as_they_are_read() {
        for id in ["", "a b\t~", "\u{fc}"] {
            let id = HeaderValue::from_bytes(id.as_bytes()).unwrap();
            assert_eq!(seen(&id), id.to_str().ok());
        }
    }
}
