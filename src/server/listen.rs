//! Where callers connect.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::task::{Context, Poll, ready};

use socket2::{Domain, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::peer::{LookupError, Peers};
use super::socket::Accepted;
use super::unix::{Bound, Unix};
use crate::config::{Admin, Listen, PeerUsers};
use crate::systemd::Socket as Handed;

/// How many connections may wait to be accepted; the system may allow fewer (`net.core.somaxconn`). What libraries ask for
/// by default overflows in a burst of callers, and each overflow costs somebody a second.
pub(super) const BACKLOG: i32 = 4096;

/// Sockets that are bound and listened on, and that nobody accepts connections from yet.
#[derive(Debug)]
pub struct Listeners {
    tcp: Vec<(TcpListener, SocketAddr)>,
    unix: Vec<Unix>,
    peers: Peers,
}

/// The same, accepting: in a runtime. Dropped, a socket's path goes before the socket.
#[derive(Debug)]
pub(super) struct Accepting {
    _paths: Vec<Bound>,
    sockets: Vec<Listening>,
    /// Who is asked first: where several have a connection, none is preferred.
    turn: usize,
}

/// What is accepted goes to another runtime, and should not be in the hands of this one before.
#[derive(Debug)]
enum Listening {
    Tcp(AsyncFd<TcpListener>),
    Unix(AsyncFd<UnixListener>),
}

/// A socket that cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be had.
    #[error("cannot listen on {address}{}", if error.kind() == io::ErrorKind::AddrInUse { *otherwise } else { "" })]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// What to do if another program has it.
        otherwise: &'static str,
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
    /// A socket that was handed over would lend the identity to other machines.
    #[error(
        "the socket {address} that was handed over (LISTEN_FDS) is not on a loopback address: whoever reaches it would speak with \
         the proxy's identity; let it listen on a loopback address, or set listen.allow_remote = true and access.require_key = true \
         (and leave access.peer_users out), or name it admin (FileDescriptorName=admin) if it is for probes"
    )]
    Remote {
        /// Its address.
        address: SocketAddr,
    },
    /// Another program has the path.
    #[error("cannot listen on unix:{} (listen.unix_socket): another program listens there; stop it, or choose another path", path.display())]
    UnixInUse {
        /// The path.
        path: PathBuf,
    },
}

const TAKEN: &str = " (another program does; choose another port with --listen)";
const TAKEN_FROM_ADMIN: &str = " (another program does; choose another port for admin.address)";

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
        let failed = |address| move |error| ListenError::Tcp { address, otherwise: TAKEN, error };
        let tcp: Vec<_> =
            config.tcp.iter().map(|address| tcp(*address).map_err(failed(*address))).collect::<Result<_, _>>()?;
        let peers = Self::told_apart(users, &tcp)?;
        let unix = config.unix.iter().map(|path| Unix::bind(path)).collect::<Result<_, _>>()?;
        Ok(Self { tcp, unix, peers })
    }

    /// Binds what probes ask. Everybody may: the kubelet is no user of this machine, and its probes must not fail because
    /// callers are told apart.
    ///
    /// # Errors
    ///
    /// If it cannot be listened on.
    pub fn for_admin(Admin { address, .. }: Admin) -> Result<Self, ListenError> {
        let listener =
            tcp(address).map_err(|error| ListenError::Tcp { address, otherwise: TAKEN_FROM_ADMIN, error })?;
        Ok(Self { tcp: vec![listener], unix: Vec::new(), peers: Peers::Any })
    }

    /// Takes over sockets that callers connect to and others have bound, under the conditions of `config`, for `users`.
    ///
    /// # Errors
    ///
    /// If one can be reached from other machines and `config` does not say that it may, or users cannot be told apart.
    pub fn handed(sockets: Vec<Handed>, config: &Listen, users: &PeerUsers) -> Result<Self, ListenError> {
        let mut listeners = Self::handed_for_admin(sockets);
        for socket in listeners.unix.iter().filter(|socket| *users == PeerUsers::Any && socket.is_for_all()) {
            tracing::warn!(
                socket = %socket.path.display(),
                "every user of this machine may connect to the socket that was handed over, and speaks with the proxy's identity; \
                 give it a mode (SocketMode=0600), or say in access.peer_users who may",
            );
        }
        let remote = listeners.tcp.iter().map(|(_, address)| *address).find(|address| !address.ip().is_loopback());
        if let Some(address) = remote.filter(|_| !config.may_be_remote || *users != PeerUsers::Any) {
            return Err(ListenError::Remote { address });
        }
        listeners.peers = Self::told_apart(users, &listeners.tcp)?;
        Ok(listeners)
    }

    /// Takes over sockets that probes ask and others have bound.
    #[must_use]
    pub fn handed_for_admin(sockets: Vec<Handed>) -> Self {
        let (mut tcp, mut unix) = (Vec::new(), Vec::new());
        for socket in sockets {
            match socket {
                Handed::Tcp(listener, address) => tcp.push((listener, address)),
                Handed::Unix(listener) => unix.push(Unix::handed(listener)),
            }
        }
        Self { tcp, unix, peers: Peers::Any }
    }

    fn told_apart(users: &PeerUsers, tcp: &[(TcpListener, SocketAddr)]) -> Result<Peers, ListenError> {
        let addresses: Vec<_> = tcp.iter().map(|(_, address)| *address).collect();
        Peers::new(users, &addresses).map_err(|error| ListenError::Peers { error })
    }

    /// Where TCP is listened on, first of all: the real port where the configuration leaves it to the system.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.first().map(|(_, address)| *address)
    }

    /// What people may put into a client: `http://127.0.0.1:8642`, `unix:/run/proxy.sock`.
    pub fn urls(&self) -> impl Iterator<Item = String> {
        let tcp = self.tcp.iter().map(|(_, address)| format!("http://{address}"));
        tcp.chain(self.unix.iter().map(|unix| format!("unix:{}", unix.path.display())))
    }

    /// Takes the sockets over into the runtime; with who may connect to them.
    pub(super) fn accepting(self) -> io::Result<(Accepting, Peers)> {
        let (mut paths, mut sockets) = (Vec::new(), Vec::new());
        for (listener, _) in self.tcp {
            sockets.push(Listening::Tcp(watched(listener)?));
        }
        for Unix { bound, listener, .. } in self.unix {
            paths.extend(bound);
            sockets.push(Listening::Unix(watched(listener)?));
        }
        Ok((Accepting { _paths: paths, sockets, turn: 0 }, self.peers))
    }
}

impl Accepting {
    /// The next connection, of whichever socket.
    pub(super) async fn accept(&mut self) -> io::Result<Accepted> {
        let (sockets, first) = (&self.sockets, self.turn);
        self.turn = self.turn.wrapping_add(1);
        poll_fn(|cx| {
            let from_first = (0..sockets.len()).filter_map(|step| sockets.get((first + step) % sockets.len()));
            for socket in from_first {
                if let Poll::Ready(accepted) = socket.poll_accept(cx) {
                    return Poll::Ready(accepted);
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl Listening {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        match self {
            Self::Tcp(listener) => poll_accept(listener, cx, Accepted::tcp),
            Self::Unix(listener) => poll_accept(listener, cx, Accepted::unix),
        }
    }
}

#[expect(deprecated, reason = "unsound for what closes or changes its descriptor meanwhile, which a listener does not")]
fn watched<L: AsRawFd>(listener: L) -> io::Result<AsyncFd<L>> {
    AsyncFd::new(listener)
}

fn poll_accept<L: AsRawFd>(
    listener: &AsyncFd<L>,
    cx: &mut Context<'_>,
    accept: impl Fn(&L) -> io::Result<Accepted>,
) -> Poll<io::Result<Accepted>> {
    loop {
        let mut ready = ready!(listener.poll_read_ready(cx))?;
        // An error: there is none after all.
        if let Ok(accepted) = ready.try_io(|listener| accept(listener.get_ref())) {
            return Poll::Ready(accepted);
        }
    }
}

/// As a log line names them.
impl fmt::Display for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tcp = self.tcp.iter().map(|(_, address)| address.to_string());
        let names = tcp.chain(self.unix.iter().map(|unix| format!("unix:{}", unix.path.display())));
        f.write_str(&names.collect::<Vec<_>>().join(", "))
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

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn handed(listener: TcpListener, address: SocketAddr) -> Listeners {
        Listeners::handed_for_admin(vec![Handed::Tcp(listener, address)])
    }

    /// A caller who starts the service by connecting is there before anything can be said of the socket.
    #[tokio::test]
    async fn what_is_written_to_callers_who_came_early_leaves_at_once() {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let (listener, address) = tcp(loopback).expect("a socket");
        let early = TcpStream::connect(address).expect("a connection");
        let (mut accepting, _) = handed(listener, address).accepting().expect("a runtime");
        let late = TcpStream::connect(address).expect("a connection");
        for caller in [early, late] {
            let Accepted::Tcp { stream, peer } = accepting.accept().await.expect("a caller") else {
                panic!("not a TCP connection");
            };
            assert_eq!(peer, caller.local_addr().expect("its address"));
            assert!(stream.nodelay().expect("an option"), "{peer}");
        }
    }
}
