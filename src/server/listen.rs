//! Where callers connect.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::task::{Context, Poll};

use rustix::net::sockopt::set_socket_reuseport;
use socket2::{Domain, SockRef, Socket as RawSocket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::peer::{LookupError, Peers};
use super::socket::Accepted;
use super::unix::{Bound, Unix};
use crate::config::{Admin, Listen, PeerUsers};
use crate::systemd::Socket as Handed;
use crate::workers;

/// How many connections may wait to be accepted; the system may allow fewer (`net.core.somaxconn`). What libraries ask for
/// by default overflows in a burst of callers, and each overflow costs somebody a second.
pub(super) const BACKLOG: i32 = 4096;

/// Sockets that are bound and listened on, and that nobody accepts connections from yet.
#[derive(Debug)]
pub struct Listeners {
    tcp: Vec<Tcp>,
    unix: Vec<Unix>,
    peers: Peers,
}

/// An address, and all sockets that listen there: the system spreads callers over them.
#[derive(Debug)]
struct Tcp {
    address: SocketAddr,
    sockets: Vec<TcpListener>,
}

/// What one worker accepts from. Dropped, a socket's path goes before the socket.
#[derive(Debug, Default)]
pub(super) struct Share {
    paths: Vec<Bound>,
    sockets: Vec<Socket>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The same, in a runtime.
#[derive(Debug)]
pub(super) struct Accepting {
    _paths: Vec<Bound>,
    sockets: Vec<Listening>,
    /// Who is asked first: where several have a connection, none is preferred.
    turn: usize,
}

/// What is accepted may go to another runtime, and should not be in the hands of this one before.
#[derive(Debug)]
pub(super) enum Listening {
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
            config.tcp.iter().map(|address| Tcp::bind(*address).map_err(failed(*address))).collect::<Result<_, _>>()?;
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
            Tcp::alone(address).map_err(|error| ListenError::Tcp { address, otherwise: TAKEN_FROM_ADMIN, error })?;
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
        let remote = listeners.tcp.iter().map(|tcp| tcp.address).find(|address| !address.ip().is_loopback());
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
                Handed::Tcp(listener, address) => tcp.push(Tcp { address, sockets: vec![listener] }),
                Handed::Unix(listener) => unix.push(Unix::handed(listener)),
            }
        }
        Self { tcp, unix, peers: Peers::Any }
    }

    fn told_apart(users: &PeerUsers, tcp: &[Tcp]) -> Result<Peers, ListenError> {
        let addresses: Vec<_> = tcp.iter().map(|tcp| tcp.address).collect();
        Peers::new(users, &addresses).map_err(|error| ListenError::Peers { error })
    }

    /// Where TCP is listened on, first of all: the real port where the configuration leaves it to the system.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.first().map(|tcp| tcp.address)
    }

    /// What people may put into a client: `http://127.0.0.1:8642`, `unix:/run/proxy.sock`.
    pub fn urls(&self) -> impl Iterator<Item = String> {
        let tcp = self.tcp.iter().map(|tcp| format!("http://{}", tcp.address));
        tcp.chain(self.unix.iter().map(|unix| format!("unix:{}", unix.path.display())))
    }

    /// Deals the sockets out to `workers`, of which there is one at least; with who may connect to them.
    pub(super) fn shares(self, workers: usize) -> io::Result<(Vec<Share>, Peers)> {
        let mut shares: Vec<_> = (0..workers.max(1)).map(|_| Share::default()).collect();
        let mut turn = 0;
        let mut deal = |socket, path| {
            let length = shares.len();
            if let Some(share) = shares.get_mut(turn % length) {
                share.sockets.push(socket);
                share.paths.extend(path);
            }
            turn += 1;
        };
        for listener in self.tcp.into_iter().flat_map(|tcp| tcp.sockets) {
            // Small events of a stream leave at once. Connections have it of their listener.
            SockRef::from(&listener).set_tcp_nodelay(true)?;
            deal(Socket::Tcp(listener), None);
        }
        for Unix { bound, listener, .. } in self.unix {
            deal(Socket::Unix(listener), bound);
        }
        Ok((shares, self.peers))
    }
}

impl Tcp {
    /// A socket for each worker, where the system can spread callers over several.
    fn bind(address: SocketAddr) -> io::Result<Self> {
        let mut tcp = Self::alone(address)?;
        if cfg!(target_os = "linux") {
            tcp.join(workers::count());
        }
        Ok(tcp)
    }

    /// One socket. Nobody else has the address, nor another program of this user.
    fn alone(address: SocketAddr) -> io::Result<Self> {
        let socket = new_socket(address)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        let address = listener.local_addr()?;
        Ok(Self { address, sockets: vec![listener] })
    }

    /// Has more sockets join the first, up to `count` together, as far as the system lets them: with fewer of them all callers
    /// are answered, too. Only now is the first one told that others may have its address: another program like this one, which
    /// tries for it alone, finds it taken.
    fn join(&mut self, count: usize) {
        let joined = || {
            let socket = new_socket(self.address)?;
            set_socket_reuseport(&socket, true)?;
            socket.bind(&self.address.into())?;
            socket.listen(BACKLOG)?;
            Ok(TcpListener::from(socket))
        };
        let all = || -> io::Result<Vec<_>> {
            self.sockets.iter().try_for_each(|first| set_socket_reuseport(first, true))?;
            (self.sockets.len()..count).map(|_| joined()).collect()
        };
        match all() {
            Ok(others) => self.sockets.extend(others),
            Err(error) => tracing::debug!(%error, address = %self.address, "one socket accepts all connections"),
        }
    }
}

fn new_socket(address: SocketAddr) -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Share {
    /// Whether there is nothing to accept from.
    pub(super) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Takes the sockets over into the runtime.
    pub(super) fn accepting(self) -> io::Result<Accepting> {
        let sockets = self.sockets.into_iter().map(Listening::new).collect::<io::Result<_>>()?;
        Ok(Accepting { _paths: self.paths, sockets, turn: 0 })
    }
}

impl Accepting {
    /// Completes once somebody may be waiting to be accepted, at the socket that is returned.
    pub(super) async fn knock(&mut self) -> io::Result<&Listening> {
        let (sockets, first) = (&self.sockets, self.turn);
        self.turn = self.turn.wrapping_add(1);
        poll_fn(|cx| {
            let from_first = (0..sockets.len()).filter_map(|step| sockets.get((first + step) % sockets.len()));
            for socket in from_first {
                if let Poll::Ready(knocked) = socket.poll_ready(cx) {
                    return Poll::Ready(knocked.map(|()| socket));
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl Listening {
    #[expect(
        deprecated,
        reason = "unsound for what closes or changes its descriptor meanwhile, which a listener does not"
    )]
    fn new(socket: Socket) -> io::Result<Self> {
        match socket {
            Socket::Tcp(listener) => AsyncFd::new(listener).map(Self::Tcp),
            Socket::Unix(listener) => AsyncFd::new(listener).map(Self::Unix),
        }
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(listener) => listener.poll_read_ready(cx).map_ok(drop),
            Self::Unix(listener) => listener.poll_read_ready(cx).map_ok(drop),
        }
    }

    /// The next connection, if there is one: where there is none, this fails with [`io::ErrorKind::WouldBlock`].
    pub(super) fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => listener.try_io(Interest::READABLE, Accepted::tcp),
            Self::Unix(listener) => listener.try_io(Interest::READABLE, Accepted::unix),
        }
    }
}

/// As a log line names them.
impl fmt::Display for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tcp = self.tcp.iter().map(|tcp| tcp.address.to_string());
        let names = tcp.chain(self.unix.iter().map(|unix| format!("unix:{}", unix.path.display())));
        f.write_str(&names.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn three() -> Tcp {
        let mut tcp = Tcp::alone("127.0.0.1:0".parse().unwrap()).unwrap();
        tcp.join(3);
        assert_eq!(tcp.sockets.len(), 3);
        tcp
    }

    #[test]
    fn an_address_that_sockets_share_is_nobody_elses() {
        let first = three();
        let again = Tcp::bind(first.address).map(drop);
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let address = first.address;
        drop(first);
        assert!(Tcp::bind(address).is_ok(), "it is free again");
    }

    #[test]
    fn callers_are_spread_over_all_sockets() {
        let tcp = three();
        let mut seen = [false; 3];
        let mut callers = Vec::new();
        while seen != [true; 3] {
            callers.push(TcpStream::connect(tcp.address).unwrap());
            assert!(callers.len() < 1000, "{seen:?}");
            let accepted: Vec<_> = tcp.sockets.iter().map(|socket| Accepted::tcp(socket).is_ok()).collect();
            assert_eq!(accepted.iter().filter(|accepted| **accepted).count(), 1, "one has the caller: {accepted:?}");
            seen.iter_mut().zip(accepted).for_each(|(seen, accepted)| *seen |= accepted);
        }
    }

    #[test]
    fn sockets_are_dealt_out_to_all_workers() {
        let listeners = |tcp| Listeners { tcp, unix: Vec::new(), peers: Peers::Any };
        let dealt = |listeners: Listeners, workers| {
            let (shares, _) = listeners.shares(workers).unwrap();
            shares.iter().map(|share| share.sockets.len()).collect::<Vec<_>>()
        };
        assert_eq!(dealt(listeners(vec![three()]), 3), [1, 1, 1]);
        assert_eq!(dealt(listeners(vec![three(), three()]), 2), [3, 3]);
        assert_eq!(dealt(listeners(vec![Tcp::alone("127.0.0.1:0".parse().unwrap()).unwrap()]), 2), [1, 0]);
        assert_eq!(dealt(listeners(vec![three()]), 0), [3], "whoever asks does everything");
    }
}
