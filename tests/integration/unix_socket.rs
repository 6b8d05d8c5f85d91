//! `listen.unix_socket`: everything that works over TCP works over it, only this user opens it, and no program takes
//! another's.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;

use aoai_auth_proxy::config::{Listen, PeerUsers};
use aoai_auth_proxy::emulator::{Action, Emulator, Fault, Route};
use aoai_auth_proxy::server::{ListenError, Listeners};
use axum::body::Body;
use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use http::Request;
use http_body_util::BodyExt;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, connect, listen, socket};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use crate::caller::Caller;
use crate::program::{Running, emulator, outcome, serve};
use crate::support::{chat, within};

/// A directory, and the path of a socket in it.
fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("proxy.sock");
    (directory, path)
}

fn setting(path: &Path) -> String {
    format!("listen.unix_socket={}", path.display())
}

/// The program, listening at `path` alone.
async fn alone(azure: &Emulator, path: &Path) -> Running {
    let running = Running::start(serve(azure).args(["--set", "listen.address=", "--set", &setting(path)])).await;
    assert_eq!(running.url, format!("unix:{}", path.display()));
    running
}

async fn caller(path: &Path, http2: bool) -> Caller {
    Caller::over(within(UnixStream::connect(path)).await.unwrap(), http2).await
}

fn listen_at(path: &Path) -> Result<Listeners, ListenError> {
    Listeners::bind(&Listen { tcp: None, unix: Some(path.to_owned()), may_be_remote: false }, &PeerUsers::Any)
}

/// A path that a program left behind which was killed.
fn leave_behind(path: &Path) {
    drop(UnixListener::bind(path).unwrap());
    assert!(path.exists());
}

fn chat_request(stream: bool) -> Request<Body> {
    let request = Request::post("/v1/chat/completions").header("content-type", "application/json");
    request.body(Body::from(chat(stream).to_string())).unwrap()
}

#[tokio::test]
async fn both_versions_are_served_without_any_tcp() {
    let azure = emulator().await;
    let (_directory, path) = place();
    let running = alone(&azure, &path).await;
    for http2 in [false, true] {
        let mut asking = caller(&path, http2).await;
        // One connection for several requests.
        for _ in 0..3 {
            let response = within(asking.send(chat_request(false))).await.unwrap();
            assert_eq!(response.status(), 200);
            assert!(!within(response.into_body().collect()).await.unwrap().to_bytes().is_empty());
        }
        azure.control().fault(Fault::new(Route::Chat, Action::Hold { after_events: 1 }).times(1));
        let response = within(asking.send(chat_request(true))).await.unwrap();
        let mut content = response.into_body();
        assert!(
            within(content.frame()).await.unwrap().is_ok(),
            "the first event comes while the resource still writes"
        );
        within(azure.control().until(|state| state.streams_held == 1)).await;
        azure.control().release();
        assert!(within(content.collect()).await.unwrap().to_bytes().ends_with(b"data: [DONE]\n\n"));
    }
    let (code, log) = running.stop().await;
    assert_eq!(code, 0, "{log}");
    assert!(log.contains(&format!("unix:{}", path.display())) && !log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn a_websocket_passes() {
    let azure = emulator().await;
    let (_directory, path) = place();
    let running = alone(&azure, &path).await;
    let stream = within(UnixStream::connect(&path)).await.unwrap();
    let (mut socket, _) = within(client_async("ws://localhost/v1/realtime?model=gpt-realtime", stream)).await.unwrap();
    let created = within(socket.next()).await.unwrap().unwrap();
    assert!(created.to_text().unwrap().contains("session.created"), "{created}");
    let update = r#"{"type":"session.update","session":{"type":"realtime","instructions":"Be brief"}}"#;
    within(socket.send(Message::text(update))).await.unwrap();
    let updated = within(socket.next()).await.unwrap().unwrap();
    assert!(updated.to_text().unwrap().contains("Be brief"), "{updated}");
    within(socket.close(None)).await.unwrap();
    while within(socket.next()).await.is_some_and(|message| message.is_ok()) {}
    drop(socket);
    assert_eq!(running.stop().await.0, 0);
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_its_request() {
    let azure = emulator().await;
    let (_directory, path) = place();
    let _running = alone(&azure, &path).await;
    for http2 in [false, true] {
        azure.control().fault(Fault::new(Route::Chat, Action::Hold { after_events: 1 }).times(1));
        let mut asking = caller(&path, http2).await;
        let response = within(asking.send(chat_request(true))).await.unwrap();
        let mut content = response.into_body();
        assert!(within(content.frame()).await.unwrap().is_ok(), "the first event");
        within(azure.control().until(|state| state.streams_open == 1)).await;
        asking.vanish().await;
        within(azure.control().until(|state| state.streams_open == 0)).await;
    }
}

#[tokio::test]
async fn what_cannot_be_refused_twice_is_read_to_its_end() {
    let azure = emulator().await;
    let (_directory, path) = place();
    let _running = alone(&azure, &path).await;
    let mut stream = within(UnixStream::connect(&path)).await.unwrap();
    stream.write_all(b"no request at all\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("invalid_request"), "{answer}");
}

/// Each asks once, all at the same time.
async fn all_are_served(callers: &mut [Caller]) {
    let answers = join_all(callers.iter_mut().map(|caller| caller.send(chat_request(false))));
    for answer in within(answers).await {
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 200);
        // To its end: a connection with something left unread is closed.
        within(answer.into_body().collect()).await.unwrap();
    }
}

#[tokio::test]
async fn both_sockets_are_served_at_once_and_share_the_places() {
    let azure = emulator().await;
    let (_directory, path) = place();
    let setting = setting(&path);
    let mut command = serve(&azure);
    let mut running = Running::start(command.args(["--set", &setting, "--set", "limits.max_connections=4"])).await;
    assert!(running.url.starts_with("http://"), "TCP comes first: {}", running.url);
    let second = within(running.output.next_line()).await.unwrap().unwrap();
    assert_eq!(second, format!("listening on unix:{}", path.display()));

    // All places are taken, two by each.
    let mut callers = Vec::new();
    for http2 in [false, true] {
        callers.push(Caller::connect(running.address(), http2).await);
        callers.push(caller(&path, http2).await);
    }
    all_are_served(&mut callers).await;
    // Whoever comes next waits for one of them, over either socket.
    let seen = azure.control().state().count(Route::OpenAi);
    let mut tcp = within(TcpStream::connect(running.address())).await.unwrap();
    let mut unix = within(UnixStream::connect(&path)).await.unwrap();
    let request = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    tcp.write_all(request).await.unwrap();
    unix.write_all(request).await.unwrap();
    all_are_served(&mut callers).await;
    assert_eq!(azure.control().state().count(Route::OpenAi), seen + 4, "nobody else has been served");
    callers.pop().unwrap().vanish().await;
    callers.pop().unwrap().vanish().await;
    let mut answer = String::new();
    within(tcp.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer.clear();
    within(unix.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn its_mode_lets_nobody_else_in_and_it_is_gone_afterwards() {
    let azure = emulator().await;
    let (_directory, path) = place();
    let running = alone(&azure, &path).await;
    let found = fs::symlink_metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o7777, 0o600);
    assert_eq!(running.stop().await.0, 0);
    assert!(!path.exists(), "it is removed");
}

#[tokio::test]
async fn it_is_gone_as_soon_as_the_end_has_begun() {
    let azure = emulator().await;
    let (_directory, path) = place();
    let running = alone(&azure, &path).await;
    azure.control().fault(Fault::new(Route::Chat, Action::Hold { after_events: 1 }).times(1));
    let mut asking = caller(&path, false).await;
    let response = within(asking.send(chat_request(true))).await.unwrap();
    running.process().signal(rustix::process::Signal::TERM);
    within(async {
        while path.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // What runs is finished all the same, and another program can have the path already.
    let next = listen_at(&path).unwrap();
    azure.control().release();
    let text = within(response.into_body().collect()).await.unwrap().to_bytes();
    assert!(text.ends_with(b"data: [DONE]\n\n"));
    assert_eq!(running.end().await.0, 0);
    assert!(path.exists(), "the other program's is left alone");
    drop(next);
    assert!(!path.exists());
}

#[test]
fn a_socket_that_was_left_behind_is_replaced() {
    let (_directory, path) = place();
    leave_behind(&path);
    let listeners = listen_at(&path).unwrap();
    assert_eq!(listeners.urls().collect::<Vec<_>>(), [format!("unix:{}", path.display())]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    std::os::unix::net::UnixStream::connect(&path).unwrap();
    drop(listeners);
    assert!(!path.exists());
}

#[test]
fn a_socket_that_somebody_listens_on_is_left_alone() {
    let (_directory, path) = place();
    let theirs = UnixListener::bind(&path).unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    let error = listen_at(&path).unwrap_err();
    assert!(matches!(error, ListenError::UnixInUse { .. }), "{error}");
    assert!(error.to_string().contains("another program listens there"), "{error}");
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    drop(theirs);
}

#[test]
fn a_socket_whose_program_is_too_busy_to_accept_is_left_alone() {
    let (_directory, path) = place();
    let address = SocketAddrUnix::new(&path).unwrap();
    let theirs = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(&theirs, &address).unwrap();
    listen(&theirs, 0).unwrap();
    let mut waiting = Vec::new();
    loop {
        let one = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        one.set_nonblocking(true).unwrap();
        match connect(&one, &address) {
            Ok(()) => waiting.push(one),
            Err(Errno::AGAIN) => break,
            Err(errno) => panic!("{errno}"),
        }
    }
    let error = listen_at(&path).unwrap_err();
    assert!(matches!(error, ListenError::UnixInUse { .. }), "{error}");
    assert!(path.exists());
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let (directory, path) = place();
    fs::write(&path, "precious").unwrap();
    let link = directory.path().join("link");
    let behind = directory.path().join("behind");
    leave_behind(&behind);
    std::os::unix::fs::symlink(&behind, &link).unwrap();
    for path in [&path, &link, directory.path()] {
        let error = listen_at(path).unwrap_err();
        assert!(matches!(error, ListenError::NoSocket { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    assert!(behind.exists() && fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn a_path_that_no_socket_can_have_is_named() {
    let (directory, _) = place();
    let length = directory.path().as_os_str().len();
    let longest = directory.path().join("x".repeat(107 - length - 1));
    assert!(listen_at(&longest).is_ok(), "107 bytes");
    let error = listen_at(&directory.path().join("x".repeat(107 - length))).unwrap_err();
    assert!(matches!(error, ListenError::UnixTooLong { length: 108, .. }), "{error}");
    assert!(error.to_string().contains("shorter"), "{error}");

    let error = listen_at(&directory.path().join("none/proxy.sock")).unwrap_err();
    let ListenError::Unix { error: cause, .. } = &error else { panic!("{error}") };
    assert_eq!(cause.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("its directory must exist"), "{error}");
    // These would be names without an owner or a mode.
    for path in ["", "\0abstract"] {
        assert!(matches!(listen_at(Path::new(path)).unwrap_err(), ListenError::Unix { .. }), "{path:?}");
    }
}

#[tokio::test]
async fn the_program_says_why_it_does_not_listen() {
    let azure = emulator().await;
    let (_directory, path) = place();
    let _theirs = UnixListener::bind(&path).unwrap();
    let (code, output, errors) = outcome(serve(&azure).args(["--set", &setting(&path)])).await;
    assert_eq!((code, output.as_str()), (1, ""));
    assert!(errors.contains("another program listens there") && errors.contains("listen.unix_socket"), "{errors}");
}

#[test]
fn of_programs_that_start_at_once_one_has_the_path() {
    const PROGRAMS: usize = 8;
    for round in 0..50 {
        let (_directory, path) = place();
        leave_behind(&path);
        let start = Barrier::new(PROGRAMS);
        let outcomes: Vec<_> = thread::scope(|scope| {
            let programs: Vec<_> = (0..PROGRAMS)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        listen_at(&path)
                    })
                })
                .collect();
            programs.into_iter().map(|program| program.join().unwrap()).collect()
        });
        let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1, "round {round}: {lost:?}");
        for error in lost {
            assert!(matches!(error, Err(ListenError::UnixInUse { .. })), "{error:?}");
        }
        std::os::unix::net::UnixStream::connect(&path).expect("the one that won listens there");
    }
}

#[test]
fn what_has_taken_its_place_is_not_removed() {
    let (_directory, path) = place();
    let listeners = listen_at(&path).unwrap();
    let kept = path.with_extension("kept");
    // Kept, so that its inode is not given to the next.
    fs::rename(&path, &kept).unwrap();
    fs::write(&path, "precious").unwrap();
    drop(listeners);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn a_directory_that_others_can_write_to_is_warned_of() {
    let azure = emulator().await;
    for (mode, warned) in [(0o777, true), (0o775, true), (0o1777, false), (0o755, false)] {
        let (directory, path) = place();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
        let (code, log) = alone(&azure, &path).await.stop().await;
        assert_eq!(code, 0, "{log}");
        assert_eq!(log.matches("could put a socket of their own").count(), usize::from(warned), "{mode:o}: {log}");
    }
}
