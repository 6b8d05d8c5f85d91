//! `--since`: how far back, in full hours, as that is how the ledger counts.

use std::time::{Duration, SystemTime};

use time::format_description::well_known::Iso8601;
use time::{Date, OffsetDateTime, Time};

use crate::ledger;

/// How far back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    /// From so long ago.
    Ago(Duration),
    /// From the beginning of this day, in UTC.
    Day(Date),
}

impl Since {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // The library takes other ways to write it, too, and one with a time behind it.
        if let Some(day) = Date::parse(text, &Iso8601::DATE).ok().filter(|day| day.to_string() == text) {
            return Ok(Self::Day(day));
        }
        let expected = |error| format!("expected a duration like 24h or 30d, or a day like 2026-11-01 ({error})");
        humantime::parse_duration(text).map(Self::Ago).map_err(expected)
    }

    /// The first hour that counts; with a duration, the one in which that begins, whole.
    pub(super) fn first_hour(self, now: SystemTime) -> OffsetDateTime {
        match self {
            Self::Day(day) => day.with_time(Time::MIDNIGHT).assume_utc(),
            Self::Ago(duration) => {
                let begin = now.checked_sub(duration).map_or(0, ledger::hour);
                OffsetDateTime::from_unix_timestamp(begin).unwrap_or(OffsetDateTime::UNIX_EPOCH)
            }
        }
    }
}

/// As in `2026-11-21 17:00 UTC`.
pub(super) fn shown(hour: OffsetDateTime) -> String {
    format!("{} {:02}:00 UTC", hour.date(), hour.hour())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    /// 2026-11-21 17:46:40 UTC.
    const NOW: u64 = 1_795_283_200;

    #[test]
    fn a_time_is_so_long_ago_or_the_beginning_of_a_day() {
        let first_hour =
            |text: &str| shown(Since::parse(text).unwrap().first_hour(UNIX_EPOCH + Duration::from_secs(NOW)));
        for (text, hour) in [
            ("7d", "2026-11-14 17:00 UTC"),
            ("1h 30m", "2026-11-21 16:00 UTC"),
            ("1s", "2026-11-21 17:00 UTC"),
            ("100y", "1970-01-01 00:00 UTC"),
            ("2026-11-01", "2026-11-01 00:00 UTC"),
            ("1969-01-01", "1969-01-01 00:00 UTC"),
        ] {
            assert_eq!(first_hour(text), hour, "{text}");
        }
        for bad in ["", "yesterday", "7", "-1d", "2026-13-01", "2026-11-01T00:00:00Z"] {
            assert!(Since::parse(bad).is_err(), "{bad}");
        }
    }
}
