//! The file of the ledger: made if it is not there, known for ours if it is, and brought up to date.
//!
//! It is a SQLite database whose writes go to a log beside it first (`-wal`), so that whoever reads keeps nobody from writing.
//! What is committed is with the kernel, and survives whatever happens to this process; should the machine lose its power, what
//! the kernel had not put to disk by then is missing, and the rest is whole (`synchronous = NORMAL`).

use std::fs::{DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};

use super::error::FileError;

/// What the file says that it is: "aoai".
const OURS: i32 = 0x616f_6169;

/// What leads from each version to the next; the first from nothing.
const STEPS: &[&str] = &["CREATE TABLE usage (
    hour INTEGER NOT NULL,
    app TEXT NOT NULL,
    model TEXT NOT NULL,
    responses INTEGER NOT NULL,
    unknown INTEGER NOT NULL,
    input INTEGER NOT NULL,
    cached INTEGER NOT NULL,
    output INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    PRIMARY KEY (hour, app, model)
) STRICT, WITHOUT ROWID"];

/// The version that is made and read here.
pub(super) const LATEST: usize = STEPS.len();

/// Whoever else writes to the file adds to the same rows. A sum that no column could hold stays at the most that one can: a row
/// that cannot be written would keep all others from it.
pub(super) const ADD: &str =
    "INSERT INTO usage (hour, app, model, responses, unknown, input, cached, output, reasoning)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
    ON CONFLICT (hour, app, model) DO UPDATE SET
        responses = min(responses, 0x7fffffffffffffff - excluded.responses) + excluded.responses,
        unknown = min(unknown, 0x7fffffffffffffff - excluded.unknown) + excluded.unknown,
        input = min(input, 0x7fffffffffffffff - excluded.input) + excluded.input,
        cached = min(cached, 0x7fffffffffffffff - excluded.cached) + excluded.cached,
        output = min(output, 0x7fffffffffffffff - excluded.output) + excluded.output,
        reasoning = min(reasoning, 0x7fffffffffffffff - excluded.reasoning) + excluded.reasoning";

/// Makes what is not there of the file and its directory, for this user alone.
pub(super) fn make(path: &Path) -> Result<(), FileError> {
    let unmade = |source| FileError::Unmade { path: path.to_owned(), source };
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(unmade)?;
    }
    // Not by SQLite, which would let everybody read it.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(unmade(error)),
        _ => Ok(()),
    }
}

/// Opens the file to write to it, waiting for whoever has locked it no longer than `patience`.
pub(super) fn open(path: &Path, patience: Duration) -> Result<Connection, FileError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let failed = |why| FileError::of(path, "open", why);
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(patience).map_err(failed)?;
    // What is not ours is not touched.
    version(&connection, path, LATEST)?;
    let settings = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY;";
    connection.execute_batch(settings).map_err(failed)?;
    bring_up_to_date(&mut connection, path, STEPS)?;
    try_out(&mut connection, path)?;
    Ok(connection)
}

/// Whether it is as it was made: whole, and such that rows can be added. One is, and is not kept.
fn try_out(connection: &mut Connection, path: &Path) -> Result<(), FileError> {
    let failed = |why| FileError::of_table(path, "write to", why);
    let found: String = connection.query_row("PRAGMA quick_check(1)", (), |row| row.get(0)).map_err(failed)?;
    if found != "ok" {
        // Its first line only names the table.
        let what = found.lines().last().unwrap_or_default().to_owned();
        return Err(FileError::Damaged { path: path.to_owned(), what });
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    transaction.execute(ADD, params![0, "", "", 0, 0, 0, 0, 0, 0]).map_err(failed)?;
    transaction.rollback().map_err(failed)
}

/// Takes the steps that are left, all or none of them. That it can be written to is known then, too.
fn bring_up_to_date(connection: &mut Connection, path: &Path, steps: &[&str]) -> Result<(), FileError> {
    let failed = |why| FileError::of(path, "write to", why);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    // Now that nobody else can take them meanwhile.
    let version = version(&transaction, path, steps.len())?;
    for (number, step) in steps.iter().enumerate().skip(version) {
        transaction.execute_batch(step).map_err(failed)?;
        let next = i64::try_from(number + 1).unwrap_or(i64::MAX);
        transaction.pragma_update(None, "user_version", next).map_err(failed)?;
        transaction.pragma_update(None, "application_id", OURS).map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

/// Of which version the file is: 0 if nothing is in it yet.
pub(super) fn version(connection: &Connection, path: &Path, known: usize) -> Result<usize, FileError> {
    let number = |query: &str| connection.query_row(query, (), |row| row.get::<_, i64>(0));
    let told = || {
        // All three of one moment: somebody else may just make the file.
        let _snapshot = connection.is_autocommit().then(|| connection.unchecked_transaction()).transpose()?;
        Ok((
            number("PRAGMA application_id")?,
            number("PRAGMA user_version")?,
            number("SELECT count(*) FROM sqlite_schema")?,
        ))
    };
    let foreign = |what| Err(FileError::Foreign { path: path.to_owned(), what });
    match told().map_err(|why| FileError::of(path, "read", why))? {
        (0, 0, 0) => Ok(0),
        (application, version, _) if application == i64::from(OURS) => match usize::try_from(version) {
            Ok(version) if version > known => Err(FileError::Newer { path: path.to_owned(), version, known }),
            Ok(version) => Ok(version),
            Err(_) => foreign(""),
        },
        _ => foreign(", but a database of another program"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    /// A ledger as version 1 has made it.
    const VERSION_1: &str = include_str!("../../tests/fixtures/ledger/version-1.sql");
    const PATIENCE: Duration = Duration::from_secs(5);

    fn file() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/for it/usage.db");
        make(&path).unwrap();
        (directory, path)
    }

    fn of_version_1() -> (tempfile::TempDir, PathBuf) {
        let (directory, path) = file();
        Connection::open(&path).unwrap().execute_batch(VERSION_1).unwrap();
        (directory, path)
    }

    fn tokens(connection: &Connection, column: &str) -> i64 {
        connection.query_row(&format!("SELECT sum({column}) FROM usage"), (), |row| row.get(0)).unwrap()
    }

    #[test]
    fn it_is_made_for_this_user_alone() {
        let (_directory, path) = file();
        let connection = open(&path, PATIENCE).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        for file in ["usage.db", "usage.db-wal", "usage.db-shm"] {
            assert_eq!(mode(&path.with_file_name(file)), 0o600, "{file}");
        }
        let mode: String = connection.query_row("PRAGMA journal_mode", (), |row| row.get(0)).unwrap();
        assert_eq!((mode.as_str(), version(&connection, &path, 1).unwrap()), ("wal", 1));
    }

    #[test]
    fn whoever_comes_while_it_is_made_finds_nothing_half_made() {
        for _ in 0..50 {
            let (_directory, path) = file();
            std::thread::scope(|threads| {
                let others = [(); 4].map(|()| threads.spawn(|| open(&path, PATIENCE).map(drop)));
                for other in others {
                    match other.join().unwrap() {
                        Err(error) if !error.may_pass() => panic!("{error}"),
                        _ => {}
                    }
                }
            });
        }
    }

    #[test]
    fn a_file_of_version_1_is_what_is_made_today() {
        let (_directory, path) = of_version_1();
        let schema = |connection: &Connection| -> String {
            let schema =
                connection.query_row("SELECT sql FROM sqlite_schema WHERE name = 'usage'", (), |row| row.get(0));
            schema.unwrap()
        };
        let (old, (_other, new)) = (open(&path, PATIENCE).unwrap(), file());
        assert_eq!(tokens(&old, "input"), 1234);
        assert_eq!(schema(&old), schema(&open(&new, PATIENCE).unwrap()));
    }

    #[test]
    fn an_older_file_is_brought_up_to_date_and_keeps_what_is_in_it() {
        let (_directory, path) = of_version_1();
        let mut connection = Connection::open(&path).unwrap();
        let steps = [STEPS[0], "ALTER TABLE usage ADD COLUMN images INTEGER NOT NULL DEFAULT 7", "SELECT 1"];
        bring_up_to_date(&mut connection, &path, &steps).unwrap();
        assert_eq!((tokens(&connection, "input"), tokens(&connection, "images")), (1234, 14));
        assert_eq!(version(&connection, &path, 3).unwrap(), 3);
        bring_up_to_date(&mut connection, &path, &steps).unwrap();
        // Whoever knows less leaves it alone.
        let error = open(&path, PATIENCE).unwrap_err();
        assert!(matches!(error, FileError::Newer { version: 3, known: 1, .. }), "{error}");
    }

    #[test]
    fn steps_are_taken_all_or_none() {
        let (_directory, path) = of_version_1();
        let mut connection = Connection::open(&path).unwrap();
        let steps = [STEPS[0], "ALTER TABLE usage ADD COLUMN images INTEGER NOT NULL DEFAULT 0", "DROP TABLE nothing"];
        let error = bring_up_to_date(&mut connection, &path, &steps).unwrap_err();
        assert!(matches!(error, FileError::Sqlite { .. }) && !error.may_pass(), "{error}");
        assert_eq!(version(&connection, &path, 1).unwrap(), 1);
        assert!(connection.prepare("SELECT images FROM usage").is_err());
        drop(connection);
        assert_eq!(tokens(&open(&path, PATIENCE).unwrap(), "input"), 1234);
    }

    #[test]
    fn a_file_of_ours_that_somebody_has_altered_is_not_used() {
        for (altered, found) in [
            ("DROP TABLE usage", "no such table: usage"),
            ("ALTER TABLE usage RENAME COLUMN input TO sent", "no column named input"),
            (
                "DELETE FROM usage; ALTER TABLE usage ADD COLUMN cost INTEGER CHECK (cost > 0) DEFAULT 0",
                "CHECK constraint failed",
            ),
            ("DROP TABLE usage; CREATE VIEW usage AS SELECT 1 AS hour", "usage"),
        ] {
            let (_directory, path) = of_version_1();
            Connection::open(&path).unwrap().execute_batch(altered).unwrap();
            let error = open(&path, PATIENCE).unwrap_err();
            let is_damaged = matches!(&error, FileError::Damaged { what, .. } if what.contains(found));
            assert!(is_damaged && !error.may_pass(), "{altered}: {error}");
        }
    }

    #[test]
    fn a_file_with_a_damaged_page_is_not_used() {
        let (_directory, path) = of_version_1();
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 4096;
        bytes[last..last + 200].fill(0xff);
        std::fs::write(&path, bytes).unwrap();
        let error = open(&path, PATIENCE).unwrap_err();
        assert!(matches!(error, FileError::Damaged { .. }), "{error}");
    }

    #[test]
    fn what_is_not_ours_is_left_as_it_is() {
        let (_directory, path) = file();
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (a); PRAGMA user_version = 1").unwrap();
        let text = path.with_file_name("text");
        std::fs::write(&text, "no database at all, ".repeat(500)).unwrap();
        for path in [path, text] {
            let before = std::fs::read(&path).unwrap();
            let error = open(&path, PATIENCE).unwrap_err();
            assert!(matches!(error, FileError::Foreign { .. }) && !error.may_pass(), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), before);
        }
    }
}
