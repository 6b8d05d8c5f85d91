//! Sockets that somebody else has bound and handed over (`sd_listen_fds(3)`), so that nobody is refused while the program is
//! away.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

use crate::config::Environment;

/// The first descriptor that is handed over.
const FIRST: usize = 3;
/// More than anybody has sockets.
const MOST: usize = 256;
/// Where probes are answered, as `FileDescriptorName=` says it.
const ADMIN: &str = "admin";

/// A socket that is listened on.
#[derive(Debug)]
pub enum Socket {
    /// TCP, and its address.
    Tcp(TcpListener, SocketAddr),
    /// A Unix socket.
    Unix(UnixListener),
}

/// What was handed over: mostly nothing.
#[derive(Debug, Default)]
pub struct Handed {
    /// Where callers connect.
    pub callers: Vec<Socket>,
    /// Where probes do.
    pub admin: Vec<Socket>,
}

/// What was handed over cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum HandedError {
    /// It is not said how many there are.
    #[error("LISTEN_FDS={0:?}: expected how many sockets are handed over, at most {MOST}")]
    Count(String),
    /// It is something else.
    #[error(
        "descriptor {descriptor} that was handed over (LISTEN_FDS{}) is no stream socket, TCP or Unix, that is listened on \
         (ListenStream=, with Accept=no)",
        Named(name)
    )]
    NoListener {
        /// Its number.
        descriptor: usize,
        /// Its name, if it has one.
        name: String,
    },
    /// The system does not let it be used.
    #[error("descriptor {descriptor} that was handed over (LISTEN_FDS) cannot be used")]
    Unusable {
        /// Its number.
        descriptor: usize,
        /// Why not.
        #[source]
        error: io::Error,
    },
}

struct Named<'a>(&'a str);

impl std::fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ", {:?}", self.0) }
    }
}

impl Handed {
    /// Takes what was handed over to this process; what was meant for another is left alone. To be called once, and before there
    /// are threads: the library takes variables out of the environment.
    ///
    /// # Errors
    ///
    /// If that is no socket that can be served.
    pub fn take(environment: &Environment) -> Result<Self, HandedError> {
        let mut handed = Self::default();
        let is_ours = environment.get("LISTEN_PID").is_some_and(|pid| pid == std::process::id().to_string());
        let Some(count) = environment.get("LISTEN_FDS").filter(|_| is_ours) else { return Ok(handed) };
        let count =
            count.parse().ok().filter(|count| *count <= MOST).ok_or_else(|| HandedError::Count(count.to_owned()))?;
        let mut names = environment.get("LISTEN_FDNAMES").unwrap_or_default().split(':');
        let mut descriptors = ListenFd::from_env();
        for index in 0..count {
            let name = names.next().unwrap_or_default();
            let socket = socket(&mut descriptors, index, name)?;
            if name == ADMIN { handed.admin.push(socket) } else { handed.callers.push(socket) }
        }
        Ok(handed)
    }
}

/// The library sees to it that it is a socket, of the right kind, that no program inherits.
fn socket(descriptors: &mut ListenFd, index: usize, name: &str) -> Result<Socket, HandedError> {
    let descriptor = FIRST + index;
    let other = || HandedError::NoListener { descriptor, name: name.to_owned() };
    let unusable = |error| HandedError::Unusable { descriptor, error };
    if let Ok(Some(listener)) = descriptors.take_tcp_listener(index) {
        is_listened_on(&listener).then_some(()).ok_or_else(other)?;
        listener.set_nonblocking(true).map_err(unusable)?;
        let address = listener.local_addr().map_err(unusable)?;
        return Ok(Socket::Tcp(listener, address));
    }
    let Ok(Some(listener)) = descriptors.take_unix_listener(index) else { return Err(other()) };
    is_listened_on(&listener).then_some(()).ok_or_else(other)?;
    listener.set_nonblocking(true).map_err(unusable)?;
    Ok(Socket::Unix(listener))
}

/// A system that does not say is believed.
fn is_listened_on(socket: &impl AsFd) -> bool {
    socket_acceptconn(socket).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(variables: &[(&str, &str)]) -> Result<Handed, HandedError> {
        Handed::take(&variables.iter().copied().collect())
    }

    #[test]
    fn what_is_meant_for_others_is_left_alone() {
        for variables in [
            &[][..],
            &[("LISTEN_FDS", "1")],
            &[("LISTEN_FDS", "1"), ("LISTEN_PID", "1")],
            &[("LISTEN_FDS", "many"), ("LISTEN_PID", "nobody")],
        ] {
            let handed = taken(variables).expect("nothing");
            assert!(handed.callers.is_empty() && handed.admin.is_empty(), "{variables:?}");
        }
    }

    #[test]
    fn how_many_there_are_is_a_number_that_can_be() {
        let us = std::process::id().to_string();
        for count in ["many", "-1", "257", "99999999999999999999"] {
            let error = taken(&[("LISTEN_FDS", count), ("LISTEN_PID", &us)]).expect_err("no number");
            assert!(error.to_string().contains(count), "{error}");
        }
    }
}
