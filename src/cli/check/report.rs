//! What was found, step by step: told to people as it goes, to machines at the end.
//!
//! `--json` writes one object: `{"ok": true, "steps": [STEP, …]}`. `ok` says that no step has failed. All steps are there,
//! in the order of [`Name`]; each is
//!
//! | member | what it is |
//! | --- | --- |
//! | `name` | `configuration`, `dns`, `tcp`, `tls`, `credential`, `token`, `data_plane`, `call`, `role`, `management` |
//! | `status` | `ok`, `warning`, `failed`, `skipped` |
//! | `message` | what was seen, on one line |
//! | `duration_ms` | time taken |
//! | `detail` | an object; what is in it depends on the step, and members may be added |
//! | `mend` | `null`, or `{"advice": "…", "commands": ["…", …]}`: what to do about it, and what to paste |

use std::io::{IsTerminal, Write};
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use terminal_size::terminal_size;
use tokio::time::Instant;

use super::progress::Progress;
use super::show;
use crate::cli::{Failure, print};
use crate::identity::transport::line;

/// The steps, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Name {
    Configuration,
    Dns,
    Tcp,
    Tls,
    Credential,
    Token,
    DataPlane,
    Call,
    Role,
    Management,
}

impl Name {
    /// What comes after the configuration.
    pub(super) const FURTHER: [Self; 9] = [
        Self::Dns,
        Self::Tcp,
        Self::Tls,
        Self::Credential,
        Self::Token,
        Self::DataPlane,
        Self::Call,
        Self::Role,
        Self::Management,
    ];

    /// As people read it.
    pub(super) fn shown(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Dns => "DNS",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Credential => "credential",
            Self::Token => "token",
            Self::DataPlane => "data plane",
            Self::Call => "call",
            Self::Role => "role",
            Self::Management => "management",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Ok,
    Warning,
    Failed,
    Skipped,
}

/// What a step has seen.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) status: Status,
    pub(super) message: String,
    detail: Value,
    /// Further lines for people; machines have `detail`.
    #[serde(skip)]
    pub(super) notes: Vec<String>,
    pub(super) mend: Option<Mend>,
}

/// What to do about it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Mend {
    pub(super) advice: String,
    pub(super) commands: Vec<String>,
}

/// A step that is over.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    pub(super) name: Name,
    #[serde(rename = "duration_ms", serialize_with = "milliseconds")]
    pub(super) took: Duration,
    #[serde(flatten)]
    pub(super) finding: Finding,
}

/// Who reads the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    Person,
    Machine,
}

/// The steps so far.
#[derive(Debug)]
pub(super) struct Report {
    reader: Reader,
    progress: Progress,
    steps: Vec<Step>,
}

impl Finding {
    pub(super) fn ok(message: impl Into<String>) -> Self {
        Self::new(Status::Ok, message.into())
    }

    pub(super) fn warning(message: impl Into<String>) -> Self {
        Self::new(Status::Warning, message.into())
    }

    /// No failure without a way out of it.
    pub(super) fn failed(message: impl Into<String>, mend: Mend) -> Self {
        Self::new(Status::Failed, message.into()).mend(mend)
    }

    pub(super) fn skipped(message: impl Into<String>) -> Self {
        Self::new(Status::Skipped, message.into())
    }

    pub(super) fn detail(self, detail: Value) -> Self {
        Self { detail, ..self }
    }

    pub(super) fn notes(self, notes: Vec<String>) -> Self {
        Self { notes, ..self }
    }

    pub(super) fn mend(self, mend: Mend) -> Self {
        Self { mend: Some(mend), ..self }
    }

    fn new(status: Status, message: String) -> Self {
        Self { status, message, detail: json!({}), notes: Vec::new(), mend: None }
    }

    /// Others' words are among ours, and a terminal obeys some of them.
    fn harmless(mut self) -> Self {
        self.message = line(&self.message);
        let mend = self.mend.iter_mut().flat_map(|mend| mend.commands.iter_mut().chain([&mut mend.advice]));
        for text in self.notes.iter_mut().chain(mend).chain([&mut self.message]) {
            if text.contains(char::is_control) {
                *text = text.replace(char::is_control, " ");
            }
        }
        self
    }
}

impl Mend {
    pub(super) fn new(advice: impl Into<String>, commands: impl IntoIterator<Item = String>) -> Self {
        Self { advice: advice.into(), commands: commands.into_iter().collect() }
    }

    /// Advice whose commands, or options of ours, stand between backticks.
    pub(super) fn quoting(advice: &str) -> Self {
        let quoted = advice.split('`').skip(1).step_by(2);
        let commands = quoted.filter_map(|quoted| match quoted.split(' ').next() {
            Some("az" | "azd" | "timedatectl") => Some(quoted.to_owned()),
            Some(option) if option.starts_with("--") => Some(format!("aoai-auth-proxy check {quoted}")),
            _ => None,
        });
        Self::new(advice.replace('`', ""), commands)
    }
}

impl Report {
    pub(super) fn new(reader: Reader) -> Self {
        Self { reader, progress: Progress::new(), steps: Vec::new() }
    }

    /// Takes a step. What it has found for those that follow, or the name of the step that is to blame for there being
    /// nothing.
    pub(super) async fn step<T>(
        &mut self,
        name: Name,
        work: impl Future<Output = (Finding, Option<T>)>,
    ) -> Result<T, Name> {
        let began = Instant::now();
        let (finding, found) = self.progress.during(name.shown(), work).await;
        self.add(name, began.elapsed(), finding);
        found.ok_or(name)
    }

    /// A step that cannot be taken because another one failed.
    pub(super) fn blame<T>(&mut self, name: Name, to_blame: Name) -> Result<T, Name> {
        self.add(name, Duration::ZERO, Finding::skipped(format!("because {} failed", to_blame.shown())));
        Err(to_blame)
    }

    pub(super) fn add(&mut self, name: Name, took: Duration, finding: Finding) {
        let step = Step { name, took, finding: finding.harmless() };
        if self.reader == Reader::Person {
            tell(|output| show::step(output, &step, columns()));
        }
        self.steps.push(step);
    }

    /// Tells the rest; whether nothing has failed.
    pub(super) fn end(self) -> Result<bool, Failure> {
        let count = |status| self.steps.iter().filter(|step| step.finding.status == status).count();
        let ok = count(Status::Failed) == 0;
        match self.reader {
            Reader::Person => tell(|output| show::end(output, &count)),
            Reader::Machine => print(&written(ok, &self.steps))?,
        }
        Ok(ok)
    }
}

/// A URL as one word for a shell.
pub(super) fn word(url: &dyn std::fmt::Display) -> String {
    let url = url.to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '/' | '.' | '-' | '_' | '[' | ']');
    if url.chars().all(is_plain) { url } else { format!("'{}'", url.replace('\'', "'\\''")) }
}

fn written(ok: bool, steps: &[Step]) -> String {
    #[derive(Serialize)]
    struct Written<'a> {
        ok: bool,
        steps: &'a [Step],
    }
    // Text, numbers and times: nothing that JSON cannot say.
    serde_json::to_string(&Written { ok, steps }).unwrap_or_default()
}

/// How wide standard output is, if it is a terminal.
fn columns() -> Option<usize> {
    let is_terminal = std::io::stdout().is_terminal();
    terminal_size().filter(|_| is_terminal).map(|(width, _)| usize::from(width.0))
}

/// Whoever does not listen misses nothing that matters.
fn tell(write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) {
    let mut output = anstream::stdout().lock();
    let _ = write(&mut output).and_then(|()| output.flush());
}

fn milliseconds<S: Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(took.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_told_nothing_that_it_obeys() {
        let finding = Finding::failed("\u{1b}[2J gone\nnext", Mend::new("a\rb", ["c\u{7}d".to_owned()]))
            .notes(vec!["\u{9b}31m".to_owned()])
            .harmless();
        let mend = finding.mend.expect("a mend");
        for text in [&finding.message, &finding.notes[0], &mend.advice, &mend.commands[0]] {
            assert!(!text.contains(char::is_control), "{text:?}");
        }
    }

    #[test]
    fn commands_are_what_stands_between_backticks() {
        let mend = Mend::quoting("sign in with `az login --tenant t`, or set `credential.kind` (`--credential auto`)");
        assert_eq!(mend.commands, ["az login --tenant t", "aoai-auth-proxy check --credential auto"]);
        assert_eq!(mend.advice, "sign in with az login --tenant t, or set credential.kind (--credential auto)");
    }
}
