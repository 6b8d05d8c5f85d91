//! What a renewal of the token costs the requests that pass meanwhile: `cargo bench --bench token_rollover`.
//!
//! The proxy stands between a load generator and the embedded Azure, on a clock that runs two thousand times as fast. Rounds
//! in which a token is renewed every three seconds, by a metadata service that takes half a second to answer, alternate
//! with rounds in which it is not. Requests count that ended while a token was on its way or within a quarter of a second
//! after: whatever waited for a renewal, or tripped over the exchange of tokens, is among them. The longest request is looked for
//! in the whole round.

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on stops")]

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use aoai_auth_proxy::app::{App, Books};
use aoai_auth_proxy::clock::{Clock, SystemClock};
use aoai_auth_proxy::config::{Config, Overrides};
use aoai_auth_proxy::emulator::{Action, Emulator, Fault, Options, Route};
use aoai_auth_proxy::identity::credential::Credentials;
use aoai_auth_proxy::lifecycle::Lifecycle;
use aoai_auth_proxy::server::{Listeners, serve};
use aoai_auth_proxy::tls;
use aoai_auth_proxy::workers::Workers;
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::sleep;

const CONNECTIONS: usize = 8;
const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_secs(10);
/// Before the measurement, so that connections are open and code is warm.
const WARM_UP: Duration = Duration::from_secs(1);
/// How much faster the clock runs than time.
const PACE: u32 = 2000;
/// Renewed after an hour of the clock's: 1.8 s.
const SHORT_LIFE: Duration = Duration::from_secs(2 * 60 * 60);
const LONG_LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// A renewal's duration, a quarter of an hour of the clock's.
const RENEWAL: Duration = Duration::from_millis(500);
/// How long after a renewal its effects are looked for.
const AFTERMATH: Duration = Duration::from_millis(250);

/// A clock that hurries.
#[derive(Debug)]
struct Hurried {
    began: Instant,
    at: SystemTime,
}

impl Clock for Hurried {
    fn now(&self) -> SystemTime {
        self.at + self.began.elapsed() * PACE
    }

    fn wait_until(&self, deadline: SystemTime) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let left = deadline.duration_since(self.now()).unwrap_or_default() / PACE;
        Box::pin(sleep(left))
    }
}

struct Round {
    renewals: u64,
    latency: Histogram<u64>,
    /// Of those that do not count, too.
    longest: Duration,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |share: f64| self.latency.value_at_quantile(share);
        write!(
            f,
            "{:>9} {:>9} {:>8} {:>8} {:>8} {:>8}",
            self.renewals,
            self.latency.len(),
            at(0.5),
            at(0.99),
            at(0.999),
            self.longest.as_micros()
        )
    }
}

/// The proxy, on threads of its own, ended with the round.
struct Proxy {
    runtime: Option<Runtime>,
    address: String,
}

impl Proxy {
    async fn start(azure: &Emulator, clock: Arc<Hurried>) -> Self {
        let settings = [
            "listen.address=127.0.0.1:0".to_owned(),
            format!("upstream.endpoint={}", azure.openai()),
            format!("upstream.ca_file={}", azure.ca_file().display()),
            "credential.kind=managed-identity".to_owned(),
            format!("credential.imds_endpoint={}", azure.imds()),
        ];
        let overrides = Overrides { assignments: settings.to_vec(), ..Overrides::default() };
        let config = Config::isolated(&overrides).expect("a configuration");
        let runtime = Runtime::new().expect("a runtime");
        let serving = async move {
            let tls = tls::client(&config.upstream.authorities).expect("TLS");
            let credentials = Credentials::new(&config, tls.clone(), clock.clone()).expect("credentials");
            let lifecycle = Lifecycle::new();
            let app = App::new(&config, &tls, &credentials, clock.clone(), lifecycle.clone(), Books::default())
                .expect("an app");
            let listeners = Listeners::bind(&config.listen, &config.access.peer_users).expect("a socket");
            let address = listeners.address().expect("its address").to_string();
            app.start();
            tokio::spawn(async move { serve(listeners, app, config.limits, lifecycle, clock, &Workers::none()).await });
            address
        };
        let address = runtime.spawn(serving).await.expect("the proxy");
        Self { runtime: Some(runtime), address }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
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

async fn round(azure: &Emulator, clock: Arc<Hurried>, lifetime: Duration) -> Round {
    azure.control().clear_faults();
    azure.control().set_token_lifetime(lifetime);
    // Otherwise the metadata service hands out what it has while that is good, and a renewal brings nothing new.
    azure.control().set_metadata_cache(false);
    azure.control().revoke_tokens(true);
    let proxy = Proxy::start(azure, clock).await;
    let counts = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    let began = Instant::now();
    for _ in 0..CONNECTIONS {
        let mut sender = connect(&proxy.address).await;
        let counts = counts.clone();
        callers.spawn(async move {
            let (mut latency, mut longest) = (histogram(), Duration::ZERO);
            while began.elapsed() < WARM_UP + ROUND {
                let took = ask(&mut sender).await;
                longest = longest.max(took);
                if counts.load(Ordering::Relaxed) {
                    latency.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX)).expect("it resizes");
                }
            }
            (latency, longest)
        });
    }
    sleep(WARM_UP).await;
    azure.control().fault(Fault::new(Route::Imds, Action::Delay { ms: 500 }));
    let renewals = watch(azure, &counts, began + WARM_UP + ROUND, lifetime).await;
    let (mut latency, mut longest) = (histogram(), Duration::ZERO);
    while let Some(one) = callers.join_next().await {
        let (one, long) = one.expect("a caller");
        latency.add(one).expect("the same kind of histogram");
        longest = longest.max(long);
    }
    azure.control().clear_requests();
    Round { renewals, latency, longest }
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits")
}

/// Lets requests count while a renewal is on its way and a little longer. Where there is none, as often and as long.
async fn watch(azure: &Emulator, counts: &AtomicBool, end: Instant, lifetime: Duration) -> u64 {
    let mut renewals = 0;
    while Instant::now() < end {
        let before = azure.control().count(Route::Imds);
        let begun = async {
            if lifetime == SHORT_LIFE {
                azure.control().until(|state| state.count(Route::Imds) > before).await;
                renewals += 1;
            } else {
                sleep(lifetime_in_reality(SHORT_LIFE) / 2).await;
            }
        };
        if tokio::time::timeout_at(end.into(), begun).await.is_err() {
            break;
        }
        counts.store(true, Ordering::Relaxed);
        sleep(RENEWAL + AFTERMATH).await;
        counts.store(false, Ordering::Relaxed);
    }
    renewals
}

fn lifetime_in_reality(lifetime: Duration) -> Duration {
    lifetime / PACE
}

fn median(rounds: &[Round], share: f64) -> u64 {
    let mut values: Vec<u64> = rounds.iter().map(|round| round.latency.value_at_quantile(share)).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

#[tokio::main]
async fn main() {
    let clock = Arc::new(Hurried { began: Instant::now(), at: SystemClock.now() });
    let options = Options { clock: clock.clone(), word_delay: Duration::ZERO, ..Options::default() };
    let azure = Emulator::start(options).await.expect("an Azure");
    let (mut still, mut rolling) = (Vec::new(), Vec::new());
    println!(
        "{:<10} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8}",
        "token", "renewals", "requests", "p50 us", "p99", "p99.9", "longest"
    );
    for _ in 0..ROUNDS {
        for (name, lifetime, rounds) in [("kept", LONG_LIFE, &mut still), ("renewed", SHORT_LIFE, &mut rolling)] {
            let round = round(&azure, clock.clone(), lifetime).await;
            println!("{name:<10} {round}");
            rounds.push(round);
        }
    }
    for share in [0.5, 0.99, 0.999] {
        let (kept, renewed) = (median(&still, share), median(&rolling, share));
        #[expect(clippy::cast_precision_loss, reason = "microseconds")]
        let ratio = renewed as f64 / kept as f64;
        println!("p{:<5} median of rounds: kept {kept} us, renewed {renewed} us, {ratio:.3} x", share * 100.0);
    }
}
