//! A gateway of several programs behind a load balancer, restarted one after the other while callers go on: nobody notices. The
//! balancer (`HAProxy`) does nothing that `deploy/kubernetes` does not ask of a Service: who is about to leave gets no new
//! connection, who is ready gets some, and nothing is tried twice.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use aoai_auth_proxy::emulator::{Action, Emulator, Fault, Route};
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::caller::Caller;
use crate::lifecycle::Reserved;
use crate::program::{Running, emulator, serve};
use crate::support::{chat, client, within};

const REPLICAS: usize = 3;
const CALLERS: usize = 6;
/// How many requests each caller makes at least.
const LEAST: usize = 30;

/// A replica's ports, which it keeps from one life to the next.
struct Place {
    callers: Reserved,
    probes: Reserved,
}

impl Place {
    fn new() -> Self {
        Self { callers: Reserved::new(), probes: Reserved::new() }
    }

    /// Starts a replica there; returns once it is ready.
    async fn start(&self, azure: &Emulator) -> Running {
        let settings =
            [format!("listen.address={}", self.callers.address), format!("admin.address={}", self.probes.address)];
        let mut command = serve(azure);
        for setting in &settings {
            command.args(["--set", setting]);
        }
        let running = Running::start(&mut command).await;
        let probe = client().get(format!("http://{}/readyz", self.probes.address));
        within(async {
            while probe.try_clone().unwrap().send().await.unwrap().status() != 200 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        running
    }
}

/// A load balancer in front of all places.
struct Balancer {
    _child: Child,
    directory: tempfile::TempDir,
}

impl Balancer {
    async fn start(places: &[Place]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().display();
        let mut text = format!(
            "global\n  stats socket {at}/control mode 600 level admin\n\
             defaults\n  mode http\n  retries 0\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n\
             frontend callers\n  bind unix@{at}/callers\n  default_backend replicas\n\
             backend replicas\n  balance roundrobin\n"
        );
        for (index, place) in places.iter().enumerate() {
            writeln!(text, "  server r{index} {}", place.callers.address).unwrap();
        }
        let file = directory.path().join("haproxy.cfg");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new("haproxy");
        command.args(["-db", "-q", "-f"]).arg(file).stdin(Stdio::null()).kill_on_drop(true);
        let balancer = Self { _child: command.spawn().unwrap(), directory };
        within(async {
            while UnixStream::connect(balancer.path("callers")).await.is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        balancer
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    async fn tell(&self, order: &str) -> String {
        let mut stream = UnixStream::connect(self.path("control")).await.unwrap();
        stream.write_all(format!("{order}\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.unwrap();
        answer
    }

    async fn set(&self, replica: usize, state: &str) {
        let answer = self.tell(&format!("set server replicas/r{replica} state {state}")).await;
        assert_eq!(answer.trim(), "", "{answer}");
    }

    /// How many requests a replica has under way.
    async fn under_way(&self, replica: usize) -> usize {
        let stat = self.tell("show stat").await;
        let mut lines = stat.lines();
        let column = lines.next().unwrap().split(',').position(|name| name == "scur").unwrap();
        let line = lines.find(|line| line.starts_with(&format!("replicas,r{replica},"))).unwrap();
        line.split(',').nth(column).unwrap().parse().unwrap()
    }

    /// As Kubernetes does: no new connections, time for those that were on their way, SIGTERM, the end.
    async fn retire(&self, replica: usize, running: Running, stays: usize) -> (i32, String) {
        self.set(replica, "drain").await;
        within(async { while self.under_way(replica).await > stays {} }).await;
        running.process().signal(Signal::TERM);
        running.end().await
    }
}

/// One request, over a connection of its own or one that is there; whether it was answered as it should be.
async fn asks(caller: &mut Caller, streams: bool) -> Result<(), String> {
    let request = Request::post("/v1/chat/completions").header("content-type", "application/json");
    let request = request.body(Body::from(chat(streams).to_string())).unwrap();
    let response = within(caller.send(request)).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let content = within(response.into_body().collect()).await.map_err(|error| error.to_string())?.to_bytes();
    let is_whole = if streams { content.ends_with(b"data: [DONE]\n\n") } else { content.ends_with(b"}") };
    if status == 200 && is_whole { Ok(()) } else { Err(format!("{status}: {}", String::from_utf8_lossy(&content))) }
}

/// Asks until it is said to be enough, over connections that are kept for a while; what failed.
async fn goes_on(balancer: &Path, number: usize, enough: &AtomicBool, made: &AtomicUsize) -> Vec<String> {
    let (mut failures, mut mine) = (Vec::new(), 0);
    while mine < LEAST || !enough.load(Ordering::Relaxed) {
        let mut caller = Caller::over(UnixStream::connect(balancer).await.unwrap(), false).await;
        for turn in 0..3 {
            failures.extend(asks(&mut caller, (number + turn).is_multiple_of(2)).await.err());
            mine += 1;
            made.fetch_add(1, Ordering::Relaxed);
        }
    }
    failures
}

#[tokio::test]
async fn replicas_are_restarted_one_after_the_other_and_no_request_fails() {
    if Command::new("haproxy").arg("-v").stdout(Stdio::null()).status().await.is_err() {
        return println!("skipped: there is no haproxy here");
    }
    let azure = emulator().await;
    let places: Vec<_> = (0..REPLICAS).map(|_| Place::new()).collect();
    let mut replicas = Vec::new();
    for place in &places {
        replicas.push(Some(place.start(&azure).await));
    }
    let balancer = Balancer::start(&places).await;

    // One that lasts longer than its replica has connections: the first in turn has it.
    azure.control().fault(Fault::new(Route::Chat, Action::Hold { after_events: 1 }).times(1));
    let mut caller = Caller::over(UnixStream::connect(balancer.path("callers")).await.unwrap(), false).await;
    let request = Request::post("/v1/chat/completions").header("content-type", "application/json");
    let lasting = within(caller.send(request.body(Body::from(chat(true).to_string())).unwrap())).await.unwrap();
    within(azure.control().until(|state| state.streams_held == 1)).await;
    let mut has_it = 0;
    while balancer.under_way(has_it).await == 0 {
        has_it += 1;
    }

    let (enough, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..CALLERS)
        .map(|number| {
            let (path, enough, made) = (balancer.path("callers"), enough.clone(), made.clone());
            tokio::spawn(async move { goes_on(&path, number, &enough, &made).await })
        })
        .collect();
    for step in 0..REPLICAS {
        let replica = (has_it + step) % REPLICAS;
        let running = replicas[replica].take().unwrap();
        let before = made.load(Ordering::Relaxed);
        let stays = usize::from(step == 0);
        let retired = balancer.retire(replica, running, stays);
        let others = async {
            // The others serve meanwhile.
            within(async {
                while made.load(Ordering::Relaxed) < before + CALLERS {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            azure.control().release();
        };
        let ((code, log), ()) = tokio::join!(retired, others);
        assert_eq!(code, 0, "{log}");
        assert!(!log.contains("cut off"), "{log}");
        replicas[replica] = Some(places[replica].start(&azure).await);
        balancer.set(replica, "ready").await;
    }
    assert!(within(lasting.into_body().collect()).await.unwrap().to_bytes().ends_with(b"data: [DONE]\n\n"));
    enough.store(true, Ordering::Relaxed);
    let mut failures = Vec::new();
    for caller in callers {
        failures.extend(within(caller).await.unwrap());
    }
    let made = made.load(Ordering::Relaxed);
    assert!(failures.is_empty(), "{} of {made}: {failures:?}", failures.len());
    assert!(made >= CALLERS * LEAST);
    println!("{made} requests, and none failed");
}
