//! Models as a table, with what is about to end marked.

use std::time::SystemTime;

use anstyle::{AnsiColor, Style};
use time::{Date, OffsetDateTime};

use super::row::{Day, Deployed, Row};
use crate::cli::Failure;
use crate::cli::table::{self, Cell};
use crate::config::obeyed;

/// How long before a model's end it is time to look for another.
const SOON: i64 = 90;

const HEADINGS: [&str; 5] = ["MODEL", "VERSION", "CAPABILITIES", "DEPRECATION", "DEPLOYMENTS"];
/// The columns that may be broken into lines, the one with the shorter words first.
const LISTS: [usize; 2] = [2, 4];

/// Prints the rows at a time, in so many columns of text; as wide as it gets if nobody says how many.
pub(super) fn print(rows: &[Row], now: SystemTime, width: Option<usize>) -> Result<(), Failure> {
    table::print(&text(rows, OffsetDateTime::from(now).date(), width))
}

fn text(rows: &[Row], today: Date, width: Option<usize>) -> String {
    let headings = HEADINGS.map(Cell::heading);
    let table: Vec<_> = [headings].into_iter().chain(rows.iter().map(|row| cells(row, today))).collect();
    table::text(&table, &LISTS, width)
}

fn cells(row: &Row, today: Date) -> [Cell; 5] {
    let plain = Cell::plain;
    let capabilities = row.capabilities.iter().map(|capability| capability.word()).collect();
    let deployments = listed(row.deployments.iter().flatten().map(deployed).collect());
    // Where there is little room, what is said of a deployment stands below its name.
    let deployments = deployments.iter().flat_map(|deployment| deployment.splitn(2, ' ')).map(str::to_owned).collect();
    [
        plain(&row.name),
        plain(&row.version),
        Cell { words: listed(capabilities), ..Cell::default() },
        row.deprecation.map_or_else(|| plain(""), |Day(date)| deprecation(date, today)),
        Cell { words: deployments, style: AnsiColor::Green.on_default(), ..Cell::default() },
    ]
}

/// A comma behind each but the last.
fn listed(mut words: Vec<String>) -> Vec<String> {
    if let Some((_, others)) = words.split_last_mut() {
        for word in others {
            word.push(',');
        }
    }
    words
}

/// As in `chat (GlobalStandard 10)`; in a state that is not the usual one, with that.
fn deployed(Deployed { name, sku, capacity, state }: &Deployed) -> String {
    let paid = [sku.clone(), capacity.map(|capacity| capacity.to_string())];
    let paid = paid.into_iter().flatten().collect::<Vec<_>>().join(" ");
    let state = if state.eq_ignore_ascii_case("Succeeded") { "" } else { state };
    let remarks: Vec<_> = [&*paid, state].into_iter().filter(|remark| !remark.is_empty()).collect();
    let text = if remarks.is_empty() { name.clone() } else { format!("{name} ({})", remarks.join(", ")) };
    text.replace(obeyed, " ")
}

fn deprecation(date: Date, today: Date) -> Cell {
    let (remark, style) = match (date - today).whole_days() {
        ..=0 => (" ! past".to_owned(), AnsiColor::Red.on_default()),
        1 => (" ! in 1 day".to_owned(), AnsiColor::Yellow.on_default()),
        days @ 2..=SOON => (format!(" ! in {days} days"), AnsiColor::Yellow.on_default()),
        _ => (String::new(), Style::new()),
    };
    Cell { words: vec![format!("{date}{remark}")], style, ..Cell::default() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use time::Month;

    use super::*;
    use crate::cli::models::capability::Capability;

    fn today() -> Date {
        Date::from_calendar_date(2026, Month::November, 21).expect("a day")
    }

    fn row(name: &str, days: Option<i64>, deployments: &[&str]) -> Row {
        let deployed = |name: &&str| Deployed {
            name: (*name).to_owned(),
            sku: Some("GlobalStandard".to_owned()),
            capacity: Some(10),
            state: if name.starts_with("new") { "Creating".to_owned() } else { "Succeeded".to_owned() },
        };
        Row {
            name: name.to_owned(),
            version: "1".to_owned(),
            capabilities: BTreeSet::from([Capability::Chat, Capability::Responses, Capability::FineTune]),
            deprecation: days.map(|days| Day(today() + time::Duration::days(days))),
            deployments: Some(deployments.iter().map(deployed).collect()),
            ..Row::default()
        }
    }

    fn plain(rows: &[Row], width: Option<usize>) -> String {
        anstream::adapter::strip_str(&text(rows, today(), width)).to_string()
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_end_of_spaces() {
        let rows = [row("a-long-name", None, &["one", "new"]), row("b", Some(400), &[])];
        assert_eq!(
            plain(&rows, None),
            "\
MODEL        VERSION  CAPABILITIES                DEPRECATION  DEPLOYMENTS
a-long-name  1        chat, responses, fine-tune  -            one (GlobalStandard 10), new (GlobalStandard 10, Creating)
b            1        chat, responses, fine-tune  2027-12-26   -
"
        );
    }

    #[test]
    fn a_narrow_terminal_breaks_lists() {
        let text = plain(&[row("a-long-name", None, &["one", "two"])], Some(77));
        assert_eq!(
            text,
            "\
MODEL        VERSION  CAPABILITIES      DEPRECATION  DEPLOYMENTS
a-long-name  1        chat, responses,  -            one (GlobalStandard 10),
                      fine-tune                      two (GlobalStandard 10)
"
        );
        assert!(!plain(&[row("a", Some(1), &["one"])], Some(1)).is_empty(), "however narrow");
    }

    #[test]
    fn where_there_is_little_room_what_is_said_of_a_deployment_stands_below_it() {
        let text = plain(&[row("m", None, &["a-long-deployment"])], Some(60));
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        assert_eq!(lines[1], "m      1        chat, responses,  -            a-long-deployment");
        assert_eq!(lines[2].split_once("  ").map(|(_, rest)| rest.trim()), Some("(GlobalStandard 10)"));
    }

    #[test]
    fn names_do_not_speak_to_the_terminal() {
        let text = text(&[row("a\u{1b}[2J", None, &["b\u{7}\nc"])], today(), None);
        assert!(!text.contains("[2J\u{1b}") && !text.contains("\u{1b}[2J") && !text.contains('\u{7}'), "{text:?}");
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn an_end_that_is_near_is_marked() {
        for (days, remark, colour) in [
            (-1000, "! past", "\u{1b}[31m"),
            (0, "! past", "\u{1b}[31m"),
            (1, "! in 1 day", "\u{1b}[33m"),
            (90, "! in 90 days", "\u{1b}[33m"),
        ] {
            let text = text(&[row("a", Some(days), &[])], today(), None);
            assert!(text.contains(remark) && text.contains(colour), "{days}: {text}");
        }
        let far = text(&[row("a", Some(91), &[])], today(), None);
        assert!(!far.contains('!') && !far.contains("\u{1b}[33m"), "{far}");
    }
}
