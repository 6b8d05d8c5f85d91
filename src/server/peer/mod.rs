//! Whose process is at the other end of a connection, and whether it may be.

#[cfg_attr(not(target_os = "linux"), path = "nowhere.rs")]
mod diag;

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};

use rustix::process::geteuid;

use super::socket::Stream;
use crate::config::PeerUsers;

use diag::Diag;

/// The user whom every user is shown as that a namespace has no number for, unless the system says otherwise.
const OVERFLOW: u32 = 65534;

/// Who may connect.
#[derive(Debug)]
pub(super) enum Peers {
    /// Everybody: nobody is looked up.
    Any,
    /// These users alone.
    Only {
        /// By number.
        users: Vec<u32>,
        /// The number that says nothing, if there is one here.
        nobody: Option<u32>,
        /// Who is asked about TCP connections, if there are any.
        diag: Option<Diag>,
    },
}

/// A peer that may not connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Denied {
    /// Its user, if that is known.
    pub(super) uid: Option<u32>,
}

/// Who has a connection cannot be found out.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The system cannot be asked.
    #[error("the kernel cannot be asked for the owner of a socket")]
    System(#[from] io::Error),
    /// What was said is no answer to the question.
    #[error("the kernel gave no answer that can be read")]
    Unclear,
    /// The kernel answered for the next best socket, as it does where the one that is meant has gone.
    #[error("the kernel knows no such connection")]
    Gone,
    /// The socket is there, and not, or no longer, connected.
    #[error("the socket is not connected (state {0})")]
    NotConnected(u8),
    /// The socket's process has closed it: the kernel then calls it root's.
    #[error("nobody has the socket any more")]
    Orphan,
    /// It is one of the users that have no number here.
    #[error("the socket's user has no number in this user namespace")]
    Unmapped,
    /// Our own end is dead: what was looked up may be somebody else's new connection.
    #[error("the connection was gone before its owner was known")]
    Broken,
    /// The test connection is said to be somebody else's.
    #[error("the kernel names the user {0}, and it is not us")]
    Wrong(u32),
}

impl Peers {
    /// `users`, some of whom connect to these addresses. Whether they can be told apart there is tried with connections to
    /// ourselves.
    pub(super) fn new(users: &PeerUsers, tcp: &[SocketAddr]) -> Result<Self, LookupError> {
        let users = match users {
            PeerUsers::Any => return Ok(Self::Any),
            PeerUsers::Same => vec![geteuid().as_raw(), 0],
            PeerUsers::Only(users) => users.clone(),
        };
        let nobody = nobody();
        let diag = tcp.iter().map(|address| tried(*address, nobody)).collect::<Result<Vec<_>, _>>()?.pop();
        Ok(Self::Only { users, nobody, diag })
    }

    /// Lets a connection in, or not. Before anything is read from it: reading takes the error away that says that it is
    /// dead.
    pub(super) fn admit(&self, stream: &Stream) -> Result<(), Denied> {
        let Self::Only { users, nobody, diag } = self else { return Ok(()) };
        match owner(stream, diag.as_ref()).and_then(|uid| known(uid, *nobody)) {
            Ok(uid) if users.contains(&uid) => Ok(()),
            Ok(uid) => Err(Denied { uid: Some(uid) }),
            Err(error) => {
                tracing::debug!(error = %crate::error::Causes(&error), "whose connection it is cannot be found out");
                Err(Denied { uid: None })
            }
        }
    }
}

/// A way to ask, once it has named ourselves.
fn tried(address: SocketAddr, nobody: Option<u32>) -> Result<Diag, LookupError> {
    let diag = Diag::open()?;
    let listener = TcpListener::bind((address.ip(), 0))?;
    let caller = TcpStream::connect(listener.local_addr()?)?;
    match known(diag.owner(caller.local_addr()?, caller.peer_addr()?)?, nobody)? {
        uid if uid == geteuid().as_raw() => Ok(diag),
        uid => Err(LookupError::Wrong(uid)),
    }
}

fn owner(stream: &Stream, diag: Option<&Diag>) -> Result<u32, LookupError> {
    match stream {
        Stream::Tcp { stream, peer } => {
            let uid = diag.ok_or(LookupError::Unclear)?.owner(*peer, stream.local_addr()?)?;
            // Afterwards: as long as our end lives, no other connection can have its addresses and ports.
            match stream.take_error()? {
                None => Ok(uid),
                Some(_) => Err(LookupError::Broken),
            }
        }
        // Whoever connected, whoever has the socket now.
        Stream::Unix(stream) => Ok(stream.peer_cred()?.uid()),
    }
}

/// `uid`, unless it is the number that stands for all who have none.
fn known(uid: u32, nobody: Option<u32>) -> Result<u32, LookupError> {
    if Some(uid) == nobody { Err(LookupError::Unmapped) } else { Ok(uid) }
}

/// The number that users are shown as who have none in our user namespace. Where all have one, it is a user like others.
fn nobody() -> Option<u32> {
    if !cfg!(target_os = "linux") || fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| maps_everybody(&map)) {
        return None;
    }
    let overflow = fs::read_to_string("/proc/sys/kernel/overflowuid").ok().and_then(|text| text.trim().parse().ok());
    Some(overflow.unwrap_or(OVERFLOW))
}

fn maps_everybody(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_map_has_everybody() {
        assert!(maps_everybody("         0          0 4294967295\n"));
        for map in ["", "0 1000 1\n", "0 100000 65536\n", "0 0 4294967294\n", "0 0 1000\n1000 1000 4294966295\n"] {
            assert!(!maps_everybody(map), "{map}");
        }
    }

    #[test]
    fn the_number_that_stands_for_all_who_have_none_names_nobody() {
        assert_eq!(known(65534, None).expect("a user like others"), 65534);
        assert!(matches!(known(65534, Some(65534)), Err(LookupError::Unmapped)));
        assert_eq!(known(0, Some(65534)).expect("root"), 0);
    }

    #[test]
    fn it_is_found_out_whether_users_can_be_told_apart() {
        for address in ["127.0.0.1:0", "[::1]:0", "127.0.0.2:0"] {
            Peers::new(&PeerUsers::Same, &[address.parse().expect("an address")]).expect("this system can");
        }
    }

    #[test]
    fn the_same_user_is_ours_and_root() {
        let Peers::Only { users, .. } = Peers::new(&PeerUsers::Same, &[]).expect("peers") else {
            panic!("nobody else")
        };
        assert_eq!(users, [geteuid().as_raw(), 0]);
        let Peers::Only { users, .. } = Peers::new(&PeerUsers::Only(vec![7]), &[]).expect("peers") else {
            panic!("nobody else")
        };
        assert_eq!(users, [7], "root has to be named");
    }
}
