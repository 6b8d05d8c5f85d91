//! Linux's word on whose a TCP socket of this machine is: `sock_diag(7)`, asked for one socket and believed for no other.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recvfrom, sendto, socket_with};

use super::LookupError;

/// A netlink message's head, `struct nlmsghdr`.
const HEAD: usize = 16;
/// `struct inet_diag_req_v2`.
const QUESTION: usize = 56;
/// `struct inet_diag_msg`.
const ANSWER: usize = 72;
/// Room for an answer with attributes that nobody asked for; what is longer is cut off.
const ROOM: usize = 1024;

/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST`; without `NLM_F_DUMP`, one socket is asked for.
const REQUEST: u16 = 1;

const INET: u8 = 2;
const INET6: u8 = 10;
const TCP: u8 = 6;
/// `INET_DIAG_NOCOOKIE`.
const NO_COOKIE: u32 = u32::MAX;

/// The states of a socket whose process has it open, and that is, or was a moment ago, connected: `TCP_ESTABLISHED`,
/// `TCP_FIN_WAIT1`, `TCP_FIN_WAIT2`. Our end has not closed: there are no others. Those that are being connected are another
/// connection than the one that we have.
const CONNECTED: [u8; 3] = [1, 4, 5];

/// A way to ask the kernel. Kept open: whoever may connect must not be taken for nobody because files have run out.
#[derive(Debug)]
pub(in crate::server) struct Diag(Mutex<OwnedFd>);

impl Diag {
    pub(super) fn open() -> Result<Self, LookupError> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(SOCK_DIAG));
        Ok(Self(Mutex::new(socket.map_err(io::Error::from)?)))
    }

    /// The user that has the socket which is bound to `caller` and connected to `ours`.
    pub(super) fn owner(&self, caller: SocketAddr, ours: SocketAddr) -> Result<u32, LookupError> {
        let sequence = fastrand::u32(..);
        let question = question(caller, ours, sequence);
        let kernel = SocketAddrNetlink::new(0, 0);
        let mut buffer = [0; ROOM];
        // One question at a time. A panic elsewhere leaves nothing half done in here.
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sendto(&*socket, &question, SendFlags::empty(), &kernel).map_err(io::Error::from)?;
        loop {
            // The kernel has answered when the question is sent; what is not there then will not come.
            let (length, _, from) = recvfrom(&*socket, &mut buffer[..], RecvFlags::empty()).map_err(io::Error::from)?;
            let message = buffer.get(..length).unwrap_or_default();
            let is_kernels =
                from.and_then(|from| SocketAddrNetlink::try_from(from).ok()).is_some_and(|from| from.pid() == 0);
            // Others may write to the socket, and an answer may have been left behind.
            if is_kernels && Fields(message).u32(8)? == sequence {
                return read(message, caller, ours);
            }
        }
    }
}

fn question(caller: SocketAddr, ours: SocketAddr, sequence: u32) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEAD + QUESTION);
    message.extend(u32::try_from(HEAD + QUESTION).unwrap_or_default().to_ne_bytes());
    message.extend(BY_FAMILY.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());

    let family = if caller.ip().to_canonical().is_ipv4() { INET } else { INET6 };
    // No attributes, and every state: what is found instead must be recognised, not taken for nothing.
    message.extend([family, TCP, 0, 0]);
    message.extend(u32::MAX.to_ne_bytes());
    message.extend(caller.port().to_be_bytes());
    message.extend(ours.port().to_be_bytes());
    message.extend(octets(caller.ip()));
    message.extend(octets(ours.ip()));
    // Any interface, any cookie.
    message.extend(0_u32.to_ne_bytes());
    message.extend([NO_COOKIE.to_ne_bytes(); 2].as_flattened());
    message
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// What the kernel says, if it is about the socket that was asked for.
fn read(message: &[u8], caller: SocketAddr, ours: SocketAddr) -> Result<u32, LookupError> {
    let head = Fields(message);
    match head.u16(4)? {
        BY_FAMILY => {}
        ERROR => {
            let errno = i32::from_ne_bytes(head.array(HEAD)?);
            return Err(LookupError::System(io::Error::from_raw_os_error(errno.saturating_neg())));
        }
        _ => return Err(LookupError::Unclear),
    }
    let length = usize::try_from(head.u32(0)?).map_err(|_| LookupError::Unclear)?;
    if length > message.len() || length < HEAD + ANSWER {
        return Err(LookupError::Unclear);
    }
    let fields = Fields(&message[HEAD..length]);
    let family = fields.u8(0)?;
    let found = (fields.address(family, 8, 4)?, fields.address(family, 24, 6)?);
    if found != (plain(caller), plain(ours)) {
        return Err(LookupError::Gone);
    }
    let state = fields.u8(1)?;
    if !CONNECTED.contains(&state) {
        return Err(LookupError::NotConnected(state));
    }
    // Without an inode, the user's number is nought and means nothing.
    if fields.u32(68)? == 0 {
        return Err(LookupError::Orphan);
    }
    fields.u32(64)
}

/// Without what a caller's socket does not share with our name for it: an IPv4 address may be written as an IPv6 one.
fn plain(address: SocketAddr) -> (IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}

/// A C structure, field by field.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], LookupError> {
        let bytes = self.0.get(at..at + N).ok_or(LookupError::Unclear)?;
        bytes.try_into().map_err(|_| LookupError::Unclear)
    }

    fn u8(&self, at: usize) -> Result<u8, LookupError> {
        self.array(at).map(u8::from_ne_bytes)
    }

    fn u16(&self, at: usize) -> Result<u16, LookupError> {
        self.array(at).map(u16::from_ne_bytes)
    }

    fn u32(&self, at: usize) -> Result<u32, LookupError> {
        self.array(at).map(u32::from_ne_bytes)
    }

    /// The address at `at` and the port at `port`. A socket of IPv6 may be one end of an IPv4 connection.
    fn address(&self, family: u8, at: usize, port: usize) -> Result<(IpAddr, u16), LookupError> {
        let address = match family {
            INET => IpAddr::V4(Ipv4Addr::from(self.array::<4>(at)?)),
            INET6 => IpAddr::V6(Ipv6Addr::from(self.array::<16>(at)?)).to_canonical(),
            _ => return Err(LookupError::Unclear),
        };
        Ok((address, self.array(port).map(u16::from_be_bytes)?))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::time::Instant;

    use rustix::process::geteuid;
    use socket2::{Domain, SockRef, Socket, Type};

    use super::*;

    fn connected(address: &str) -> (TcpListener, TcpStream, TcpStream) {
        let listener = TcpListener::bind(address).expect("a socket");
        let caller = TcpStream::connect(listener.local_addr().expect("its address")).expect("a connection");
        let (ours, _) = listener.accept().expect("a caller");
        (listener, caller, ours)
    }

    fn owner(caller: SocketAddr, ours: SocketAddr) -> Result<u32, LookupError> {
        Diag::open().expect("a socket").owner(caller, ours)
    }

    fn ask(ours: &TcpStream) -> Result<u32, LookupError> {
        owner(ours.peer_addr().expect("an address"), ours.local_addr().expect("an address"))
    }

    #[test]
    fn a_connection_is_its_callers() {
        for address in ["127.0.0.1:0", "127.7.7.7:0", "[::1]:0"] {
            let (_listener, caller, ours) = connected(address);
            assert_eq!(ask(&ours).expect("a user"), geteuid().as_raw(), "{address}");
            // One that has said all it has to say still waits for its answer.
            caller.shutdown(Shutdown::Write).expect("an end");
            assert_eq!(ask(&ours).expect("a user"), geteuid().as_raw(), "{address}");
        }
    }

    #[test]
    fn an_ipv6_socket_may_be_an_ipv4_caller() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let port = listener.local_addr().expect("its address").port();
        let mapped = SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), port));
        let caller = Socket::new(Domain::IPV6, Type::STREAM, None).expect("a socket");
        caller.set_only_v6(false).expect("an option");
        caller.connect(&mapped.into()).expect("a connection");
        let (ours, _) = listener.accept().expect("a caller");
        assert_eq!(ask(&ours).expect("a user"), geteuid().as_raw());
        // And our own name for it may be written either way.
        let peer = ours.peer_addr().expect("an address");
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), peer.port()));
        assert_eq!(owner(peer, mapped).expect("a user"), geteuid().as_raw());
    }

    #[test]
    fn whoever_has_closed_its_socket_is_nobody() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (_listener, mut caller, mut ours) = connected(address);
            caller.write_all(b"a request").expect("writing");
            drop(caller);
            let unknown = ask(&ours).expect_err("the kernel says root");
            assert!(matches!(unknown, LookupError::Orphan), "{unknown}");
            // Also once our end has closed, and only the kernel remembers.
            ours.read_to_end(&mut Vec::new()).expect("reading");
            let (caller, ours_at) = (ours.peer_addr().expect("an address"), ours.local_addr().expect("an address"));
            drop(ours);
            let unknown = owner(caller, ours_at).expect_err("nobody");
            assert!(
                matches!(
                    unknown,
                    LookupError::NotConnected(_) | LookupError::Orphan | LookupError::Gone | LookupError::System(_)
                ),
                "{unknown}"
            );
        }
    }

    #[test]
    fn what_listens_at_the_callers_address_is_not_the_caller() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // A connection that is gone without a trace, and a listener where it came from: the kernel's next best socket.
            // Its port may be taken by others at once: then once more.
            let (was, here, ours, _next) = loop {
                let (_listener, caller, ours) = connected(address);
                let (was, here) = (caller.local_addr().expect("an address"), ours.local_addr().expect("an address"));
                SockRef::from(&caller).set_linger(Some(std::time::Duration::ZERO)).expect("an option");
                drop(caller);
                if let Ok(next) = TcpListener::bind(was) {
                    break (was, here, ours, next);
                }
            };
            assert!(ours.take_error().expect("an option").is_some(), "our own end knows");
            let unknown = owner(was, here).expect_err("a listener");
            assert!(matches!(unknown, LookupError::Gone), "{unknown}");
        }
    }

    #[test]
    fn an_answer_that_was_left_behind_is_passed_over() {
        let (_listener, _caller, ours) = connected("127.0.0.1:0");
        let (caller, here) = (ours.peer_addr().expect("an address"), ours.local_addr().expect("an address"));
        let diag = Diag::open().expect("a socket");
        let nowhere = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 99), 1));
        sendto(
            &*diag.0.lock().expect("a socket"),
            &question(nowhere, here, 7),
            SendFlags::empty(),
            &SocketAddrNetlink::new(0, 0),
        )
        .expect("a question");
        assert_eq!(diag.owner(caller, here).expect("a user"), geteuid().as_raw());
        assert!(matches!(diag.owner(nowhere, here), Err(LookupError::System(_))));
    }

    #[test]
    fn a_socket_that_does_not_exist_has_no_owner() {
        let (listener, _caller, ours) = connected("127.0.0.1:0");
        let here = ours.local_addr().expect("an address");
        drop(listener);
        let nowhere = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 99), 1));
        let unknown = owner(nowhere, here).expect_err("nobody");
        assert!(matches!(unknown, LookupError::System(_)), "{unknown}");
    }

    /// An answer, as the kernel would write it.
    fn answer(family: u8, state: u8, (uid, inode): (u32, u32)) -> Vec<u8> {
        let mut message = question(caller(), ours(), 7);
        message[..4].copy_from_slice(&88_u32.to_ne_bytes());
        message[HEAD..HEAD + 4].copy_from_slice(&[family, state, 0, 0]);
        // Without the states, what follows is the same as in the question.
        message.drain(HEAD + 4..HEAD + 8);
        message.extend([0_u32, 0, 0, uid, inode].map(u32::to_ne_bytes).as_flattened());
        assert_eq!(message.len(), HEAD + ANSWER);
        message
    }

    fn caller() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 50_000))
    }

    fn ours() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 8642))
    }

    #[test]
    fn only_the_answer_to_the_question_counts() {
        let read = |message: &[u8]| read(message, caller(), ours());
        let good = answer(INET, 1, (1000, 5));
        assert_eq!(read(&good).expect("a user"), 1000);
        for state in [4, 5] {
            assert_eq!(read(&answer(INET, state, (1000, 5))).expect("a user"), 1000);
        }
        for state in [0, 2, 3, 6, 7, 8, 9, 10, 11, 12, 255] {
            assert!(matches!(read(&answer(INET, state, (1000, 5))), Err(LookupError::NotConnected(_))), "{state}");
        }
        assert!(matches!(read(&answer(INET, 1, (0, 0))), Err(LookupError::Orphan)));
        for family in [0, 1, INET6] {
            assert!(read(&answer(family, 1, (1000, 5))).is_err(), "{family}");
        }
        for length in 0..good.len() {
            assert!(read(&good[..length]).is_err(), "{length}");
        }
        // The addresses and ports of both, byte by byte.
        for at in (HEAD + 4..HEAD + 12).chain(HEAD + 24..HEAD + 28) {
            let mut other = good.clone();
            other[at] ^= 1;
            assert!(matches!(read(&other), Err(LookupError::Gone)), "{at}");
        }
        // The message's length and kind.
        for at in (0..2).chain(4..5) {
            let mut other = good.clone();
            other[at] ^= 0xf0;
            assert!(matches!(read(&other), Err(LookupError::Unclear)), "{at}");
        }
        let mut refused = good;
        refused[4..6].copy_from_slice(&ERROR.to_ne_bytes());
        refused[HEAD..HEAD + 4].copy_from_slice(&(-2_i32).to_ne_bytes());
        let Err(LookupError::System(error)) = read(&refused) else { panic!("an error") };
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    /// `cargo test --release --lib what_a_lookup_costs -- --ignored --nocapture`
    #[test]
    #[ignore = "measures"]
    fn what_a_lookup_costs() {
        const LOOKUPS: u32 = 20_000;
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (_listener, _caller, ours) = connected(address);
            let diag = Diag::open().expect("a socket");
            let (caller, here) = (ours.peer_addr().expect("an address"), ours.local_addr().expect("an address"));
            let began = Instant::now();
            for _ in 0..LOOKUPS {
                diag.owner(caller, here).expect("a user");
            }
            println!("{address}: {:?} a lookup", began.elapsed() / LOOKUPS);
        }
    }
}
