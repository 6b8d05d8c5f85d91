//! Where callers connect.

use std::fmt;
use std::future::pending;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use socket2::{Domain, Socket, Type};
use tokio::net;

use super::peer::{LookupError, Peers};
use super::socket::Accepted;
use super::unix::{Bound, Unix};
use crate::config::{Listen, PeerUsers};

/// How many connections may wait to be accepted; the system may allow fewer (`net.core.somaxconn`). What libraries ask for
/// by default overflows in a burst of callers, and each overflow costs somebody a second.
pub(super) const BACKLOG: i32 = 4096;

/// Sockets that are bound and listened on, and that nobody accepts connections from yet.
#[derive(Debug)]
pub struct Listeners {
    tcp: Option<TcpListener>,
    address: Option<SocketAddr>,
    unix: Option<Unix>,
    peers: Peers,
}

/// The same, accepting: in a runtime. Dropped, the socket's path goes before the socket.
#[derive(Debug)]
pub(super) struct Accepting {
    tcp: Option<net::TcpListener>,
    _path: Option<Bound>,
    unix: Option<net::UnixListener>,
}

/// A socket that cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be had.
    #[error("cannot listen on {address}{}", if error.kind() == io::ErrorKind::AddrInUse { " (another program does; choose another port with --listen)" } else { "" })]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// The path cannot be had.
    #[error("cannot listen on unix:{} (listen.unix_socket){}", path.display(), advice(error))]
    Unix {
        /// The path.
        path: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// No system has room for the path.
    #[error("cannot listen on unix:{} (listen.unix_socket): a socket's path has at most 107 bytes (103 on macOS), and this has \
             {length}; choose a shorter one", path.display())]
    UnixTooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// Something else has the path.
    #[error("cannot listen on unix:{0} (listen.unix_socket): {0} exists and is no socket; remove it, or choose another path", path.display())]
    NoSocket {
        /// The path.
        path: PathBuf,
    },
    /// Users cannot be told apart on TCP.
    #[error(
        "access.peer_users cannot be kept here: this system does not say whose a TCP connection is; listen on a Unix socket \
             alone (listen.unix_socket, with listen.address = \"\"), or set access.peer_users = \"any\""
    )]
    Peers {
        /// Why not.
        #[source]
        error: LookupError,
    },
    /// Another program has the path.
    #[error("cannot listen on unix:{} (listen.unix_socket): another program listens there; stop it, or choose another path", path.display())]
    UnixInUse {
        /// The path.
        path: PathBuf,
    },
}

/// What to do about a path that cannot be had.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; its directory must exist",
        io::ErrorKind::PermissionDenied => {
            "; this user must be able to write to its directory, and a socket that is there already must be its own"
        }
        _ => "",
    }
}

impl Listeners {
    /// Binds what the configuration asks for, for `users`.
    ///
    /// # Errors
    ///
    /// The first that cannot be listened on, or on which users cannot be told apart.
    pub fn bind(config: &Listen, users: &PeerUsers) -> Result<Self, ListenError> {
        let tcp =
            config.tcp.map(|address| tcp(address).map_err(|error| ListenError::Tcp { address, error })).transpose()?;
        let (tcp, address) = tcp.unzip();
        let peers = Peers::new(users, address).map_err(|error| ListenError::Peers { error })?;
        let unix = config.unix.as_deref().map(Unix::bind).transpose()?;
        Ok(Self { tcp, address, unix, peers })
    }

    /// Where TCP is listened on: the real port where the configuration leaves it to the system.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The Unix socket's path.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.unix.as_ref().map(|unix| unix.path.path())
    }

    /// Takes the sockets over into the runtime; with who may connect to them.
    pub(super) fn accepting(self) -> io::Result<(Accepting, Peers)> {
        let (path, unix) = self.unix.map(|unix| (unix.path, unix.listener)).unzip();
        let tcp = self.tcp.map(net::TcpListener::from_std).transpose()?;
        let unix = unix.map(net::UnixListener::from_std).transpose()?;
        Ok((Accepting { tcp, _path: path, unix }, self.peers))
    }
}

impl Accepting {
    /// The next connection, of whichever socket: where both have one, neither is preferred.
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        tokio::select! {
            accepted = async {
                match &self.tcp {
                    Some(listener) => listener.accept().await,
                    None => pending().await,
                }
            } => accepted.and_then(|(stream, peer)| Ok(Accepted::Tcp { stream: stream.into_std()?, peer })),
            accepted = async {
                match &self.unix {
                    Some(listener) => listener.accept().await,
                    None => pending().await,
                }
            } => accepted.and_then(|(stream, _)| stream.into_std().map(Accepted::Unix)),
        }
    }
}

/// As a log line names them.
impl fmt::Display for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = self.address {
            address.fmt(f)?;
        }
        let Some(path) = self.path() else { return Ok(()) };
        write!(f, "{}unix:{}", if self.address.is_some() { ", " } else { "" }, path.display())
    }
}

fn tcp(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from(socket);
    let address = listener.local_addr()?;
    Ok((listener, address))
}
