//! The built program, run in an environment that holds nothing of this machine's.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use aoai_auth_proxy::emulator::{Action, Emulator, Fault, Options, Route};
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;

use crate::caller::Caller;
use crate::process::Process;
use crate::support::{chat, client, demo_settings, within};

/// The program with nothing of this machine's environment but where programs are.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aoai-auth-proxy"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent");
    // Should a test forget to say where the metadata service is: nowhere.
    command.env("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs to the end: exit code, standard output, standard error.
pub(crate) async fn outcome(command: &mut Command) -> (i32, String, String) {
    let output = within(command.output()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) output: Lines<BufReader<ChildStdout>>,
    pub(crate) url: String,
    log: watch::Receiver<String>,
}

impl Running {
    pub(crate) async fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        // Read all the time: a program whose log nobody reads stands still.
        let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
        let (logged, mut log) = watch::channel(String::new());
        tokio::spawn(async move {
            while let Some(line) = errors.next_line().await.unwrap() {
                logged.send_modify(|log| log.extend([&line, "\n"]));
            }
        });
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let Some(line) = within(output.next_line()).await.unwrap() else { panic!("{}", to_its_end(&mut log).await) };
        let url = line.strip_prefix("listening on ").expect("the address comes first").to_owned();
        Self { child, output, url, log }
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        within(client().get(format!("{}{path}", self.url)).send()).await.unwrap()
    }

    /// Where probes are answered: what it says next.
    pub(crate) async fn admin(&mut self) -> String {
        let line = within(self.output.next_line()).await.unwrap().expect("it says where");
        line.strip_prefix("admin on ").expect("the address for probes comes next").to_owned()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.url.strip_prefix("http://").unwrap().parse().unwrap()
    }

    pub(crate) fn process(&self) -> Process {
        Process::new(self.child.id().unwrap())
    }

    /// Waits until `text` is in the log.
    pub(crate) async fn until_it_logs(&mut self, text: &str) {
        within(self.log.wait_for(|log| log.contains(text))).await.unwrap();
    }

    /// Asks it to stop; its exit code and everything it logged.
    pub(crate) async fn stop(self) -> (i32, String) {
        self.process().signal(Signal::TERM);
        self.end().await
    }

    /// Waits until it has ended; its exit code and everything it logged.
    pub(crate) async fn end(mut self) -> (i32, String) {
        let log = to_its_end(&mut self.log).await;
        (within(self.child.wait()).await.unwrap().code().unwrap(), log)
    }
}

/// All of a log, once nobody writes it any more.
async fn to_its_end(log: &mut watch::Receiver<String>) -> String {
    within(async { while log.changed().await.is_ok() {} }).await;
    log.borrow().clone()
}

pub(crate) async fn emulator() -> Emulator {
    Emulator::start(Options { word_delay: Duration::ZERO, ..Options::default() }).await.unwrap()
}

/// `serve`, configured with `--set`.
pub(crate) fn serve(azure: &Emulator) -> Command {
    let mut command = program();
    for setting in demo_settings(azure) {
        command.arg("--set").arg(setting);
    }
    command
}

pub(crate) fn executable(path: &Path, script: &str) {
    // Written by a child: a file that this process has open for writing cannot be run, and whatever another test starts
    // meanwhile has it open too.
    let mut child = std::process::Command::new("/bin/sh");
    let mut child =
        child.args(["-c", "cat > \"$0\" && chmod 755 \"$0\""]).arg(path).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Whether the program can be started in namespaces of its own here, made by `unshare` with these `arguments`.
pub(crate) async fn has_namespaces(arguments: &[&str]) -> bool {
    let has = Command::new("unshare").args(arguments).arg("true").status().await.is_ok_and(|status| status.success());
    if !has {
        eprintln!("skipped: no such namespaces can be made here");
    }
    has
}

/// A stream of `running` whose first event has come, and that the resource holds back if it was told to.
pub(crate) async fn stream(running: &Running, http2: bool) -> (Caller, Incoming) {
    let mut caller = Caller::connect(running.address(), http2).await;
    let request = Request::post("/v1/chat/completions").header("content-type", "application/json");
    let response = within(caller.send(request.body(Body::from(chat(true).to_string())).unwrap())).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut content = response.into_body();
    assert!(within(content.frame()).await.unwrap().is_ok(), "the first event");
    (caller, content)
}

/// One that the resource holds back.
pub(crate) async fn held_stream(running: &Running, azure: &Emulator) -> (Caller, Incoming) {
    held_streams(running, azure, [false]).await.remove(0)
}

/// Streams that the resource holds back, each on a connection of its own, over HTTP/2 where that is said.
pub(crate) async fn held_streams(
    running: &Running,
    azure: &Emulator,
    versions: impl IntoIterator<Item = bool>,
) -> Vec<(Caller, Incoming)> {
    let versions: Vec<_> = versions.into_iter().collect();
    let count = u32::try_from(versions.len()).unwrap();
    azure.control().fault(Fault::new(Route::Chat, Action::Hold { after_events: 1 }).times(count));
    let mut streams = Vec::new();
    for http2 in versions {
        streams.push(stream(running, http2).await);
    }
    within(azure.control().until(|state| state.streams_held == u64::from(count))).await;
    streams
}
