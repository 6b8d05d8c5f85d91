//! Where callers connect.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

use crate::config::Listen;

/// How many connections may wait to be accepted; the system may allow fewer (`net.core.somaxconn`). What libraries ask for
/// by default overflows in a burst of callers, and each overflow costs somebody a second.
const BACKLOG: i32 = 4096;

/// Sockets that are bound and listened on, and that nobody accepts connections from yet.
#[derive(Debug)]
pub struct Listeners {
    pub(super) tcp: Option<TcpListener>,
    address: Option<SocketAddr>,
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
}

impl Listeners {
    /// Binds what the configuration asks for.
    ///
    /// # Errors
    ///
    /// The first that cannot be listened on.
    pub fn bind(config: &Listen) -> Result<Self, ListenError> {
        let tcp =
            config.tcp.map(|address| tcp(address).map_err(|error| ListenError::Tcp { address, error })).transpose()?;
        let (tcp, address) = tcp.unzip();
        Ok(Self { tcp, address })
    }

    /// Where TCP is listened on: the real port where the configuration leaves it to the system.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }
}

/// As a log line names them.
impl fmt::Display for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.map_or(Ok(()), |address| address.fmt(f))
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
