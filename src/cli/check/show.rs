//! The report as people read it; colours only repeat what words say, and are taken out where nobody wants them.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

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

/// A step, what else was seen, and what to do.
pub(super) fn step(output: &mut dyn Write, step: &Step) -> io::Result<()> {
    let finding = &step.finding;
    let (style, text) = (finding.status.style(), if finding.status == Status::Skipped { DIM } else { Style::new() });
    write!(output, "{style}{:<NAMES$}{style:#}", finding.status.word())?;
    write!(output, "{text}{:<MESSAGES$}{}{text:#}", step.name.shown(), finding.message)?;
    if finding.status != Status::Skipped {
        write!(output, " {DIM}({} ms){DIM:#}", step.took.as_millis())?;
    }
    writeln!(output)?;
    for note in &finding.notes {
        writeln!(output, "{:NAMES$}{DIM}{note}{DIM:#}", "")?;
    }
    if let Some(mend) = &finding.mend {
        writeln!(output, "{:NAMES$}To mend it: {}", "", mend.advice)?;
        for command in &mend.commands {
            writeln!(output, "{:COMMANDS$}{BOLD}{command}{BOLD:#}", "")?;
        }
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
