//! `usage`: what responses have cost, as the ledger has it.

mod by;
mod report;
mod since;
mod table;

use clap::Args;

use self::by::{By, Word};
use self::report::Report;
use self::since::Since;
use super::{Failure, print};
use crate::clock::{Clock, SystemClock};
use crate::config::{Books, Environment, Overrides};
use crate::ledger::{self, FileError, ReadError};

/// What is to be shown.
#[derive(Debug, Args)]
pub(super) struct Usage {
    /// How far back to look: a duration like 24h or 30d, or a day like 2026-11-01.
    #[arg(long, value_name = "WHEN", default_value = "7d", value_parser = Since::parse)]
    since: Since,
    /// What to tell apart: app, model or day; several with commas between them.
    #[arg(long, value_name = "WORD", value_parser = Word, value_delimiter = ',', default_values = ["app", "model"])]
    by: Vec<By>,
    /// Print JSON.
    ///
    /// An array of objects, one for each line of the table: `day` (as 2026-11-21), `app`, `model`, as far as --by names them;
    /// `responses`, and `unknown`, how many of these did not say what they cost; `input`, `cached`, `output` and `reasoning`,
    /// in tokens; `cost`, null if no price is known, `cost_is_partial`, whether some of it has no price or is not known, and
    /// `currency`.
    #[arg(long)]
    json: bool,
}

/// The ledger was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error(
        "{0}: nobody keeps one. Set usage.enabled = true (or AOAI_PROXY__USAGE__ENABLED=true) and start the proxy again"
    )]
    Unkept(String),
    #[error(
        "{0} yet: the proxy makes it when it starts. If it runs with another configuration, or as another user, name the file with \
         --config or --set usage.database=FILE"
    )]
    Unmade(String),
    #[error(transparent)]
    File(FileError),
}

pub(super) fn run(environment: &Environment, overrides: &Overrides, asked: &Usage) -> Result<(), Failure> {
    let Books { database, is_kept, prices } = Books::load(environment, overrides)?;
    let since = asked.since.first_hour(SystemClock.now());
    let entries = ledger::read(&database, since.unix_timestamp()).map_err(|error| match error {
        missing @ ReadError::Missing(_) if is_kept => Unread::Unmade(missing.to_string()),
        missing @ ReadError::Missing(_) => Unread::Unkept(missing.to_string()),
        ReadError::File(error) => Unread::File(error),
    })?;
    let report = Report::new(&entries, &asked.by(), &prices);
    if asked.json {
        // Records are texts and numbers.
        return print(&serde_json::to_string_pretty(&report.records()).unwrap_or_default());
    }
    if entries.is_empty() {
        eprintln!("aoai-auth-proxy: nothing was counted since {}", since::shown(since));
        return Ok(());
    }
    table::print(&report, since)
}

impl Usage {
    /// Each once, in the order in which they were named.
    fn by(&self) -> Vec<By> {
        let mut once = Vec::new();
        for by in &self.by {
            if !once.contains(by) {
                once.push(*by);
            }
        }
        once
    }
}
