//! Why the file of the ledger cannot be used, and what to do then.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use rustix::fs::{Access, access};
use rustix::io::Errno;

/// The file is not one that can be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Nothing can be put where it should lie.
    #[error("cannot make the usage ledger {}; usage.database names the file", path.display())]
    Unmade {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is no usage ledger{what}, and is left as it is; set usage.database to another file", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is, as far as that is known.
        what: &'static str,
    },
    /// A version of this program that was not written yet has made it.
    #[error(
        "the usage ledger {} is of version {version}, and this program knows no later one than {known}: a newer one has made it. \
         Run that, or set usage.database to another file",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: usize,
        /// The latest that is known here.
        known: usize,
    },
    /// It is ours, and somebody or something has altered what is in it.
    #[error(
        "the usage ledger {} is damaged ({what}), and is left as it is; move it away and another one is made, or set \
         usage.database to another file",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// It is another user's, or lies where nothing is written.
    #[error(
        "this user may not {doing} the usage ledger {}; run as the user whose it is, or set usage.database to a file that this \
         one may write to",
        path.display()
    )]
    Denied {
        /// The file.
        path: PathBuf,
        /// What is forbidden.
        doing: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It is a link, and what it should lead to is not there.
    #[error(
        "{} is a link to {}, where nothing is; make that, remove the link, or set usage.database to another file",
        path.display(), target.display()
    )]
    Dangling {
        /// The link.
        path: PathBuf,
        /// What it says.
        target: PathBuf,
    },
    /// Its directory is not the one of before, and there this process may do nothing.
    #[error(
        "the directory of the usage ledger {} was removed or replaced, and only in the one that was there may be written; start the \
         proxy again",
        path.display()
    )]
    Replaced {
        /// The file.
        path: PathBuf,
        /// What could not be done.
        source: Box<Self>,
    },
    /// Something else is wrong with it, for now or for good.
    #[error("cannot {doing} the usage ledger {}: {why}; usage.database names the file", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why it failed. Its own cause says the same once more.
        why: rusqlite::Error,
    },
}

impl FileError {
    /// Whether it may pass by itself: somebody else has locked the file, or there is no room for it.
    pub(super) fn may_pass(&self) -> bool {
        let Self::Sqlite { why, .. } = self else { return false };
        matches!(
            why.sqlite_error_code(),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull)
        )
    }

    /// Whether the system forbids it, as far as that can be told.
    pub(super) fn is_forbidden(&self) -> bool {
        match self {
            Self::Denied { .. } => true,
            Self::Sqlite { why, .. } => is_forbidden(why),
            Self::Unmade { .. }
            | Self::Foreign { .. }
            | Self::Newer { .. }
            | Self::Damaged { .. }
            | Self::Dangling { .. }
            | Self::Replaced { .. } => false,
        }
    }

    /// Of what SQLite says when it tries to do something with `path`.
    pub(super) fn of(path: &Path, doing: &'static str, why: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match why.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Self::Foreign { path, what: ", and no SQLite database" },
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged { path, what: why.to_string() },
            _ if is_forbidden(&why) => match forbidden(&path) {
                Some((doing, errno)) => Self::Denied { path, doing, source: errno.into() },
                None => Self::Sqlite { path, doing, why },
            },
            _ => Self::Sqlite { path, doing, why },
        }
    }

    /// The same, where what is tried can only fail if the table is not as it was made.
    pub(super) fn of_table(path: &Path, doing: &'static str, why: rusqlite::Error) -> Self {
        match why.sqlite_error_code() {
            Some(ErrorCode::Unknown | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch) => {
                Self::Damaged { path: path.to_owned(), what: why.to_string() }
            }
            _ => Self::of(path, doing, why),
        }
    }

    /// Of a path that leads nowhere by a link.
    pub(super) fn dangling(path: &Path) -> Option<Self> {
        let target = path.read_link().ok().filter(|_| matches!(path.try_exists(), Ok(false)))?;
        Some(Self::Dangling { path: path.to_owned(), target })
    }
}

fn is_forbidden(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied))
}

/// What this user may not do with the file: SQLite says only that it could not.
fn forbidden(path: &Path) -> Option<(&'static str, Errno)> {
    let tries = [
        ("read", path, Access::READ_OK),
        ("write to", path, Access::WRITE_OK),
        ("write to the directory of", path.parent()?, Access::WRITE_OK | Access::EXEC_OK),
    ];
    let errors = tries.into_iter().filter_map(|(doing, path, how)| Some((doing, access(path, how).err()?)));
    errors.into_iter().find(|(_, errno)| [Errno::ACCESS, Errno::PERM, Errno::ROFS].contains(errno))
}
