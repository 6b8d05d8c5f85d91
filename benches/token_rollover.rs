//! What a renewal of the token costs the requests that pass meanwhile: `cargo bench --bench token_rollover`.
//!
//! The built proxy stands between a load generator and the embedded Azure. Rounds in which the token is renewed every two
//! seconds, by a metadata service that takes half a second to answer, alternate with rounds in which it is not. Whatever
//! waited for a renewal would stand out in the last thousandth: about a hundred requests a round, of which 64 are under way
//! whenever a token is renewed.

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on stops")]

use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aoai_auth_proxy::emulator::{Action, Emulator, Fault, Options, Route};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const CONNECTIONS: usize = 64;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(10);
/// Before the measurement, so that connections are open and code is warm.
const WARM_UP: Duration = Duration::from_secs(1);
/// A token is not sent in its last ten seconds: this one is renewed every two.
const SHORT_LIFE: Duration = Duration::from_secs(12);
const LONG_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
const SLOW_ANSWER: Action = Action::Delay { ms: 500 };

struct Round {
    renewals: u64,
    latency: Histogram<u64>,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |share: f64| self.latency.value_at_quantile(share);
        write!(
            f,
            "{:>9} {:>9} {:>8} {:>8} {:>8} {:>8}",
            self.renewals,
            self.latency.len() / ROUND.as_secs(),
            at(0.5),
            at(0.99),
            at(0.999),
            self.latency.max()
        )
    }
}

/// The proxy, ended with the round.
struct Proxy {
    child: Child,
    address: String,
}

impl Proxy {
    fn start(azure: &Emulator) -> Self {
        let settings = [
            "listen.address=127.0.0.1:0".to_owned(),
            format!("upstream.endpoint={}", azure.openai()),
            format!("upstream.ca_file={}", azure.ca_file().display()),
            "credential.kind=managed-identity".to_owned(),
            format!("credential.imds_endpoint={}", azure.imds()),
            "telemetry.log_level=error".to_owned(),
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_aoai-auth-proxy"));
        command.env_clear().stdout(Stdio::piped()).stdin(Stdio::null());
        for setting in settings {
            command.arg("--set").arg(setting);
        }
        let mut child = command.spawn().expect("the proxy");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("its first line");
        let address = line.trim().strip_prefix("listening on http://").expect("its address").to_owned();
        Self { child, address }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("the proxy ends");
    }
}

async fn connect(address: &str) -> SendRequest<Full<Bytes>> {
    let socket = TcpStream::connect(address).await.expect("a connection");
    socket.set_nodelay(true).expect("an option");
    let (sender, connection) = handshake(TokioIo::new(socket)).await.expect("a handshake");
    tokio::spawn(connection);
    sender
}

/// One request; its latency, to the last byte.
async fn ask(sender: &mut SendRequest<Full<Bytes>>) -> Duration {
    const CONTENT: &[u8] =
        br#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"one two three four five"}]}"#;
    let request =
        Request::post("/v1/chat/completions").header("host", "localhost").header("content-type", "application/json");
    let began = Instant::now();
    let response =
        sender.send_request(request.body(Full::from(CONTENT)).expect("a request")).await.expect("a response");
    assert_eq!(response.status(), 200);
    response.into_body().collect().await.expect("its content");
    began.elapsed()
}

async fn round(azure: &Emulator, lifetime: Duration) -> Round {
    azure.control().clear_faults();
    azure.control().set_token_lifetime(lifetime);
    azure.control().revoke_tokens(true);
    let proxy = Proxy::start(azure);
    let mut callers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let mut sender = connect(&proxy.address).await;
        callers.spawn(async move {
            let began = Instant::now();
            let mut latency = Histogram::new(3).expect("a histogram");
            while began.elapsed() < WARM_UP + ROUND {
                let took = ask(&mut sender).await;
                if began.elapsed() > WARM_UP {
                    latency.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
                }
            }
            latency
        });
    }
    azure.control().until(|state| state.count(Route::OpenAi) > 0).await;
    azure.control().fault(Fault::new(Route::Imds, SLOW_ANSWER));
    let before = azure.control().count(Route::Imds);
    let mut latency = Histogram::new(3).expect("a histogram");
    while let Some(one) = callers.join_next().await {
        latency.add(one.expect("a caller")).expect("the same kind of histogram");
    }
    let renewals = azure.control().count(Route::Imds) - before;
    azure.control().clear_requests();
    Round { renewals, latency }
}

fn median(rounds: &[Round], share: f64) -> u64 {
    let mut values: Vec<u64> = rounds.iter().map(|round| round.latency.value_at_quantile(share)).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

#[tokio::main]
async fn main() {
    let azure = Emulator::start(Options { word_delay: Duration::ZERO, ..Options::default() }).await.expect("an Azure");
    let (mut still, mut rolling) = (Vec::new(), Vec::new());
    println!(
        "{:<10} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8}",
        "token", "renewals", "req/s", "p50 us", "p99", "p99.9", "max"
    );
    for _ in 0..ROUNDS {
        for (name, lifetime, rounds) in [("kept", LONG_LIFE, &mut still), ("renewed", SHORT_LIFE, &mut rolling)] {
            let round = round(&azure, lifetime).await;
            println!("{name:<10} {round}");
            rounds.push(round);
        }
    }
    for share in [0.5, 0.99, 0.999] {
        let (kept, renewed) = (median(&still, share), median(&rolling, share));
        #[expect(clippy::cast_precision_loss, reason = "microseconds")]
        let ratio = renewed as f64 / kept as f64;
        println!("median of p{:<5} kept {kept} us, renewed {renewed} us: {ratio:.3} x", share * 100.0);
    }
}
