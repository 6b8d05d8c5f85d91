//! What the ledger says: read beside whoever writes it, or alone.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Row};
use time::{Date, OffsetDateTime};
use url::Url;

use super::error::FileError;
use super::file;
use crate::telemetry::counts::Counts;

/// How long whoever has locked the file is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Not summed up by SQLite, which gives up on a sum that is no 64-bit number.
const ROWS: &str = "SELECT hour / 86400 * 86400, app, model, responses, unknown, input, cached, output, reasoning
    FROM usage WHERE hour >= ?1";

/// What an app has spent on a model in a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The day, in UTC.
    pub day: Date,
    /// The app; `-` for whoever was no known one.
    pub app: String,
    /// The model.
    pub model: String,
    /// How much.
    pub counts: Counts,
}

/// Nothing can be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no file.
    #[error("there is no usage ledger at {}", .0.display())]
    Missing(PathBuf),
    /// A file that is not one to read.
    #[error(transparent)]
    File(#[from] FileError),
}

/// All that is in the file of hours that began at this second or later.
///
/// # Errors
///
/// If there is no such file, or it is none of ours.
pub fn read(path: &Path, since: i64) -> Result<Vec<Entry>, ReadError> {
    if let Some(dangling) = FileError::dangling(path) {
        return Err(dangling.into());
    }
    if matches!(path.try_exists(), Ok(false)) {
        return Err(ReadError::Missing(path.to_owned()));
    }
    let entries = sums(path, OpenFlags::empty(), path.as_os_str().to_owned(), since);
    match (entries, as_it_lies(path)) {
        // Nobody may write where it lies, and nobody does.
        (Err(ReadError::File(error)), Some(url)) if error.is_forbidden() => {
            sums(path, OpenFlags::SQLITE_OPEN_URI, url, since)
        }
        (entries, _) => entries,
    }
}

fn sums(path: &Path, how: OpenFlags, name: OsString, since: i64) -> Result<Vec<Entry>, ReadError> {
    let failed = |why| FileError::of(path, "read", why);
    // Only to leave nothing behind: whoever is last to close the file removes those beside it, if it may write.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | how;
    let connection = Connection::open_with_flags(PathBuf::from(name), flags).map_err(failed)?;
    connection.busy_timeout(PATIENCE).map_err(failed)?;
    connection.execute_batch("PRAGMA query_only = ON").map_err(failed)?;
    if file::version(&connection, path, file::LATEST)? == 0 {
        // Somebody is just making it.
        return Ok(Vec::new());
    }
    let mut query = connection.prepare(ROWS).map_err(|why| FileError::of_table(path, "read", why))?;
    let mut sums = BTreeMap::<_, Counts>::new();
    for row in query.query_map([since], entry).map_err(failed)? {
        let Entry { day, app, model, counts } = row.map_err(failed)?;
        *sums.entry((day, app, model)).or_default() += counts;
    }
    Ok(sums.into_iter().map(|((day, app, model), counts)| Entry { day, app, model, counts }).collect())
}

/// Of one hour.
fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let count = |column: usize| row.get::<_, i64>(column).map(|count| u64::try_from(count).unwrap_or_default());
    let day = OffsetDateTime::from_unix_timestamp(row.get(0)?).unwrap_or(OffsetDateTime::UNIX_EPOCH).date();
    let counts = Counts {
        responses: count(3)?,
        unknown: count(4)?,
        input: count(5)?,
        cached: count(6)?,
        output: count(7)?,
        reasoning: count(8)?,
    };
    Ok(Entry { day, app: row.get(1)?, model: row.get(2)?, counts })
}

/// Readers, too, write to a file beside the database, by which they know of each other. Where they may not, it can be read as it
/// lies, if there is no log beside it with what is not in it yet.
fn as_it_lies(path: &Path) -> Option<OsString> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    if std::fs::metadata(log).is_ok_and(|log| log.len() > 0) {
        return None;
    }
    let mut url = Url::from_file_path(path.canonicalize().ok()?).ok()?;
    url.set_query(Some("immutable=1"));
    Some(String::from(url).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-20 23:00 and 2026-11-21 00:00 UTC.
    const LATE: i64 = 1_795_215_600;
    const EARLY: i64 = LATE + 3600;

    fn ledger() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("100%?#.db");
        file::make(&path).unwrap();
        (directory, path)
    }

    fn fill(path: &Path) {
        let connection = file::open(path, PATIENCE).unwrap();
        for (hour, app) in [(LATE - 3600, "a"), (LATE, "a"), (EARLY, "a"), (EARLY, "b")] {
            connection.execute("INSERT INTO usage VALUES (?1, ?2, 'm', 1, 0, 10, 2, 5, 1)", (hour, app)).unwrap();
        }
    }

    #[test]
    fn a_day_begins_at_midnight_in_utc() {
        let (_directory, path) = ledger();
        fill(&path);
        let days = |since| -> Vec<(String, String, u64)> {
            let entries = read(&path, since).unwrap();
            entries.into_iter().map(|entry| (entry.day.to_string(), entry.app, entry.counts.input)).collect()
        };
        let day = |day: &str, app: &str, input| (day.to_owned(), app.to_owned(), input);
        let last = [day("2026-11-21", "a", 10), day("2026-11-21", "b", 10)];
        assert_eq!(days(0), [&[day("2026-11-20", "a", 20)], last.as_slice()].concat());
        assert_eq!(days(LATE), [&[day("2026-11-20", "a", 10)], last.as_slice()].concat());
        assert_eq!(days(EARLY), last);
    }

    #[test]
    fn what_no_column_holds_is_summed_up_all_the_same() {
        let (_directory, path) = ledger();
        let connection = file::open(&path, PATIENCE).unwrap();
        for hour in [EARLY, EARLY + 3600] {
            let row = (hour, i64::MAX);
            connection.execute("INSERT INTO usage VALUES (?1, 'a', 'm', 1, 0, ?2, 2, 5, 1)", row).unwrap();
        }
        let counts: Vec<_> = read(&path, 0).unwrap().into_iter().map(|entry| entry.counts).collect();
        let input = 2 * i64::MAX.unsigned_abs();
        assert_eq!(counts, [Counts { responses: 2, unknown: 0, input, cached: 4, output: 10, reasoning: 2 }]);
    }

    #[test]
    fn whoever_reads_leaves_nothing_behind() {
        let (directory, path) = ledger();
        fill(&path);
        let files = || std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!((files(), read(&path, 0).unwrap().len(), files()), (1, 3, 1));
    }

    #[test]
    fn what_cannot_be_written_to_is_read_as_it_lies() {
        let (directory, path) = ledger();
        fill(&path);
        let url = as_it_lies(&path).unwrap();
        assert_eq!(sums(&path, OpenFlags::SQLITE_OPEN_URI, url, 0).unwrap().len(), 3);
        // What is only in the log would be missing.
        std::fs::write(directory.path().join("100%?#.db-wal"), "x").unwrap();
        assert_eq!(as_it_lies(&path), None);
    }

    #[test]
    fn of_nothing_there_is_nothing_to_read() {
        let (directory, path) = ledger();
        assert_eq!(read(&path, 0).unwrap(), []);
        let missing = read(&directory.path().join("none"), 0).unwrap_err();
        assert!(matches!(missing, ReadError::Missing(_)), "{missing}");
    }
}
