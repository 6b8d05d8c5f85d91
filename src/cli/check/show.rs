//! The report as people read it; colours only repeat what words say, and are taken out where nobody wants them.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use textwrap::{Options, WordSplitter, wrap};

use super::report::{Status, Step};

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();

/// Where names begin, where messages do, and where a command does below its advice.
const NAMES: usize = 9;
const MESSAGES: usize = 15;
const COMMANDS: usize = NAMES + 4;

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Ok => AnsiColor::Green.on_default(),
            Self::Warning => AnsiColor::Yellow.on_default(),
            Self::Failed => AnsiColor::Red.on_default().bold(),
            Self::Skipped => DIM,
        }
    }
}

/// A step, what else was seen, and what to do; in so many columns of text, as wide as it gets if nobody says how many.
pub(super) fn step(output: &mut dyn Write, step: &Step, width: Option<usize>) -> io::Result<()> {
    let finding = &step.finding;
    let (style, text) = (finding.status.style(), if finding.status == Status::Skipped { DIM } else { Style::new() });
    write!(output, "{style}{:<NAMES$}{style:#}", finding.status.word())?;
    write!(output, "{text}{:<MESSAGES$}{text:#}", step.name.shown())?;
    hanging(output, NAMES + MESSAGES, text, &finding.message, width)?;
    if finding.status != Status::Skipped {
        write!(output, " {DIM}({} ms){DIM:#}", step.took.as_millis())?;
    }
    writeln!(output)?;
    for note in &finding.notes {
        write!(output, "{:NAMES$}", "")?;
        hanging(output, NAMES, DIM, note, width)?;
        writeln!(output)?;
    }
    if let Some(mend) = &finding.mend {
        write!(output, "{:NAMES$}", "")?;
        hanging(output, NAMES, Style::new(), &format!("To mend it: {}", mend.advice), width)?;
        writeln!(output)?;
        // Whole, however long: these are to be pasted.
        for command in &mend.commands {
            writeln!(output, "{:COMMANDS$}{BOLD}{command}{BOLD:#}", "")?;
        }
    }
    Ok(())
}

/// Text of which all lines begin in the same column, where the first one begins already.
fn hanging(output: &mut dyn Write, column: usize, style: Style, text: &str, width: Option<usize>) -> io::Result<()> {
    /// Fewer columns than this hold no words.
    const NARROWEST: usize = 30;
    /// What may stand behind the last line.
    const TIME: usize = " (12345 ms)".len();
    let room = width.map(|width| width.saturating_sub(column + TIME)).filter(|room| *room >= NARROWEST);
    // A note is a table of its own.
    let Some(room) = room.filter(|_| !text.contains("  ")) else { return write!(output, "{style}{text}{style:#}") };
    // An id in two parts is none to be copied.
    let options = Options::new(room).break_words(false).word_splitter(WordSplitter::NoHyphenation);
    for (index, line) in wrap(text, options).iter().enumerate() {
        if index > 0 {
            write!(output, "\n{:column$}", "")?;
        }
        write!(output, "{style}{line}{style:#}")?;
    }
    Ok(())
}

/// What it comes to.
pub(super) fn end(output: &mut dyn Write, count: &dyn Fn(Status) -> usize) -> io::Result<()> {
    let told = [Status::Failed, Status::Warning, Status::Skipped].map(|status| (status, count(status)));
    let told = told.iter().filter(|(_, count)| *count > 0).map(|(status, count)| match (status, count) {
        (Status::Warning, 1) => "1 warning".to_owned(),
        (Status::Warning, count) => format!("{count} warnings"),
        (status, count) => format!("{count} {}", status.word()),
    });
    let told = told.collect::<Vec<_>>().join(", ");
    let (style, verdict) = if count(Status::Failed) > 0 {
        (Status::Failed.style(), "Something is wrong")
    } else {
        (Status::Ok.style(), "Nothing is wrong")
    };
    let separator = if told.is_empty() { "" } else { ": " };
    writeln!(output, "\n{style}{verdict}{style:#}{separator}{told}")
}
