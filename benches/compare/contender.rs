//! Who is compared: our program, and proxies that do the same job: a bearer in, the path written anew, TLS to the resource
//! verified, connections kept, no access log.

use std::ffi::OsString;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use aoai_auth_proxy::emulator::Emulator;
use aoai_auth_proxy::emulator::world::SERVICE_PRINCIPAL;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::process::Tree;
use crate::upstream::Upstream;
use crate::work::Work;

/// The build of our program that was named, instead of cargo's.
pub(crate) static OURS: OnceLock<OsString> = OnceLock::new();
/// Another build of it, if one was named.
pub(crate) static OTHER: OnceLock<OsString> = OnceLock::new();
/// What this program is told to be a relay by.
pub(crate) const RELAY: &str = "relay";
/// How long a program has to start.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long it has to end, once it was told to.
const LAST_PATIENCE: Duration = Duration::from_secs(3);
/// What tokens of ours are for.
const AUDIENCE: &str = "https://cognitiveservices.azure.com";

/// Somebody who passes requests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Contender {
    /// Our program: the log off.
    Ours,
    /// The same, over HTTP/2 to the resource.
    Http2,
    /// Our program with everything that can be observed: a line for each request, the ledger, spans and metrics for a collector.
    Observed,
    /// Another build of it, its log off.
    Other,
    /// Debian's.
    Nginx,
    /// Debian's.
    Haproxy,
    /// Nobody's: see [`crate::relay`].
    Relay,
}

/// One that runs.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    child: Child,
    /// How long it took from its start to the first answer.
    pub(crate) started_in: Duration,
    directory: TempDir,
}

impl Contender {
    pub(crate) const ALL: [Self; 7] =
        [Self::Ours, Self::Http2, Self::Observed, Self::Other, Self::Nginx, Self::Haproxy, Self::Relay];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "aoai-auth-proxy",
            Self::Http2 => "the same, HTTP/2",
            Self::Observed => "the same, observed",
            Self::Other => "another build",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Relay => "a raw relay",
        }
    }

    /// The one that is called so on the command line.
    pub(crate) fn called(word: &str) -> Option<Self> {
        let words = ["ours", "http2", "observed", "other", "nginx", "haproxy", "relay"];
        words.into_iter().zip(Self::ALL).find(|(name, _)| *name == word).map(|(_, contender)| contender)
    }

    /// Whether there is such a program on this machine.
    pub(crate) fn is_installed(self) -> bool {
        let program = match self {
            Self::Ours | Self::Http2 | Self::Observed | Self::Relay => return true,
            Self::Other => return OTHER.get().is_some(),
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        };
        Command::new(program)
            .arg("-v")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    /// Whether it takes part: a relay shows how little small questions can cost, and makes nothing of the rest.
    pub(crate) fn does(self, work: Work) -> bool {
        self != Self::Relay || matches!(work, Work::Small | Work::One | Work::Rate)
    }

    pub(crate) fn start(self, upstream: &Upstream, azure: &Emulator) -> Running {
        let directory = tempfile::tempdir().expect("a directory");
        let address = free_address();
        let command = match self {
            Self::Ours => ours(built(), address, upstream, azure, &quiet()),
            Self::Http2 => {
                let endpoint = format!("upstream.endpoint=https://{}", upstream.http2);
                ours(built(), address, upstream, azure, &[quiet(), vec![endpoint]].concat())
            }
            Self::Observed => ours(built(), address, upstream, azure, &observed(upstream, directory.path())),
            Self::Other => ours(OTHER.get().expect("a program").clone(), address, upstream, azure, &quiet()),
            Self::Nginx => nginx(address, upstream, &bearer(azure), directory.path()),
            Self::Haproxy => haproxy(address, upstream, &bearer(azure), directory.path()),
            Self::Relay => relay(address, upstream, &bearer(azure)),
        };
        Running::start(command, address, directory)
    }
}

impl Running {
    fn start(mut command: Command, address: SocketAddr, directory: TempDir) -> Self {
        let log = fs::File::create(directory.path().join("log")).expect("a file");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let began = Instant::now();
        let child = command.spawn().expect("the program");
        while TcpStream::connect(address).is_err() {
            if began.elapsed() > PATIENCE {
                let log = fs::read_to_string(directory.path().join("log")).unwrap_or_default();
                panic!("{command:?} does not answer: {log}");
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Self { address, child, started_in: began.elapsed(), directory }
    }

    pub(crate) fn tree(&self) -> Tree {
        Tree::of(self.child.id())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let processes = self.tree().processes();
        send(self.child.id(), Signal::TERM);
        let began = Instant::now();
        while began.elapsed() < LAST_PATIENCE && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(1));
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            // Its children with it: a process whose parent is gone would go on.
            processes.into_iter().rev().for_each(|process| send(process, Signal::KILL));
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            eprintln!("what it said:\n{}", log.lines().take(20).collect::<Vec<_>>().join("\n"));
        }
    }
}

/// It may have gone by itself.
fn send(process: u32, signal: Signal) {
    let pid = Pid::from_raw(process.cast_signed()).expect("a process has a number");
    let _ = kill_process(pid, signal);
}

/// Our program.
fn built() -> OsString {
    OURS.get().cloned().unwrap_or_else(|| env!("CARGO_BIN_EXE_aoai-auth-proxy").into())
}

/// One that nobody has at the moment.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("an address")
}

fn ours(program: OsString, address: SocketAddr, upstream: &Upstream, azure: &Emulator, settings: &[String]) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", "/nonexistent").env("AZURE_POD_IDENTITY_AUTHORITY_HOST", azure.imds());
    let own = [
        format!("listen.address={address}"),
        format!("upstream.endpoint=https://{}", upstream.address),
        format!("upstream.ca_file={}", upstream.ca_file().display()),
        "credential.kind=managed-identity".to_owned(),
        "limits.max_connections=20000".to_owned(),
        "limits.max_in_flight=20000".to_owned(),
    ];
    for setting in own.iter().chain(settings) {
        command.args(["--set", setting]);
    }
    command
}

fn quiet() -> Vec<String> {
    vec!["telemetry.log_level=error".to_owned()]
}

fn observed(upstream: &Upstream, directory: &Path) -> Vec<String> {
    vec![
        "telemetry.log_level=info".to_owned(),
        format!("telemetry.otlp_endpoint=http://{}", upstream.collector),
        "usage.enabled=true".to_owned(),
        format!("usage.database={}", directory.join("usage.db").display()),
    ]
}

/// What the peers send: always the same, and as long as what we do.
fn bearer(azure: &Emulator) -> String {
    azure.access_token(&SERVICE_PRINCIPAL, AUDIENCE)
}

fn nginx(address: SocketAddr, upstream: &Upstream, bearer: &str, directory: &Path) -> Command {
    let (directory, ca) = (directory.display(), upstream.ca_file());
    let configuration = format!(
        "daemon off; worker_processes auto; pid {directory}/pid; error_log stderr error;
events {{ worker_connections 9000; }}
http {{
  access_log off; client_max_body_size 0; keepalive_requests 1000000000; server_tokens off;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  upstream resource {{ server {resource}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen {address} backlog=4096;
    location /v1/ {{
      proxy_pass https://resource/openai/v1/;
      proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host 127.0.0.1;
      proxy_set_header Authorization \"Bearer {bearer}\";
      proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 1h;
      proxy_ssl_verify on; proxy_ssl_name localhost; proxy_ssl_server_name off; proxy_ssl_trusted_certificate {ca};
      proxy_ssl_session_reuse on;
    }}
  }}
}}
",
        resource = upstream.address,
        ca = ca.display(),
    );
    let file = format!("{directory}/nginx.conf");
    fs::write(&file, configuration).expect("a file");
    let mut command = Command::new("nginx");
    command.args(["-p", &directory.to_string(), "-c", &file, "-e", "stderr"]);
    command
}

fn relay(address: SocketAddr, upstream: &Upstream, bearer: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    let [address, resource] = [address, upstream.address].map(|address| address.to_string());
    command.args([RELAY, &address, &resource]).arg(upstream.ca_file()).arg(bearer);
    command
}

fn haproxy(address: SocketAddr, upstream: &Upstream, bearer: &str, directory: &Path) -> Command {
    let configuration = format!(
        "global
  maxconn 9000
  tune.ssl.default-dh-param 2048
defaults
  mode http
  maxconn 9000
  timeout connect 10s
  timeout client 1h
  timeout server 1h
  option http-keep-alive
  http-reuse always
frontend callers
  bind {address} backlog 4096
  http-request set-header authorization \"Bearer {bearer}\"
  http-request set-header host 127.0.0.1
  http-request replace-path /v1/(.*) /openai/v1/\\1
  default_backend resource
backend resource
  server resource {resource} ssl verify required ca-file {ca} verifyhost localhost alpn http/1.1
",
        resource = upstream.address,
        ca = upstream.ca_file().display(),
    );
    let file = directory.join("haproxy.cfg");
    fs::write(&file, configuration).expect("a file");
    let mut command = Command::new("haproxy");
    command.args(["-db", "-q", "-f"]).arg(file);
    command
}
