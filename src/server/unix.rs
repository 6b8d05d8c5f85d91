//! A Unix socket to listen on: whose it is, who may open it, and when its path is free.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use rustix::io::Errno;
use rustix::net::{SocketAddrUnix, bind, connect};
use rustix::process::geteuid;
use socket2::{Domain, Socket, Type};

use super::listen::{BACKLOG, ListenError};

/// Our user alone may connect, and root.
const MODE: u32 = 0o600;
/// Whoever may write to a socket may connect to it (unix(7)).
const OTHERS_WRITE: u32 = 0o002;
/// How often to try for the directory's lock: whoever has it is done in a moment…
const TRIES: u32 = 50;
/// …and how long to wait in between.
const BETWEEN_TRIES: Duration = Duration::from_millis(10);

/// A socket that is listened on. Its path goes first when it is dropped: as long as the path is there, somebody listens,
/// and nobody else has a reason to take it.
#[derive(Debug)]
pub(super) struct Unix {
    pub(super) path: PathBuf,
    /// Of a socket of ours; whoever hands one over keeps its path.
    pub(super) bound: Option<Bound>,
    pub(super) listener: UnixListener,
}

/// A path that a socket of ours is bound to; dropped, it is removed.
#[derive(Debug)]
pub(super) struct Bound {
    path: PathBuf,
    /// Device and inode.
    is: (u64, u64),
}

impl Unix {
    pub(super) fn bind(path: &Path) -> Result<Self, ListenError> {
        let address = address(path)?;
        let failed = |error| ListenError::Unix { path: path.to_owned(), error };
        // Two programs that find the same stale socket must not both replace it.
        let _lock = lock(directory(path));
        make_way(path, &address)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        // On Linux the path gets this mode with its first breath. Elsewhere it has it before anybody can connect.
        let _ = fchmod(&socket, Mode::from_raw_mode(MODE as _));
        bind(&socket, &address).map_err(|errno| match errno {
            Errno::ADDRINUSE => ListenError::UnixInUse { path: path.to_owned() },
            errno => failed(errno.into()),
        })?;
        let bound = Bound::new(path).map_err(failed)?;
        if fs::symlink_metadata(path).map_err(failed)?.permissions().mode() & 0o777 != MODE {
            fs::set_permissions(path, fs::Permissions::from_mode(MODE)).map_err(failed)?;
        }
        // Before this nobody can connect.
        socket.listen(BACKLOG).map_err(failed)?;
        if let Some(reason) = is_replaceable(directory(path)) {
            tracing::warn!(
                socket = %path.display(),
                reason,
                "other users of this machine could put a socket of their own in the place of ours; choose a directory that \
                 only this user can write to",
            );
        }
        Ok(Self { path: path.to_owned(), bound: Some(bound), listener: socket.into() })
    }

    /// One that somebody else has bound.
    pub(super) fn handed(listener: UnixListener) -> Self {
        let path = listener.local_addr().ok().and_then(|address| address.as_pathname().map(Path::to_owned));
        Self { path: path.unwrap_or_else(|| PathBuf::from("(no path)")), bound: None, listener }
    }

    /// Whether every user of this machine may connect, as far as the file says: one without a path has no mode.
    pub(super) fn is_for_all(&self) -> bool {
        fs::symlink_metadata(&self.path).map_or(true, |file| file.permissions().mode() & OTHERS_WRITE != 0)
    }
}

impl Bound {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), is: identity(&fs::symlink_metadata(path)?) })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Somebody may have removed it and put something else there.
        let is_ours = fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.is);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, socket = %self.path.display(), "cannot remove our socket");
        }
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn address(path: &Path) -> Result<SocketAddrUnix, ListenError> {
    let failed = |error| ListenError::Unix { path: path.to_owned(), error };
    let bytes = path.as_os_str().as_encoded_bytes();
    // Without a path, or with a null byte in front, it would be a name that has no owner and no mode.
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(failed(io::ErrorKind::InvalidInput.into()));
    }
    // The standard library's limit: what it cannot name, few callers can.
    if SocketAddr::from_pathname(path).is_err() {
        return Err(ListenError::UnixTooLong { path: path.to_owned(), length: bytes.len() });
    }
    SocketAddrUnix::new(path).map_err(|errno| failed(errno.into()))
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Keeps other programs like this one from `directory` until it is dropped. A directory that cannot be locked is no reason
/// not to serve: what the lock prevents is rare.
fn lock(directory: &Path) -> Option<File> {
    let file = File::open(directory).ok()?;
    for _ in 0..TRIES {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(file),
            Err(Errno::WOULDBLOCK) => thread::sleep(BETWEEN_TRIES),
            Err(_) => return None,
        }
    }
    None
}

/// Removes a socket that nobody listens on any more.
fn make_way(path: &Path, address: &SocketAddrUnix) -> Result<(), ListenError> {
    let failed = |error| ListenError::Unix { path: path.to_owned(), error };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(ListenError::NoSocket { path: path.to_owned() }),
        Ok(_) => {}
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    probe.set_nonblocking(true).map_err(failed)?;
    match connect(&probe, address) {
        // More wait to be accepted than may: somebody listens, if slowly.
        Ok(()) | Err(Errno::AGAIN) => Err(ListenError::UnixInUse { path: path.to_owned() }),
        Err(Errno::CONNREFUSED) => fs::remove_file(path).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(failed(error)),
        }),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// Why others could replace what is in `directory`, if they could.
fn is_replaceable(directory: &Path) -> Option<&'static str> {
    const STICKY: u32 = 0o1000;
    let found = fs::metadata(directory).ok()?;
    if ![0, geteuid().as_raw()].contains(&found.uid()) {
        return Some("its directory belongs to another user");
    }
    (found.mode() & 0o022 != 0 && found.mode() & STICKY == 0).then_some("other users can write to its directory")
}
