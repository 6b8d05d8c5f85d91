//! `health`: asks a running proxy how it is, for exec probes and for scripts that wait.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep, timeout};

use super::{Failure, block_on, say};
use crate::config::{Config, Environment, Overrides};
use crate::error::Causes;

/// How long one question may take; an exec probe has no more patience either.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait before asking again.
const PAUSE: Duration = Duration::from_millis(100);
/// More than any answer has.
const LONGEST_ANSWER: usize = 64 * 1024;

/// What is asked.
#[derive(Debug, Args)]
pub(super) struct Health {
    /// Ask whether it is ready to pass requests on, not only whether it serves.
    #[arg(long)]
    ready: bool,
    /// Ask again until it is so, for at most this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u32,
}

pub(super) fn run(environment: &Environment, overrides: &Overrides, asked: &Health) -> Result<(), Failure> {
    let config = Config::load(environment, overrides)?;
    // Whoever says where means that and nothing else.
    let is_named = overrides.named.iter().any(|(option, ..)| *option == "--listen");
    let door = Door::of(&config, is_named).map_err(|problem| Failure::Unwell(problem.to_owned()))?;
    block_on(ask_until(&config, &door, asked))
}

/// Where the proxy is asked.
enum Door {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Door {
    /// The listener for probes if there is one, because it answers however many callers there are, and while they leave.
    fn of(config: &Config, is_named: bool) -> Result<Self, &'static str> {
        let admin = config.admin.map(|admin| admin.address).filter(|address| !is_named && address.port() != 0);
        match (admin.or(config.listen.tcp), &config.listen.unix) {
            (Some(address), _) if address.port() == 0 => Err(
                "listen.address has port 0, and which port the running proxy got is not known here; name it with --listen",
            ),
            (Some(address), _) => Ok(Self::Tcp(SocketAddr::new(near(address.ip()), address.port()))),
            (None, Some(socket)) => Ok(Self::Unix(socket.clone())),
            (None, None) => Err("the configuration names no address"),
        }
    }
}

async fn ask_until(config: &Config, door: &Door, asked: &Health) -> Result<(), Failure> {
    let until = Instant::now() + Duration::from_secs(asked.wait.into());
    let path = if asked.ready { "/readyz" } else { "/healthz" };
    loop {
        // Of a time that was given, the last question has what is left.
        let left = until.saturating_duration_since(Instant::now());
        let patience = if left.is_zero() { PATIENCE } else { left.min(PATIENCE) };
        let answer = timeout(patience, ask(config, door, path)).await;
        let problem = match answer.unwrap_or_else(|_| Err(format!("no answer within {} s", patience.as_secs().max(1))))
        {
            Ok(word) => {
                say(&word);
                return Ok(());
            }
            Err(problem) => problem,
        };
        if Instant::now() + PAUSE > until {
            return Err(Failure::Unwell(problem));
        }
        sleep(PAUSE).await;
    }
}

/// What the proxy says, if all is well.
async fn ask(config: &Config, door: &Door, path: &str) -> Result<String, String> {
    let host = config.access.hosts.first().map_or("localhost", |host| host.as_str());
    match door {
        Door::Tcp(address) => {
            let stream = TcpStream::connect(address).await.map_err(|error| format!("{address}: {error}"))?;
            exchange(stream, host, path).await
        }
        Door::Unix(socket) => {
            let name = socket.display();
            let stream = UnixStream::connect(socket).await.map_err(|error| format!("unix:{name}: {error}"))?;
            exchange(stream, host, path).await
        }
    }
}

/// Where an address that stands for all can be reached from here.
pub(super) fn near(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(all) if all.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(all) if all.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    host: &str,
    path: &str,
) -> Result<String, String> {
    let told = |error: hyper::Error| Causes(&error).to_string();
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(told)?;
    let connection = tokio::spawn(connection);
    let request =
        Request::get(path).header(HOST, host).body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let (head, content) = sender.send_request(request).await.map_err(told)?.into_parts();
    let content = Limited::new(content, LONGEST_ANSWER).collect().await.map_err(|error| error.to_string())?.to_bytes();
    connection.abort();
    let said: Value =
        serde_json::from_slice(&content).map_err(|_| format!("{}: what answers is no proxy of ours", head.status))?;
    match (head.status, said["status"].as_str()) {
        (StatusCode::OK, Some(word)) => Ok(word.to_owned()),
        (status, _) => Err(format!("{status}: {}", reasons(&said))),
    }
}

/// Why not, in the proxy's own words.
fn reasons(said: &Value) -> String {
    let listed = said["reasons"].as_array().into_iter().flatten();
    let reasons: Vec<&str> = listed.chain([&said["error"]]).filter_map(|reason| reason["message"].as_str()).collect();
    if reasons.is_empty() { "it does not say why".to_owned() } else { reasons.join("; ") }
}
