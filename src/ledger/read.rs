//! What the ledger says: read beside whoever writes it, or alone.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Row};
use time::{Date, OffsetDateTime};
use url::Url;

use super::counts::Counts;
use super::file::{self, FileError};

/// How long whoever has locked the file is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

const SUMS: &str = "SELECT hour / 86400 * 86400 AS day, app, model,
        sum(responses), sum(unknown), sum(input), sum(cached), sum(output), sum(reasoning)
    FROM usage WHERE hour >= ?1 GROUP BY day, app, model ORDER BY day, app, model";

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
    if matches!(path.try_exists(), Ok(false)) {
        return Err(ReadError::Missing(path.to_owned()));
    }
    let entries = sums(path, OpenFlags::empty(), path.as_os_str().to_owned(), since);
    match (entries, as_it_lies(path)) {
        // Nobody may write where it lies, and nobody does.
        (Err(ReadError::File(FileError::Sqlite { source, .. })), Some(url)) if is_kept_from_it(&source) => {
            sums(path, OpenFlags::SQLITE_OPEN_URI, url, since)
        }
        (entries, _) => entries,
    }
}

fn sums(path: &Path, how: OpenFlags, name: OsString, since: i64) -> Result<Vec<Entry>, ReadError> {
    let failed = |source| FileError::of(path, "read", source);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | how;
    let connection = Connection::open_with_flags(PathBuf::from(name), flags).map_err(failed)?;
    connection.busy_timeout(PATIENCE).map_err(failed)?;
    if file::version(&connection, path, file::LATEST)? == 0 {
        // Somebody is just making it.
        return Ok(Vec::new());
    }
    let mut query = connection.prepare(SUMS).map_err(failed)?;
    let entries = query.query_map([since], entry).map_err(failed)?;
    Ok(entries.collect::<Result<_, _>>().map_err(failed)?)
}

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

fn is_kept_from_it(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied))
}
