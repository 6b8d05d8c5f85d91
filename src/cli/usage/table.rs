//! Usage as a table, with a total, and with what must be known to read it.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use super::report::{Line, Report};
use super::{By, since};
use crate::cli::Failure;
use crate::cli::table::{self, Cell, terminal_width};
use crate::config::obeyed;

pub(super) fn print(report: &Report, since: OffsetDateTime) -> Result<(), Failure> {
    table::print(&text(report, since, terminal_width()))
}

fn text(report: &Report, since: OffsetDateTime, width: Option<usize>) -> String {
    let mut rows = vec![headings(report)];
    rows.extend(report.lines.iter().map(|(group, line)| {
        let group = group.iter().map(|name| Cell::plain(name));
        group.chain(numbers(report, line)).collect::<Vec<_>>()
    }));
    // The sum of one line is that line.
    if report.lines.len() > 1 {
        let blanks = report.by.iter().skip(1).map(|_| Cell::blank());
        let total = [Cell::plain("total")].into_iter().chain(blanks).chain(numbers(report, &report.total));
        rows.push(total.map(Cell::bold).collect());
    }
    format!("{}\n{}", table::text(&rows, &[], width), notes(report, since))
}

fn headings(report: &Report) -> Vec<Cell> {
    let groups = report.by.iter().map(|by| match by {
        By::App => "APP",
        By::Model => "MODEL",
        By::Day => "DAY",
    });
    let numbers = ["RESPONSES", "UNKNOWN", "INPUT", "CACHED", "OUTPUT", "REASONING"].map(Cell::heading);
    let cost = report.is_priced.then(|| Cell::heading(&format!("COST {}", report.currency.as_str())));
    groups.map(Cell::heading).chain(numbers.into_iter().chain(cost).map(Cell::on_the_right)).collect()
}

fn numbers(report: &Report, line: &Line) -> impl Iterator<Item = Cell> {
    let counts = line.counts;
    let numbers = [counts.responses, counts.unknown, counts.input, counts.cached, counts.output, counts.reasoning];
    let cost = report.is_priced.then(|| match line.cost {
        Some(cost) => Cell::plain(&format!("{}{}", cost.rounded(), if line.is_partial { "+" } else { "" })),
        None => Cell::plain(""),
    });
    let numbers = numbers.map(|number| Cell::plain(&number.to_string()));
    numbers.into_iter().chain(cost).map(Cell::on_the_right)
}

/// What the table leaves open.
fn notes(report: &Report, since: OffsetDateTime) -> String {
    let mut notes = vec![format!("Tokens since {}; days are in UTC.\n", since::shown(since))];
    let counts = report.total.counts;
    if counts.unknown > 0 {
        notes.push(format!("{} of {} responses did not say what they cost.\n", counts.unknown, counts.responses));
    }
    if report.is_priced && report.total.is_partial {
        let why = if report.unpriced.is_empty() {
            String::new()
        } else {
            format!(": there is no price for {}", some(&report.unpriced))
        };
        notes.push(format!("A cost with + is at least that{why}.\n"));
    }
    notes.concat()
}

/// As many names as can be read, and how many there are besides.
fn some(names: &BTreeSet<String>) -> String {
    const SOME: usize = 8;
    let shown = names.iter().take(SOME).map(|name| name.replace(obeyed, " ")).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SOME) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use time::{Date, Month};

    use super::*;
    use crate::config::{Books, Environment, Overrides};
    use crate::ledger::{Counts, Entry};

    fn report(by: &[By], assignments: &[&str]) -> Report {
        let entry = |day, app: &str, model: &str, responses, unknown, input| Entry {
            day: Date::from_calendar_date(2026, Month::November, day).unwrap(),
            app: app.to_owned(),
            model: model.to_owned(),
            counts: Counts { responses, unknown, input, cached: input / 2, output: input / 10, reasoning: 7 },
        };
        let entries = [
            entry(20, "notebook", "gpt-4o", 1200, 0, 1_234_567),
            entry(20, "-", "o3", 3, 0, 90),
            entry(21, "notebook", "gpt-4o", 5, 2, 1000),
            entry(21, "notebook", "mute\u{1b}[2J", 1, 1, 0),
        ];
        let assignments = assignments.iter().map(|assignment| (*assignment).to_owned());
        let assignments = assignments.chain(["usage.database=/u.db".to_owned()]).collect();
        let overrides = Overrides { assignments, file: Some("/dev/null".into()), ..Overrides::default() };
        Report::new(&entries, by, &Books::load(&Environment::default(), &overrides).unwrap().prices)
    }

    fn shown(by: &[By], assignments: &[&str]) -> String {
        let since = OffsetDateTime::from_unix_timestamp(1_795_280_400).unwrap();
        anstream::adapter::strip_str(&text(&report(by, assignments), since, None)).to_string()
    }

    const PRICES: [&str; 3] = ["prices.gpt-4o.input=2.5", "prices.gpt-4o.cached=1.25", "prices.gpt-4o.output=10"];

    #[test]
    fn without_prices_there_is_no_cost() {
        assert_eq!(
            shown(&[By::App, By::Model], &[]),
            "\
APP       MODEL     RESPONSES  UNKNOWN    INPUT  CACHED  OUTPUT  REASONING
-         o3                3        0       90      45       9          7
notebook  gpt-4o         1205        2  1235567  617783  123556         14
notebook  mute [2J          1        1        0       0       0          7
total                    1209        3  1235657  617828  123565         28

Tokens since 2026-11-21 17:00 UTC; days are in UTC.
3 of 1209 responses did not say what they cost.
"
        );
    }

    #[test]
    fn what_has_no_price_makes_the_total_incomplete() {
        assert_eq!(
            shown(&[By::Day, By::Model], &PRICES),
            "\
DAY         MODEL     RESPONSES  UNKNOWN    INPUT  CACHED  OUTPUT  REASONING  COST USD
2026-11-20  gpt-4o         1200        0  1234567  617283  123456          7    3.5494
2026-11-20  o3                3        0       90      45       9          7         -
2026-11-21  gpt-4o            5        2     1000     500     100          7   0.0029+
2026-11-21  mute [2J          1        1        0       0       0          7         -
total                      1209        3  1235657  617828  123565         28   3.5522+

Tokens since 2026-11-21 17:00 UTC; days are in UTC.
3 of 1209 responses did not say what they cost.
A cost with + is at least that: there is no price for o3.
"
        );
    }

    #[test]
    fn of_many_names_some_are_told_and_none_is_obeyed() {
        let names = |count: u32| (0..count).map(|number| format!("m{number}")).collect();
        assert_eq!(some(&names(2)), "m0, m1");
        assert_eq!(some(&names(8)), "m0, m1, m2, m3, m4, m5, m6, m7");
        assert_eq!(some(&names(10)), "m0, m1, m2, m3, m4, m5, m6, m7 and 2 more");
        let unseen = "a\u{202e}b\u{2028}c\u{200b}d\u{feff}e\u{7f}f";
        assert_eq!(some(&[unseen.to_owned()].into()), "a b c d e f");
        assert_eq!(Cell::plain(unseen).words, ["a b c d e f"]);
    }

    #[test]
    fn one_group_holds_what_was_told_apart_below_it() {
        assert_eq!(
            shown(&[By::App], &PRICES),
            "\
APP       RESPONSES  UNKNOWN    INPUT  CACHED  OUTPUT  REASONING  COST USD
-                 3        0       90      45       9          7         -
notebook       1206        3  1235567  617783  123556         21   3.5522+
total          1209        3  1235657  617828  123565         28   3.5522+

Tokens since 2026-11-21 17:00 UTC; days are in UTC.
3 of 1209 responses did not say what they cost.
A cost with + is at least that: there is no price for o3.
"
        );
    }

    #[test]
    fn records_are_flat_and_costs_exact() {
        let records = report(&[By::Day, By::Model], &PRICES);
        let records: Vec<_> = records.records().iter().map(|record| serde_json::to_string(record).unwrap()).collect();
        assert_eq!(
            records[2],
            r#"{"day":"2026-11-21","model":"gpt-4o","responses":5,"unknown":2,"input":1000,"cached":500,"output":100,"reasoning":7,"cost":0.002875,"cost_is_partial":true,"currency":"USD"}"#
        );
        assert!(records[0].contains(r#""cost":3.54937375,"cost_is_partial":false"#), "{}", records[0]);
        assert!(records[1].contains(r#""cost":null,"cost_is_partial":true"#), "{}", records[1]);
        assert!(records[3].contains(r#""cost":null,"cost_is_partial":true"#), "nothing is known: {}", records[3]);
    }
}
