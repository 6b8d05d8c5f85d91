//! `access.peer_users`: who is at the other end of a connection decides, before it is heard. Needs root, to be several users.

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use aoai_auth_proxy::emulator::{Emulator, Route};
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use nix::unistd::{Uid, setfsuid};
use rustix::process::{Signal, geteuid};
use serde_json::Value;
use socket2::{Domain, SockRef, Socket, Type};
use tempfile::TempDir;
use tokio::process::Command;

use crate::caller::Caller;
use crate::program::{Running, emulator, has_namespaces, outcome, serve};
use crate::support::{code, within};

const ROOT: u32 = 0;
/// Two users that have nothing to do with each other.
const OURS: u32 = 12345;
const THEIRS: u32 = 65534;

const CHAT: &str = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                    content-length: 75\r\n\r\n\
                    {\"model\":\"gpt-4o-mini\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello, you\"}]}";

/// Whether this test can be several users.
fn is_root() -> bool {
    let is = geteuid().is_root();
    if !is {
        eprintln!("skipped: only root can be another user");
    }
    is
}

/// A directory that every user can look into.
pub(crate) fn open_directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    directory
}

/// Azure, and the program as some user in front of it.
struct World {
    azure: Emulator,
    running: Running,
    directory: TempDir,
}

impl World {
    async fn new(uid: u32, settings: &[&str]) -> Self {
        Self::within(&[], uid, settings).await
    }

    /// The same, started by another program.
    async fn within(starter: &[&str], uid: u32, settings: &[&str]) -> Self {
        let azure = emulator().await;
        let directory = open_directory();
        let running = Running::start(&mut command(&azure, directory.path(), starter, uid, settings)).await;
        Self { azure, running, directory }
    }

    fn requests(&self) -> u64 {
        self.azure.control().state().count(Route::OpenAi)
    }

    /// `denied_peers` of `/status`, as `uid` sees them: pairs of a user and a number of connections.
    async fn denied(&self, uid: u32) -> Vec<(Option<u64>, u64)> {
        let (status, content) = self.curl(uid, &[&format!("{}/status", self.running.url)]).await;
        assert_eq!(status, 200, "{content}");
        let report: Value = serde_json::from_str(&content).unwrap();
        let denied = report["denied_peers"].as_array().unwrap().iter();
        denied.map(|peer| (peer["uid"].as_u64(), peer["count"].as_u64().unwrap())).collect()
    }

    /// Waits until root sees that one user alone was denied, this often.
    async fn until_denied(&self, uid: Option<u32>, count: u64) {
        within(async {
            while self.denied(ROOT).await != [(uid.map(u64::from), count)] {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// What `uid` is answered: the status and the content.
    async fn curl(&self, uid: u32, arguments: &[&str]) -> (u16, String) {
        let mut command = Command::new("curl");
        // First: nobody's own configuration is read.
        command.args(["-q", "-sS", "-g", "--noproxy", "*", "--max-time", "60", "-w", "\n%{http_code}"]).args(arguments);
        command.env_clear().env("PATH", "/usr/bin:/bin").uid(uid).gid(uid).current_dir("/");
        let (code, output, errors) = outcome(&mut command).await;
        assert_eq!(code, 0, "{errors}");
        let (content, status) = output.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), content.to_owned())
    }

    /// Asks as `uid`; tells whether it was answered, and that it was refused as it should be if not.
    async fn serves(&self, uid: u32, arguments: &[&str]) -> bool {
        let before = self.requests();
        let (status, content) = self.curl(uid, arguments).await;
        if status == 200 {
            assert_eq!(self.requests(), before + 1);
            return true;
        }
        let content: Value = serde_json::from_str(&content).unwrap();
        assert_eq!((status, content["error"]["code"].as_str()), (403, Some("peer_denied")), "{content}");
        assert!(content["error"]["message"].as_str().unwrap().contains("access.peer_users"), "{content}");
        assert_eq!(self.requests(), before, "nothing of it reached the resource");
        false
    }
}

/// `serve` as `uid`, with whatever it reads where it can read it.
pub(crate) fn command(azure: &Emulator, directory: &Path, starter: &[&str], uid: u32, settings: &[&str]) -> Command {
    let usual = serve(azure);
    let authority = directory.join("ca.pem");
    fs::copy(azure.ca_file(), &authority).unwrap();
    fs::set_permissions(&authority, Permissions::from_mode(0o644)).unwrap();
    let built = Path::new(usual.as_std().get_program());
    let program = directory.join("aoai-auth-proxy");
    // A checkout may be where others cannot look.
    if fs::hard_link(built, &program).is_err() {
        fs::copy(built, &program).unwrap();
    }
    let mut line: Vec<_> = starter.iter().map(Into::into).collect();
    line.push(program.into_os_string());
    let mut command = Command::new(line.remove(0));
    command.args(line).args(usual.as_std().get_args()).env_clear().current_dir("/").uid(uid).gid(uid);
    for (name, value) in usual.as_std().get_envs() {
        command.env(name, value.unwrap());
    }
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).kill_on_drop(true);
    command.arg("--set").arg(format!("upstream.ca_file={}", authority.display()));
    for setting in settings {
        command.args(["--set", setting]);
    }
    command
}

/// Does something with sockets that belong to `uid`.
fn as_user<T: Send>(uid: u32, what: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        scope
            .spawn(|| {
                // For this thread alone, and what it makes belongs to that user.
                setfsuid(Uid::from_raw(uid));
                what()
            })
            .join()
            .unwrap()
    })
}

/// A connection from a port, also if that was just left; from an address that no other test has, or it could be taken.
fn connect_from(port: u16, to: SocketAddr) -> TcpStream {
    let attempt = || -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from(([127, 77, 7, 7], port)).into())?;
        socket.connect(&to.into())?;
        Ok(socket.into())
    };
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match attempt() {
            Ok(stream) => return stream,
            // A program that another test starts has the socket that was left for as long as it takes to start.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && Instant::now() < until => {
                thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn the_same_user_and_root_may_connect_and_others_are_told_so() {
    if !is_root() {
        return;
    }
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listen = format!("listen.address={address}");
        let world = World::new(OURS, &[&listen, "access.peer_users=same"]).await;
        let models = format!("{}/v1/models", world.running.url);
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            assert!(world.serves(ROOT, &[version, &models]).await, "{address} {version}");
            assert!(world.serves(OURS, &[version, &models]).await, "{address} {version}");
            assert!(!world.serves(THEIRS, &[version, &models]).await, "{address} {version}");
            // Content that nobody wants does not hide the answer.
            let content = world.directory.path().join("content");
            fs::write(&content, "x".repeat(100_000)).unwrap();
            let content = format!("@{}", content.display());
            assert!(!world.serves(THEIRS, &[version, "--data-binary", &content, &models]).await);
        }
        let denied = world.denied(ROOT).await;
        let [(uid, count)] = denied[..] else { panic!("{denied:?}") };
        assert!(uid == Some(u64::from(THEIRS)) && count >= 4, "{denied:?}");
        let (_, log) = world.running.stop().await;
        assert_eq!(log.matches("a user that may not connect does").count(), 1, "told once: {log}");
        assert!(!log.contains("panicked"), "{log}");
    }
}

#[tokio::test]
async fn a_list_means_those_and_nobody_else() {
    if !is_root() {
        return;
    }
    let theirs = nix::unistd::User::from_uid(Uid::from_raw(THEIRS)).unwrap().expect("a user with a name").name;
    let world = World::new(ROOT, &[&format!("access.peer_users={theirs},{OURS}")]).await;
    let models = format!("{}/v1/models", world.running.url);
    assert!(world.serves(THEIRS, &[&models]).await, "by name");
    assert!(world.serves(OURS, &[&models]).await, "by number");
    assert!(!world.serves(OURS + 1, &[&models]).await);
    assert!(!world.serves(ROOT, &[&models]).await, "also the proxy's own user has to be named");
    assert_eq!(code(world.running.get("/v1/models").await).await, "peer_denied");
    let denied = world.denied(OURS).await;
    assert_eq!(denied, [(Some(0), 2), (Some(u64::from(OURS) + 1), 1)]);
}

#[tokio::test]
async fn without_the_setting_nobody_is_asked() {
    if !is_root() {
        return;
    }
    let world = World::new(OURS, &[]).await;
    assert!(world.serves(THEIRS, &[&format!("{}/v1/models", world.running.url)]).await);
}

#[tokio::test]
async fn over_the_unix_socket_the_kernel_says_who_connected() {
    if !is_root() {
        return;
    }
    let directory = open_directory();
    chown(directory.path(), Some(OURS), Some(OURS)).unwrap();
    let path = directory.path().join("proxy.sock");
    let path_setting = format!("listen.unix_socket={}", path.display());
    let world = World::new(OURS, &["listen.address=", &path_setting, "access.peer_users=same"]).await;
    // The mode would keep them out already: it is not what is tested here.
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    let path = path.to_str().unwrap();
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let ask = [version, "--unix-socket", path, "http://localhost/v1/models"];
        assert!(world.serves(ROOT, &ask).await, "{version}");
        assert!(world.serves(OURS, &ask).await, "{version}");
        assert!(!world.serves(THEIRS, &ask).await, "{version}");
    }
}

#[tokio::test]
async fn whoever_leaves_at_once_is_not_taken_for_root() {
    if !is_root() {
        return;
    }
    let world = World::new(OURS, &["access.peer_users=same"]).await;
    let address = world.running.address();
    assert_eq!(world.running.get("/v1/models").await.status(), 200, "the first token has come");
    let before = world.requests();
    // The proxy looks when everything has happened.
    world.running.process().signal(Signal::STOP);
    as_user(THEIRS, || {
        let mut closed = TcpStream::connect(address).unwrap();
        closed.write_all(CHAT.as_bytes()).unwrap();
        drop(closed);
        let mut reset = TcpStream::connect(address).unwrap();
        reset.write_all(CHAT.as_bytes()).unwrap();
        SockRef::from(&reset).set_linger(Some(Duration::ZERO)).unwrap();
        drop(reset);
    });
    world.running.process().signal(Signal::CONT);
    // Connections are admitted one after the other, each in its task: asked until both have been.
    world.until_denied(None, 2).await;
    assert_eq!(world.requests(), before, "nothing of it reached the resource");
}

#[tokio::test]
async fn whoever_leaves_does_not_hide_behind_who_comes_next() {
    if !is_root() {
        return;
    }
    let world = World::new(OURS, &["access.peer_users=same"]).await;
    let address = world.running.address();
    assert_eq!(world.running.get("/v1/models").await.status(), 200, "the first token has come");
    world.running.process().signal(Signal::STOP);
    // Theirs ends with a reset and leaves its port; root's next connection has the same addresses and ports.
    let port = as_user(THEIRS, || {
        let mut reset = connect_from(0, address);
        let port = reset.local_addr().unwrap().port();
        reset.write_all(CHAT.as_bytes()).unwrap();
        SockRef::from(&reset).set_linger(Some(Duration::ZERO)).unwrap();
        drop(reset);
        port
    });
    let mut allowed = connect_from(port, address);
    allowed.write_all(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    world.running.process().signal(Signal::CONT);
    let answer = within(tokio::task::spawn_blocking(move || {
        let mut answer = String::new();
        allowed.read_to_string(&mut answer).unwrap();
        answer
    }));
    assert!(answer.await.unwrap().starts_with("HTTP/1.1 200 "));
    world.until_denied(None, 1).await;
    assert_eq!(world.azure.control().state().count(Route::Chat), 0, "nothing of it reached the resource");
}

#[tokio::test]
async fn those_who_may_not_connect_take_no_places() {
    const MANY: u64 = 200;
    if !is_root() {
        return;
    }
    let world = World::new(OURS, &["access.peer_users=same", "limits.max_connections=2"]).await;
    let address = world.running.address();
    // They say nothing and stay.
    let waiting: Vec<_> = as_user(THEIRS, || (0..MANY).map(|_| TcpStream::connect(address).unwrap()).collect());
    // Whoever may connect is served, also with all of them there.
    world.until_denied(Some(THEIRS), MANY).await;
    assert_eq!(world.running.get("/v1/models").await.status(), 200);
    let metrics = within(world.running.get("/metrics").await.text()).await.unwrap();
    assert!(metrics.contains(&format!("\naoai_proxy_denied_peers_total {MANY}\n")), "{metrics}");
    // And all of them are closed in the end, without a word.
    let said = within(tokio::task::spawn_blocking(move || {
        let read = |mut one: TcpStream| one.read(&mut [0; 1]).map_or(0, |length| length);
        waiting.into_iter().map(read).sum::<usize>()
    }));
    assert_eq!(said.await.unwrap(), 0);
}

#[tokio::test]
async fn where_users_have_no_numbers_the_number_for_all_of_them_is_nobodys() {
    const NAMESPACE: [&str; 2] = ["--user", "--map-root-user"];
    if !is_root() || !has_namespaces(&NAMESPACE).await {
        return;
    }
    let directory = open_directory();
    let path = directory.path().join("proxy.sock");
    let path_setting = format!("listen.unix_socket={}", path.display());
    let users = format!("access.peer_users=0,{THEIRS}");
    let starter = ["unshare", NAMESPACE[0], NAMESPACE[1]];
    let world = World::within(&starter, ROOT, &[&path_setting, &users]).await;
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    let models = format!("{}/v1/models", world.running.url);
    let unix = ["--unix-socket", path.to_str().unwrap(), "http://localhost/v1/models"];
    for ask in [&[&*models][..], &unix] {
        assert!(world.serves(ROOT, ask).await, "it has a number");
        for uid in [OURS, THEIRS] {
            assert!(!world.serves(uid, ask).await, "{uid}");
        }
    }
    assert_eq!(world.denied(ROOT).await, [(None, 4)]);
}

#[tokio::test]
async fn where_users_cannot_be_told_apart_it_does_not_start() {
    if !is_root() || !has_namespaces(&["--user"]).await {
        return;
    }
    let azure = emulator().await;
    let directory = open_directory();
    let mut command = command(&azure, directory.path(), &["unshare", "--user"], ROOT, &["access.peer_users=same"]);
    let (code, output, errors) = outcome(&mut command).await;
    assert_eq!((code, output.as_str()), (1, ""), "{errors}");
    assert!(errors.contains("access.peer_users cannot be kept") && errors.contains("listen.unix_socket"), "{errors}");
}

#[tokio::test]
async fn every_request_on_a_connection_of_http2_is_refused() {
    if !is_root() {
        return;
    }
    let world = World::new(OURS, &["access.peer_users=same"]).await;
    let address = world.running.address();
    let stream = as_user(THEIRS, || TcpStream::connect(address).unwrap());
    stream.set_nonblocking(true).unwrap();
    let mut caller = Caller::over(tokio::net::TcpStream::from_std(stream).unwrap(), true).await;
    for _ in 0..3 {
        let response = within(caller.send(Request::get("/v1/models").body(Body::empty()).unwrap())).await.unwrap();
        assert_eq!(response.status(), 403);
        let content = within(response.into_body().collect()).await.unwrap().to_bytes();
        assert!(std::str::from_utf8(&content).unwrap().contains("peer_denied"), "{content:?}");
    }
    assert_eq!(world.requests(), 0, "nothing of it reached the resource");
}

#[tokio::test]
async fn a_refusal_ends_the_connection_in_order() {
    if !is_root() {
        return;
    }
    let world = World::new(OURS, &["access.peer_users=same"]).await;
    let address = world.running.address();
    // Not a whole head: it is not waited for.
    let answer = within(tokio::task::spawn_blocking(move || {
        let mut stream = as_user(THEIRS, || TcpStream::connect(address).unwrap());
        stream.write_all(b"G").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }));
    let answer = answer.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("connection: close\r\n"), "{answer}");
    assert!(answer.contains(&format!("the user {THEIRS} of this machine")), "{answer}");
}
