//! A request's line in the log: which fields it has, and in which order, does not depend on how grave it is.
//!
//! There is one for each request, so it is written straight into a buffer, with the time made once a second, and passes none
//! of what other lines pass.

use std::cell::RefCell;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use itoa::Integer;
use tracing::Level;

use super::exchange::REQUESTS;
use super::recorder::{Finished, Outcome};
use super::text::{DIM, PLAIN, colour, is_visible_word, is_word, seen};

/// What the line is called.
const MESSAGE: &str = "request";
/// To the second: what is alike for a second.
const SECONDS: usize = "2026-11-21T14:49:41".len();

/// A field's name, and how it is written: for people, and for machines.
#[derive(Debug)]
struct Name {
    bare: &'static str,
    text: &'static str,
    json: &'static str,
}

/// Written in one piece: a line has a dozen of them.
macro_rules! name {
    ($name:literal) => {
        &Name { bare: $name, text: concat!(" ", $name, "="), json: concat!(",\"", $name, "\":") }
    };
}

/// What is said of a request.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) level: Level,
    pub(super) request: &'a Finished<'a>,
    /// Why the resource refused.
    pub(super) cause: Option<&'static str>,
    /// Of the proxy's own error.
    pub(super) code: Option<&'static str>,
    /// The resource's own id of it.
    pub(super) returned_id: Option<&'a HeaderValue>,
}

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Text { is_coloured: bool },
    /// For machines.
    Json,
}

/// Where one thread writes its lines, and what it knows from the last one.
struct Room {
    line: Vec<u8>,
    second: Option<u64>,
    time: [u8; SECONDS],
}

thread_local! {
    static ROOM: RefCell<Room> = const { RefCell::new(Room { line: Vec::new(), second: None, time: [b'0'; SECONDS] }) };
}

impl Line<'_> {
    /// Writes the line, and has it taken.
    pub(super) fn write(&self, form: Form, take: impl FnOnce(&[u8])) {
        // A thread that ends has no room any more.
        let _ = ROOM.try_with(|room| {
            let Ok(mut room) = room.try_borrow_mut() else { return };
            room.line.clear();
            match form {
                Form::Text { is_coloured } => self.text(&mut room, is_coloured),
                Form::Json => self.json(&mut room),
            }
            room.line.push(b'\n');
            take(&room.line);
        });
    }

    fn json(&self, room: &mut Room) {
        room.line.extend_from_slice(b"{\"timestamp\":\"");
        room.time(self.request.ended.wall);
        room.line.extend_from_slice(b"\",\"level\":\"");
        room.line.extend_from_slice(self.level.as_str().as_bytes());
        room.line.extend_from_slice(b"\",\"message\":\"");
        room.line.extend_from_slice(MESSAGE.as_bytes());
        room.line.push(b'"');
        let mut fields = Json(&mut room.line);
        let request = self.request;
        fields.text(name!("method"), request.method.as_str().as_bytes());
        fields.number(name!("status"), request.status.map_or(0, |status| status.as_u16()));
        fields.number(name!("ms"), milliseconds(request.duration));
        if let Some(time) = request.first_byte {
            fields.number(name!("first_byte_ms"), milliseconds(time));
        }
        fields.number(name!("bytes"), request.bytes);
        fields.text(name!("outcome"), request.outcome.as_str().as_bytes());
        self.words(|name, word| fields.text(name, word));
        fields.text(name!("target"), REQUESTS.as_bytes());
        room.line.push(b'}');
    }

    fn text(&self, room: &mut Room, is_coloured: bool) {
        let (colour, plain, dim) = if is_coloured { (colour(self.level), PLAIN, DIM) } else { ("", "", "") };
        let request = self.request;
        room.line.extend_from_slice(dim.as_bytes());
        room.time(request.ended.wall);
        let mut fields = Text { line: &mut room.line, dim, plain };
        let level = self.level.as_str();
        fields.say(&[plain, " ", colour]);
        fields.padding(level.len(), "ERROR".len());
        fields.say(&[level, plain, " ", MESSAGE, " ", request.method.as_str()]);
        fields.padding(request.method.as_str().len(), 6);
        // The caller went away before there was one.
        fields.say(&[" ", request.status.as_ref().map_or("  -", |status| status.as_str()), " "]);
        let mut digits = itoa::Buffer::new();
        let ms = digits.format(milliseconds(request.duration));
        fields.padding(ms.len(), 7);
        fields.say(&[ms, " ms "]);
        if let Some(time) = request.first_byte {
            fields.number(name!("first_byte_ms"), milliseconds(time), 6);
        }
        fields.number(name!("bytes"), request.bytes, 8);
        // What nearly every one is.
        if request.outcome != Outcome::Completed {
            fields.text(name!("outcome"), request.outcome.as_str().as_bytes());
        }
        self.words(|name, word| fields.text(name, word));
    }

    /// Everything behind how it ended: texts, as bytes.
    fn words(&self, mut say: impl FnMut(&'static Name, &[u8])) {
        let request = self.request;
        say(name!("route"), request.route.as_str().as_bytes());
        say(name!("app"), request.app.name.as_bytes());
        let some = [
            (name!("model"), request.model),
            (name!("cause"), self.cause),
            (name!("code"), self.code),
            (name!("error"), request.error),
        ];
        some.into_iter()
            .filter_map(|(name, word)| Some((name, word?)))
            .for_each(|(name, word)| say(name, word.as_bytes()));
        say(name!("id"), seen(request.id).unwrap_or("-").as_bytes());
        let ids = [(name!("upstream_id"), request.upstream_id), (name!("returned_id"), self.returned_id)];
        ids.into_iter()
            .filter_map(|(name, id)| Some((name, seen(id?)?)))
            .for_each(|(name, id)| say(name, id.as_bytes()));
    }
}

impl Room {
    /// UTC (RFC 3339), to the millisecond.
    fn time(&mut self, wall: SystemTime) {
        let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != Some(since.as_secs()) {
            let second = UNIX_EPOCH + Duration::from_secs(since.as_secs());
            let mut time = self.time.as_mut_slice();
            // What is behind has no room. A year of five digits neither.
            let _ = write!(time, "{}", humantime::format_rfc3339_seconds(second));
            self.second = Some(since.as_secs());
        }
        self.line.extend_from_slice(&self.time);
        let [ones, tenths, hundredths] = [100, 10, 1].map(|part| b'0' + (since.subsec_millis() / part % 10) as u8);
        self.line.extend_from_slice(&[b'.', ones, tenths, hundredths, b'Z']);
    }
}

/// Fields of an object.
struct Json<'a>(&'a mut Vec<u8>);

impl Json<'_> {
    fn number(&mut self, name: &'static Name, number: impl Integer) {
        self.0.extend_from_slice(name.json.as_bytes());
        self.0.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    fn text(&mut self, name: &'static Name, text: &[u8]) {
        self.0.extend_from_slice(name.json.as_bytes());
        // Nearly all are so, and are looked at many bytes at once.
        let is_plain = |b: u8| (b' '..0x7f).contains(&b) && b != b'"' && b != b'\\';
        if text.iter().fold(true, |all, byte| all & is_plain(*byte)) {
            self.0.push(b'"');
            self.0.extend_from_slice(text);
            return self.0.push(b'"');
        }
        let written = serde_json::to_writer(&mut *self.0, &String::from_utf8_lossy(text));
        // Writing to memory does not fail.
        debug_assert!(written.is_ok());
    }
}

/// Fields for people.
struct Text<'a> {
    line: &'a mut Vec<u8>,
    dim: &'static str,
    plain: &'static str,
}

impl Text<'_> {
    fn say(&mut self, words: &[&str]) {
        for word in words {
            self.line.extend_from_slice(word.as_bytes());
        }
    }

    /// What `length` lacks to `width`.
    fn padding(&mut self, length: usize, width: usize) {
        self.line.resize(self.line.len() + width.saturating_sub(length), b' ');
    }

    fn name(&mut self, name: &'static Name) {
        match (self.dim, self.plain) {
            ("", "") => self.line.extend_from_slice(name.text.as_bytes()),
            (dim, plain) => self.say(&[" ", dim, name.bare, "=", plain]),
        }
    }

    fn number(&mut self, name: &'static Name, number: u64, width: usize) {
        self.name(name);
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(number);
        self.line.extend_from_slice(digits.as_bytes());
        self.padding(digits.len(), width);
    }

    fn text(&mut self, name: &'static Name, text: &[u8]) {
        self.name(name);
        if is_visible_word(text) {
            return self.line.extend_from_slice(text);
        }
        let text = String::from_utf8_lossy(text);
        let written = if is_word(&text) { write!(self.line, "{text}") } else { write!(self.line, "{text:?}") };
        // Writing to memory does not fail.
        debug_assert!(written.is_ok());
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use http::{Method, StatusCode};
    use tokio::time::Instant;

    use super::super::exchange::Route;
    use super::super::names::Label;
    use super::super::operation::Operation;
    use super::super::recorder::Moment;
    use super::*;

    const TIME: &str = "2026-11-21T14:49:41.618Z";

    fn finished<'a>(method: &'a Method, id: &'a HeaderValue) -> Finished<'a> {
        let wall = humantime::parse_rfc3339(TIME).unwrap();
        Finished {
            method,
            operation: Operation::at("/v1/responses"),
            route: Route::Resource,
            status: Some(StatusCode::OK),
            app: Label { name: "-", number: 0 },
            model: None,
            answered_by: None,
            counted_as: None,
            usage: None,
            ended: Moment { runs: Instant::now(), wall },
            duration: Duration::from_millis(7),
            first_byte: Some(Duration::from_millis(1)),
            bytes: 2,
            outcome: Outcome::Completed,
            code: None,
            error: None,
            hint: None,
            id,
            upstream_id: None,
            origin: None,
        }
    }

    fn written(form: Form, line: &Line<'_>) -> String {
        let mut written = String::new();
        line.write(form, |line| written = String::from_utf8(line.to_vec()).unwrap());
        written
    }

    /// A line of text without its time.
    fn text(level: Level, request: &Finished<'_>) -> String {
        let line = Line { level, request, cause: None, code: request.code, returned_id: None };
        let written = written(Form::Text { is_coloured: false }, &line);
        written.strip_prefix(TIME).unwrap().to_owned()
    }

    #[test]
    fn what_requests_have_in_common_lines_up() {
        let (get, delete, id) = (Method::GET, Method::DELETE, HeaderValue::from_static("a-b"));
        assert_eq!(
            text(Level::INFO, &finished(&get, &id)),
            "  INFO request GET    200       7 ms  first_byte_ms=1      bytes=2        route=resource app=- id=a-b\n"
        );
        let mut other = finished(&delete, &id);
        (other.status, other.first_byte, other.duration) = (None, None, Duration::from_millis(123_456));
        (other.outcome, other.model) = (Outcome::Abandoned, Some("gpt-4o"));
        assert_eq!(
            text(Level::INFO, &other),
            "  INFO request DELETE   -  123456 ms  bytes=2        outcome=abandoned route=resource app=- model=gpt-4o id=a-b\n"
        );
    }

    #[test]
    fn nobody_can_write_another_line_or_another_field() {
        let (get, id) = (Method::GET, HeaderValue::from_static("a b"));
        let mut request = finished(&get, &id);
        (request.outcome, request.code) = (Outcome::Refused, Some("code"));
        request.error = Some("x=\"1\"\n\u{1b}[31m\u{202e}");
        let line = text(Level::WARN, &request);
        assert!(line.trim_end().ends_with(r#" code=code error="x=\"1\"\n\u{1b}[31m\u{202e}" id="a b""#), "{line}");
        let line = Line { level: Level::WARN, request: &request, cause: None, code: None, returned_id: Some(&id) };
        let line: serde_json::Value = serde_json::from_str(&written(Form::Json, &line)).unwrap();
        assert_eq!((line["error"].as_str(), &line["returned_id"]), (request.error, &"a b".into()));
    }

    #[test]
    fn machines_read_the_same_in_the_same_order() {
        let (post, ids) = (Method::POST, ["i", "u", "r"].map(HeaderValue::from_static));
        let mut request = finished(&post, &ids[0]);
        (request.model, request.upstream_id) = (Some("m"), Some(&ids[1]));
        let line = Line {
            level: Level::INFO,
            request: &request,
            cause: Some("c"),
            code: Some("d"),
            returned_id: Some(&ids[2]),
        };
        let expected = format!(
            r#"{{"timestamp":"{TIME}","level":"INFO","message":"request","method":"POST","status":200,"ms":7,"first_byte_ms":1,"bytes":2,"outcome":"completed","route":"resource","app":"-","model":"m","cause":"c","code":"d","id":"i","upstream_id":"u","returned_id":"r","target":"aoai_auth_proxy::request"}}"#
        );
        assert_eq!(written(Form::Json, &line), format!("{expected}\n"));
        (request.status, request.first_byte) = (None, None);
        let line = Line { level: Level::INFO, request: &request, cause: None, code: None, returned_id: None };
        assert!(written(Form::Json, &line).contains(r#""status":0,"ms":7,"bytes":2,"#));
    }

    #[test]
    fn colours_are_for_terminals() {
        let (get, id) = (Method::GET, HeaderValue::from_static("a"));
        let request = finished(&get, &id);
        let line = Line { level: Level::WARN, request: &request, cause: None, code: None, returned_id: None };
        let line = written(Form::Text { is_coloured: true }, &line);
        let begins = format!(
            "\x1b[2m{TIME}\x1b[0m \x1b[33m WARN\x1b[0m request GET    200       7 ms  \x1b[2mfirst_byte_ms=\x1b[0m1      \x1b[2mbytes="
        );
        assert!(line.starts_with(&begins), "{line:?}");
    }

    #[test]
    fn each_second_has_its_time() {
        let (get, id) = (Method::GET, HeaderValue::from_static("a"));
        for time in ["2026-11-21T23:59:59.999Z", "2026-11-22T00:00:00.000Z", "2026-11-22T00:00:00.001Z", TIME] {
            let mut request = finished(&get, &id);
            request.ended.wall = humantime::parse_rfc3339(time).unwrap();
            let line = Line { level: Level::INFO, request: &request, cause: None, code: None, returned_id: None };
            assert!(written(Form::Json, &line).starts_with(&format!("{{\"timestamp\":\"{time}\"")), "{time}");
        }
    }
}
