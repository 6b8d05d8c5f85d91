//! Rows on their way into the file, all that wait at once.

use std::fs::metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior, params};

use super::error::FileError;
use super::file::{self, ADD};
use super::rows::{Row, Rows};
use crate::error::Causes;

/// How long whoever has locked the file is waited for. Requests never wait.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same when the program starts, and nobody is served yet: another one may just make the file.
const FIRST_PATIENCE: Duration = Duration::from_millis(250);

/// The file, open if it can be.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    /// What its directory was when the file was opened last: device and number.
    directory: Option<(u64, u64)>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    connection: Connection,
    /// What the path led to then: device and number.
    file: Option<(u64, u64)>,
}

impl Store {
    /// The file at `path`. It may be locked, or the disk full: that can pass.
    pub(super) fn open(path: &Path) -> Result<Self, FileError> {
        file::make(path)?;
        // Where SQLite puts its files beside it, even if a link leads there.
        let unmade = |source| FileError::dangling(path).unwrap_or(FileError::Unmade { path: path.to_owned(), source });
        let path = path.canonicalize().map_err(unmade)?;
        let mut store = Self { directory: path.parent().and_then(whereto), path, open: None };
        match store.opened(FIRST_PATIENCE) {
            Ok(open) => store.open = Some(open),
            Err(error) if error.may_pass() => {
                tracing::warn!(error = %Causes(&error), "the usage ledger cannot be written yet; counts wait in memory");
            }
            Err(error) => return Err(error),
        }
        Ok(store)
    }

    /// Whether it could be opened, and is.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Where the file lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds these rows to what is there: all of them, or, if that fails, none.
    pub(super) fn write(&mut self, rows: &Rows) -> Result<(), FileError> {
        self.with(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut add = transaction.prepare(ADD)?;
            for Row { hour, app, model, counts } in rows.iter() {
                let [responses, unknown, input, cached, output, reasoning] =
                    [counts.responses, counts.unknown, counts.input, counts.cached, counts.output, counts.reasoning]
                        .map(|count| i64::try_from(count).unwrap_or(i64::MAX));
                add.execute(params![hour, app, model, responses, unknown, input, cached, output, reasoning])?;
            }
            drop(add);
            transaction.commit()
        })
    }

    /// Forgets the hours that began before this second.
    pub(super) fn forget_before(&mut self, hour: i64) -> Result<usize, FileError> {
        self.with(|connection| connection.execute("DELETE FROM usage WHERE hour < ?1", [hour]))
    }

    /// The last hour in it.
    pub(super) fn newest(&mut self) -> Result<Option<i64>, FileError> {
        self.with(|connection| connection.query_row("SELECT max(hour) FROM usage", (), |row| row.get(0)))
    }

    /// Does something with the file, opened again if need be.
    fn with<T>(&mut self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, FileError> {
        let done = work(self.connection()?).map_err(|why| FileError::of(&self.path, "write to", why));
        if done.as_ref().is_err_and(|error| !error.may_pass()) {
            self.open = None;
        }
        done
    }

    /// Should somebody have taken the file away, another one is made. What is open is closed before: closing any file takes the
    /// locks from all that this process has on it.
    fn connection(&mut self) -> Result<&mut Connection, FileError> {
        let open = match self.open.take().filter(|open| open.file == whereto(&self.path)) {
            Some(open) => open,
            None => self.opened(PATIENCE).map_err(|error| self.of_its_directory(error))?,
        };
        self.directory = self.path.parent().and_then(whereto);
        Ok(&mut self.open.insert(open).connection)
    }

    /// A confined process may write to the directory that was there when it began, and to no other of its name.
    fn of_its_directory(&self, error: FileError) -> FileError {
        if error.may_pass() || self.path.parent().and_then(whereto) == self.directory {
            return error;
        }
        FileError::Replaced { path: self.path.clone(), source: Box::new(error) }
    }

    fn opened(&self, patience: Duration) -> Result<Open, FileError> {
        file::make(&self.path)?;
        let connection = file::open(&self.path, patience)?;
        connection.busy_timeout(PATIENCE).map_err(|why| FileError::of(&self.path, "open", why))?;
        Ok(Open { connection, file: whereto(&self.path) })
    }
}

/// Which file the path leads to.
fn whereto(path: &Path) -> Option<(u64, u64)> {
    metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::super::Counts;
    use super::super::rows::Key;
    use super::*;
    use crate::telemetry::names::Label;

    fn key(hour: i64) -> Key<'static> {
        let [app, model] = ["a", "m"].map(|name| Label { name, number: 0 });
        Key { hour, app, model }
    }

    fn rows(hours: std::ops::Range<i64>) -> Rows {
        let mut rows = Rows::default();
        for hour in hours {
            let counts = Counts { responses: 1, unknown: 2, input: 3, cached: 4, output: 5, reasoning: 6 };
            rows.add(key(hour * 3600), counts);
        }
        rows
    }

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("usage.db")).unwrap();
        (directory, store)
    }

    /// How many rows, and how many responses in them.
    fn sums(store: &Store) -> (i64, i64) {
        let connection = Connection::open(&store.path).unwrap();
        let query = "SELECT count(*), coalesce(sum(responses), 0) FROM usage";
        connection.query_row(query, (), |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    }

    #[test]
    fn rows_are_added_to_what_is_there() {
        let (_directory, mut store) = store();
        store.write(&rows(0..3)).unwrap();
        store.write(&rows(1..4)).unwrap();
        assert_eq!(sums(&store), (4, 6));
        let all = "SELECT responses || unknown || input || cached || output || reasoning FROM usage WHERE hour = 3600";
        let row: String = Connection::open(&store.path).unwrap().query_row(all, (), |row| row.get(0)).unwrap();
        assert_eq!(row, "24681012");
        assert_eq!(store.forget_before(2 * 3600).unwrap(), 2);
        assert_eq!(sums(&store), (2, 3));
    }

    #[test]
    fn a_sum_that_no_column_holds_keeps_nothing_else_from_being_written() {
        let (_directory, mut store) = store();
        let most =
            Counts { responses: 1, unknown: u64::MAX, input: u64::MAX, cached: 0, output: 1 << 62, reasoning: 0 };
        for _ in 0..2 {
            let mut more = rows(1..2);
            more.add(key(0), most);
            store.write(&more).unwrap();
        }
        let read = |query: &str| -> [i64; 3] {
            let connection = Connection::open(&store.path).unwrap();
            connection.query_row(query, (), |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?])).unwrap()
        };
        assert_eq!(read("SELECT responses, input, output FROM usage WHERE hour = 0"), [2, i64::MAX, i64::MAX]);
        assert_eq!(read("SELECT responses, input, output FROM usage WHERE hour = 3600"), [2, 6, 10]);
    }

    #[test]
    fn of_what_does_not_fit_nothing_is_written_and_all_of_it_later() {
        let (_directory, mut store) = store();
        store.write(&rows(0..1)).unwrap();
        let limit = |store: &Store, pages: i64| {
            let connection = &store.open.as_ref().unwrap().connection;
            connection.query_row(&format!("PRAGMA max_page_count = {pages}"), (), |row| row.get::<_, i64>(0)).unwrap();
        };
        limit(&store, 3);
        let error = store.write(&rows(0..5000)).unwrap_err();
        assert!(error.may_pass(), "{error}");
        assert_eq!(sums(&store), (1, 1));
        limit(&store, 1_000_000);
        store.write(&rows(0..5000)).unwrap();
        assert_eq!(sums(&store), (5000, 5001));
    }

    #[test]
    fn what_is_locked_is_waited_for_and_then_left_for_later() {
        let (_directory, mut store) = store();
        let other = Connection::open(&store.path).unwrap();
        other.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let error = store.write(&rows(0..1)).unwrap_err();
        assert!(error.may_pass(), "{error}");
        other.execute_batch("ROLLBACK").unwrap();
        store.write(&rows(0..1)).unwrap();
        assert_eq!(sums(&store), (1, 1));
    }

    #[test]
    fn what_is_locked_when_it_begins_is_opened_later() {
        let (directory, store) = store();
        let other = Connection::open(&store.path).unwrap();
        drop(store);
        other.execute_batch("BEGIN EXCLUSIVE; DELETE FROM usage").unwrap();
        let mut store = Store::open(&directory.path().join("usage.db")).unwrap();
        assert!(!store.is_open());
        other.execute_batch("ROLLBACK").unwrap();
        store.write(&rows(0..1)).unwrap();
        assert!(store.is_open());
        assert_eq!(sums(&store), (1, 1));
    }

    #[test]
    fn a_directory_that_was_replaced_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("state/usage.db"), directory.path().join("moved"));
        let mut store = Store::open(&path).unwrap();
        store.write(&rows(0..1)).unwrap();
        std::fs::rename(directory.path().join("state"), &moved).unwrap();
        // Where nothing can be made, even by root, and even where no process can be confined.
        std::fs::write(directory.path().join("state"), "").unwrap();
        for _ in 0..2 {
            let error = store.write(&rows(1..2)).unwrap_err();
            assert!(matches!(error, FileError::Replaced { .. }), "{error}");
            assert!(error.to_string().contains("start the proxy again"), "{error}");
        }
        std::fs::remove_file(directory.path().join("state")).unwrap();
        std::fs::rename(moved, directory.path().join("state")).unwrap();
        store.write(&rows(1..2)).unwrap();
        assert_eq!(sums(&store), (2, 2));
    }

    #[test]
    fn a_link_that_leads_nowhere_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link.db");
        std::os::unix::fs::symlink("nowhere.db", &link).unwrap();
        let error = Store::open(&link).unwrap_err();
        assert!(matches!(error, FileError::Dangling { .. }), "{error}");
        let error = super::super::read(&link, 0).unwrap_err();
        assert!(error.to_string().contains("is a link to nowhere.db, where nothing is"), "{error}");
    }

    #[test]
    fn a_file_that_somebody_took_away_is_made_anew() {
        let (directory, mut store) = store();
        store.write(&rows(0..1)).unwrap();
        std::fs::rename(&store.path, directory.path().join("kept")).unwrap();
        store.write(&rows(5..7)).unwrap();
        assert_eq!(sums(&store), (2, 2));
    }
}
