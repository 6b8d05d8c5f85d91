//! Under a service manager: it is told when the program serves, that it goes on serving and that it ends; and sockets that it
//! hands over are served in place of the program's own.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net as unix;
use std::path::PathBuf;
use std::process::Stdio;

use aoai_auth_proxy::emulator::{Action, Emulator, Fault, Route};
use axum::body::Body;
use command_fds::{CommandFdExt, FdMapping};
use http::Request;
use http_body_util::BodyExt;
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use tokio::net::{TcpStream, UnixDatagram, UnixStream};
use tokio::process::Command;

use crate::caller::Caller;
use crate::program::{Running, emulator, executable, outcome, program, serve};
use crate::support::{chat, client, within};

/// Somebody who wants to know.
struct Manager {
    socket: UnixDatagram,
    name: String,
    _directory: TempDir,
}

impl Manager {
    fn new(is_abstract: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify").to_str().unwrap().to_owned();
        let (address, name) = if is_abstract {
            (unix::SocketAddr::from_abstract_name(&path), format!("@{path}"))
        } else {
            (unix::SocketAddr::from_pathname(&path), path)
        };
        let socket = unix::UnixDatagram::bind_addr(&address.unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket: UnixDatagram::from_std(socket).unwrap(), name, _directory: directory }
    }

    async fn hears(&self) -> String {
        let mut buffer = [0; 4096];
        let length = within(self.socket.recv(&mut buffer)).await.unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// What it hears next that is no sign of life.
    async fn hears_news(&self) -> String {
        loop {
            let told = self.hears().await;
            if told != "WATCHDOG=1\n" {
                return told;
            }
        }
    }
}

#[tokio::test]
async fn it_is_told_of_the_beginning_of_life_and_of_the_end() {
    for is_abstract in [false, true] {
        let (azure, manager) = (emulator().await, Manager::new(is_abstract));
        let variables = [("NOTIFY_SOCKET", manager.name.as_str()), ("WATCHDOG_USEC", "100000")];
        let running = Running::start(serve(&azure).envs(variables)).await;
        let told = manager.hears().await;
        assert_eq!(told, format!("READY=1\nSTATUS=serving on {}\n", running.address()));
        // By now it is confined, too.
        for _ in 0..3 {
            assert_eq!(manager.hears().await, "WATCHDOG=1\n");
        }
        azure.control().fault(Fault::new(Route::Chat, Action::Hold { after_events: 1 }).times(1));
        let mut caller = Caller::connect(running.address(), false).await;
        let request = Request::post("/v1/chat/completions").header("content-type", "application/json");
        let response = within(caller.send(request.body(Body::from(chat(true).to_string())).unwrap())).await.unwrap();
        running.process().signal(Signal::TERM);
        assert_eq!(manager.hears_news().await, "STOPPING=1\nSTATUS=finishing running requests\n");
        // It drains, and does not hang.
        assert_eq!(manager.hears().await, "WATCHDOG=1\n");
        azure.control().release();
        assert!(within(response.into_body().collect()).await.is_ok());
        drop(caller);
        let (code, log) = running.end().await;
        assert_eq!(code, 0, "{log}");
    }
}

/// To serve is one thing, to have a token another.
#[tokio::test]
async fn it_is_told_so_before_there_is_a_token() {
    let (azure, manager) = (emulator().await, Manager::new(false));
    azure.control().fault(Fault::new(Route::Imds, Action::status(400)));
    let running = Running::start(serve(&azure).env("NOTIFY_SOCKET", &manager.name)).await;
    assert!(manager.hears().await.starts_with("READY=1\n"));
    assert_eq!(running.get("/readyz").await.status(), 503);
}

#[tokio::test]
async fn a_watchdog_that_is_anothers_is_not_fed() {
    let (azure, manager) = (emulator().await, Manager::new(false));
    let variables = [("NOTIFY_SOCKET", manager.name.as_str()), ("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")];
    let running = Running::start(serve(&azure).envs(variables)).await;
    assert!(manager.hears().await.starts_with("READY=1\n"));
    assert_eq!(running.get("/healthz").await.status(), 200);
    assert_eq!(running.stop().await.0, 0);
    assert!(manager.hears().await.starts_with("STOPPING=1\n"), "there was nothing in between");
}

#[tokio::test]
async fn a_manager_that_is_not_there_is_no_reason_not_to_serve() {
    let azure = emulator().await;
    for socket in ["/nonexistent/notify", "@nobody listens at this name", ""] {
        let running = Running::start(serve(&azure).env("NOTIFY_SOCKET", socket)).await;
        assert_eq!(running.get("/v1/models").await.status(), 200);
        let (code, log) = running.stop().await;
        assert_eq!(code, 0, "{log}");
        assert_eq!(log.contains("NOTIFY_SOCKET"), !socket.is_empty(), "{log}");
    }
}

/// What the manager says is for the proxy, not for what it runs to sign in.
#[tokio::test]
async fn what_it_signs_in_with_is_not_told() {
    let (azure, manager) = (emulator().await, Manager::new(false));
    let tools = tempfile::tempdir().unwrap();
    let told = tools.path().join("told");
    executable(&tools.path().join("az"), &format!("#!/bin/sh\nenv > {}\nexit 1\n", told.display()));
    let variables = [
        ("NOTIFY_SOCKET", manager.name.as_str()),
        ("WATCHDOG_USEC", "1000000"),
        ("WATCHDOG_PID", "1"),
        ("LISTEN_PID", "1"),
        ("LISTEN_FDS", "1"),
        ("LISTEN_FDNAMES", "x"),
    ];
    let ours = |text: &str| {
        text.lines().any(|line| ["NOTIFY_", "WATCHDOG_", "LISTEN_"].iter().any(|name| line.starts_with(name)))
    };
    let path = format!("{}:/usr/bin:/bin", tools.path().display());
    let running =
        Running::start(serve(&azure).envs(variables).env("PATH", path).args(["--set", "credential.kind=azure-cli"]))
            .await;
    assert_eq!(running.get("/v1/models").await.status(), 503, "az was run");
    let told = std::fs::read_to_string(told).unwrap();
    assert!(told.contains("PATH=") && !ours(&told), "{told}");
    assert_eq!(running.stop().await.0, 0);

    let mut run = program();
    run.arg("run");
    for setting in crate::support::demo_settings(&azure) {
        run.args(["--set", &setting]);
    }
    let (code, output, errors) = outcome(run.envs(variables).args(["--", "env"])).await;
    assert_eq!(code, 0, "{errors}");
    assert!(output.contains("OPENAI_BASE_URL="), "{output}");
    // The command of `run` is what the manager has started, and says itself when it is ready.
    assert!(variables.iter().all(|(name, value)| output.contains(&format!("{name}={value}\n"))), "{output}");
}

/// The program with these descriptors and names, as a service manager starts it.
fn handed(azure: &Emulator, sockets: Vec<(&str, OwnedFd)>) -> Command {
    let serve = serve(azure);
    let serve = serve.as_std();
    let mut command = Command::new("/bin/sh");
    // Only the process itself knows its number before it runs.
    command.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\""]).arg(serve.get_program()).args(serve.get_args());
    command.env_clear().envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let names: Vec<_> = sockets.iter().map(|(name, _)| *name).collect();
    command.env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
    let numbered = sockets.into_iter().zip(3..);
    let mappings = numbered.map(|((_, parent_fd), child_fd)| FdMapping { parent_fd, child_fd }).collect();
    command.fd_mappings(mappings).unwrap();
    command
}

fn tcp(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn socket_file() -> (TempDir, PathBuf, unix::UnixListener) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("proxy.sock");
    let listener = unix::UnixListener::bind(&path).unwrap();
    (directory, path, listener)
}

async fn asks(mut caller: Caller) {
    let response = within(caller.send(Request::get("/v1/models").body(Body::empty()).unwrap())).await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn sockets_that_are_handed_over_are_served() {
    let azure = emulator().await;
    let ((one, first), (other, second), (admin, probes)) = (tcp("127.0.0.1:0"), tcp("[::1]:0"), tcp("127.0.0.1:0"));
    let (_directory, path, unix) = socket_file();
    // Whoever comes before the program does waits for it.
    let early = TcpStream::connect(first).await.unwrap();
    let sockets = vec![
        ("http", one.into()),
        ("admin", admin.into()),
        ("", unix.into()),
        ("aoai-auth-proxy.socket", other.into()),
    ];
    let mut running = Running::start(&mut handed(&azure, sockets)).await;
    assert_eq!(running.address(), first, "not listen.address");
    let mut said = Vec::new();
    for _ in 0..2 {
        said.push(within(running.output.next_line()).await.unwrap().unwrap());
    }
    assert_eq!(said, [format!("listening on http://{second}"), format!("listening on unix:{}", path.display())]);
    assert_eq!(running.admin().await, format!("http://{probes}"));

    asks(Caller::over(early, false).await).await;
    for http2 in [false, true] {
        asks(Caller::connect(first, http2).await).await;
        asks(Caller::connect(second, http2).await).await;
        asks(Caller::over(UnixStream::connect(&path).await.unwrap(), http2).await).await;
    }
    let url = format!("http://{probes}");
    for (path, status) in [("/readyz", 200), ("/v1/models", 404)] {
        assert_eq!(within(client().get(format!("{url}{path}")).send()).await.unwrap().status(), status, "{path}");
    }
    let (code, log) = running.stop().await;
    assert_eq!(code, 0, "{log}");
    assert!(path.exists(), "the file is another's");
}

#[tokio::test]
async fn a_socket_for_probes_alone_leaves_callers_their_own() {
    let azure = emulator().await;
    let (admin, probes) = tcp("0.0.0.0:0");
    let mut running = Running::start(&mut handed(&azure, vec![("admin", admin.into())])).await;
    assert_ne!(running.address(), probes);
    assert_eq!(running.get("/v1/models").await.status(), 200);
    assert_eq!(running.admin().await, format!("http://{probes}"));
}

#[tokio::test]
async fn what_was_meant_for_another_process_is_left_alone() {
    let azure = emulator().await;
    let (_listener, address) = tcp("127.0.0.1:0");
    let variables = [("LISTEN_FDS", "1"), ("LISTEN_PID", "1")];
    let running = Running::start(serve(&azure).envs(variables)).await;
    assert_ne!(running.address(), address);
    assert_eq!(running.get("/v1/models").await.status(), 200);
}

#[tokio::test]
async fn what_cannot_be_served_is_said_and_not_served() {
    let azure = emulator().await;
    let silent = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let bound = silent();
    bound.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    let (listener, address) = tcp("127.0.0.1:0");
    let connected = std::net::TcpStream::connect(address).unwrap();
    let no_listener: Vec<(&str, OwnedFd)> = vec![
        ("datagrams", UdpSocket::bind("127.0.0.1:0").unwrap().into()),
        ("fresh", silent().into()),
        ("bound", bound.into()),
        ("connected", connected.into()),
        ("datagrams", unix::UnixDatagram::unbound().unwrap().into()),
        ("file", std::fs::File::open("/dev/null").unwrap().into()),
    ];
    for (name, descriptor) in no_listener {
        let sockets = vec![("http", listener.try_clone().unwrap().into()), (name, descriptor)];
        let (code, output, errors) = outcome(&mut handed(&azure, sockets)).await;
        assert_eq!((code, output.as_str()), (2, ""), "{name}: {errors}");
        for word in ["descriptor 4", name, "LISTEN_FDS", "ListenStream="] {
            assert!(errors.contains(word), "{word} is not in: {errors}");
        }
    }
    // The command has no such descriptor at all.
    let (code, _, errors) = outcome(handed(&azure, vec![("http", listener.into())]).env("LISTEN_FDS", "2")).await;
    assert!(code == 2 && errors.contains("descriptor 4"), "{code}: {errors}");
}

#[tokio::test]
async fn a_socket_that_other_machines_reach_needs_the_same_as_our_own() {
    let azure = emulator().await;
    let everywhere = || tcp("0.0.0.0:0").0.into();
    let allowed = ["--set", "listen.allow_remote=true"];
    let keys = ["--set", "access.require_key=true", "--set", "apps.a.key=hunter2"];
    let users = ["--set", "access.peer_users=same"];
    for settings in [vec![], allowed.to_vec(), keys.to_vec(), [&allowed[..], &keys, &users].concat()] {
        let (code, output, errors) = outcome(handed(&azure, vec![("http", everywhere())]).args(&settings)).await;
        assert_eq!((code, output.as_str()), (2, ""), "{settings:?}: {errors}");
        for word in ["0.0.0.0:", "listen.allow_remote", "access.require_key", "FileDescriptorName=admin"] {
            assert!(errors.contains(word), "{word} is not in: {errors}");
        }
    }
    let settings = [&allowed[..], &keys].concat();
    let running = Running::start(handed(&azure, vec![("http", everywhere())]).args(settings)).await;
    let near = format!("http://127.0.0.1:{}/v1/models", running.address().port());
    assert_eq!(within(client().get(&near).send()).await.unwrap().status(), 401);
    assert_eq!(within(client().get(&near).bearer_auth("hunter2").send()).await.unwrap().status(), 200);
}

#[tokio::test]
async fn users_are_told_apart_on_sockets_that_are_handed_over() {
    let azure = emulator().await;
    let (listener, _) = tcp("127.0.0.1:0");
    let (_directory, path, unix) = socket_file();
    let sockets = vec![("http", listener.into()), ("", unix.into())];
    let running = Running::start(handed(&azure, sockets).args(["--set", "access.peer_users=4242"])).await;
    assert_eq!(running.get("/v1/models").await.status(), 403);
    let mut caller = Caller::over(UnixStream::connect(&path).await.unwrap(), false).await;
    let response = within(caller.send(Request::get("/v1/models").body(Body::empty()).unwrap())).await.unwrap();
    assert_eq!(response.status(), 403);
}
