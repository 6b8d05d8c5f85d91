//! As little as somebody between can do for a small question: its head read and written anew, TLS to the resource, and nothing
//! else. No checks, no timeouts, no log, one question at a time with its length said before; what comes back goes on as it is.
//!
//! It is no proxy that anybody should use, but about what is left of a proxy's cost when it does nothing.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use httparse::Status;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, epoll, poll};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// What is read at once.
const MOST_AT_ONCE: usize = 32 << 10;
/// As many fields as a head may have.
const FIELDS: usize = 64;

/// A caller, and its connection to the resource.
struct Pair {
    caller: TcpStream,
    line: Line,
    /// What was read of a head that has not ended.
    head: Vec<u8>,
    /// How much of the request's content is to come.
    left: usize,
    authorization: Arc<str>,
}

/// A connection to the resource.
struct Line {
    socket: TcpStream,
    tls: Box<ClientConnection>,
}

/// Those that nobody has at the moment.
type Idle = Arc<Mutex<Vec<Line>>>;

/// Where one worker reads to and writes from.
struct Room {
    read: Vec<u8>,
    written: Vec<u8>,
}

/// A head that has ended.
struct Head {
    length: usize,
    /// How much content is to follow.
    content: usize,
}

/// Relays until the process ends: `relay ADDRESS RESOURCE CA_FILE BEARER`, as the command line has them.
pub(crate) fn run(mut arguments: impl Iterator<Item = String>) -> ! {
    let mut next = || arguments.next().expect("relay ADDRESS RESOURCE CA_FILE BEARER");
    let listener = TcpListener::bind(next()).expect("an address that is free");
    let resource: SocketAddr = next().parse().expect("the resource's address");
    let config = Arc::new(trusting(&next()));
    let authorization: Arc<str> = format!("authorization: Bearer {}\r\n", next()).into();
    let idle = Idle::default();
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let workers: Vec<_> = (0..processors)
        .map(|_| {
            let events = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC).expect("events"));
            let (own, idle, (give, taken)) = (events.clone(), idle.clone(), channel());
            thread::spawn(move || work(&own, &taken, &idle));
            (events, give)
        })
        .collect();
    let mut turns = (0_u64..).flat_map(|number| workers.iter().map(move |worker| (number, worker)));
    loop {
        let (caller, _) = listener.accept().expect("a caller");
        let free = open(&idle).pop();
        let Some(line) = free.or_else(|| Line::connect(resource, &config)) else { continue };
        if caller.set_nodelay(true).and_then(|()| caller.set_nonblocking(true)).is_err() {
            continue;
        }
        let (number, (events, give)) = turns.next().expect("there is no last turn");
        // What happens before the worker has taken it goes on happening.
        for (side, socket) in (0..).zip([&caller, &line.socket]) {
            let number = epoll::EventData::new_u64(number * 2 + side);
            epoll::add(&**events, socket, number, epoll::EventFlags::IN).expect("an event");
        }
        let pair = Pair { caller, line, head: Vec::new(), left: 0, authorization: authorization.clone() };
        give.send(pair).expect("a worker");
    }
}

fn trusting(ca_file: &str) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_reader_iter(BufReader::new(File::open(ca_file).expect("a file"))) {
        roots.add(authority.expect("a certificate")).expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    config.with_root_certificates(roots).with_no_client_auth()
}

/// Looks after pairs, whose events have the numbers of their order.
fn work(events: &impl AsFd, taken: &Receiver<Pair>, idle: &Idle) {
    let (mut pairs, mut ready, mut room) = (Vec::new(), Vec::with_capacity(256), Room::default());
    loop {
        ready.clear();
        // Interrupted: nothing is ready.
        let _ = epoll::wait(events, spare_capacity(&mut ready), None);
        pairs.extend(taken.try_iter().map(Some));
        for event in &ready {
            let number = event.data.u64();
            let Some(slot) = usize::try_from(number / 2).ok().and_then(|at| pairs.get_mut(at)) else { continue };
            let Some(pair) = slot else { continue };
            let is_caller = number % 2 == 0;
            let relayed = if is_caller { pair.ask(&mut room) } else { pair.answer(&mut room) };
            // Callers go once they have their answer, and the next one has their connection to the resource.
            if relayed.is_none()
                && let Some(Pair { line, .. }) = slot.take()
                && is_caller
                && epoll::delete(events, &line.socket).is_ok()
            {
                open(idle).push(line);
            }
        }
    }
}

impl Default for Room {
    fn default() -> Self {
        Self { read: vec![0; MOST_AT_ONCE], written: Vec::with_capacity(MOST_AT_ONCE) }
    }
}

impl Line {
    fn connect(resource: SocketAddr, config: &Arc<ClientConfig>) -> Option<Self> {
        let mut socket = TcpStream::connect(resource).ok()?;
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        let mut tls = Box::new(ClientConnection::new(config.clone(), name).expect("a connection"));
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).ok()?;
        }
        socket.set_nodelay(true).and_then(|()| socket.set_nonblocking(true)).ok()?;
        Some(Self { socket, tls })
    }
}

/// Each of these comes back with nothing if that was the end.
impl Pair {
    /// The caller has said something.
    fn ask(&mut self, Room { read, written }: &mut Room) -> Option<()> {
        let length = read_once(&mut self.caller, read)?;
        let mut content = read.get(..length)?;
        written.clear();
        if self.left == 0 {
            self.head.extend_from_slice(content);
            let Status::Complete(head) = write_anew(&self.head, &self.authorization, written)? else { return Some(()) };
            content = self.head.get(head.length..)?;
            self.left = head.content;
        }
        self.left = self.left.checked_sub(content.len())?;
        written.extend_from_slice(content);
        self.head.clear();
        let mut rest = written.as_slice();
        while !rest.is_empty() {
            let taken = self.line.tls.writer().write(rest).ok()?;
            rest = rest.get(taken..)?;
            while self.line.tls.wants_write() {
                match self.line.tls.write_tls(&mut self.line.socket) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => wait(&self.line.socket),
                    sent => drop(sent.ok()?),
                }
            }
        }
        Some(())
    }

    /// The resource has said something.
    fn answer(&mut self, Room { read, written }: &mut Room) -> Option<()> {
        let length = read_once(&mut self.line.socket, read)?;
        let mut records = read.get(..length)?;
        written.clear();
        while !records.is_empty() {
            self.line.tls.read_tls(&mut records).ok()?;
            let there = self.line.tls.process_new_packets().ok()?.plaintext_bytes_to_read();
            let before = written.len();
            written.resize(before + there, 0);
            self.line.tls.reader().read_exact(written.get_mut(before..)?).ok()?;
        }
        let mut rest = written.as_slice();
        while !rest.is_empty() {
            match self.caller.write(rest) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait(&self.caller),
                sent => rest = rest.get(sent.ok()?..)?,
            }
        }
        Some(())
    }
}

/// A worker that panics takes nothing along that matters.
fn open(idle: &Idle) -> MutexGuard<'_, Vec<Line>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is there, at most as much as there is room for.
fn read_once(from: &mut TcpStream, room: &mut [u8]) -> Option<usize> {
    match from.read(room) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Some(0),
        read => read.ok().filter(|length| *length > 0),
    }
}

/// Until it can be written to: all others of this worker wait as well, which matters to nobody who counts processor time.
fn wait(socket: &TcpStream) {
    let _ = poll(&mut [PollFd::new(socket, PollFlags::OUT)], None);
}

/// Writes a head as the resource is to have it, once it has ended.
fn write_anew(head: &[u8], authorization: &str, out: &mut Vec<u8>) -> Option<Status<Head>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let Status::Complete(length) = request.parse(head).ok()? else { return Some(Status::Partial) };
    let line = [request.method?, " /openai", request.path?, " HTTP/1.1\r\nhost: 127.0.0.1\r\n", authorization];
    for part in line {
        out.extend_from_slice(part.as_bytes());
    }
    let mut content = 0;
    for field in request.headers.iter() {
        if field.name.eq_ignore_ascii_case("content-length") {
            content = std::str::from_utf8(field.value).ok()?.parse().ok()?;
        }
        if !["host", "authorization", "connection"].iter().any(|name| field.name.eq_ignore_ascii_case(name)) {
            for part in [field.name.as_bytes(), b": ", field.value, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    }
    out.extend_from_slice(b"\r\n");
    Some(Status::Complete(Head { length, content }))
}
