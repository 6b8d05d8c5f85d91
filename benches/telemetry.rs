//! What it costs to tell of a request, on all threads together: `cargo bench --locked --bench telemetry`.
//!
//! Each way to tell is tried in a process of its own, whose requests go nowhere; whoever listens to it is in this one, and
//! costs it nothing. `-- --plain N` does N requests that only `/metrics` and `/status` tell of, and whose content is not read:
//! for a profiler.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on fails")]

use std::env;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use aoai_auth_proxy::apps::Apps;
use aoai_auth_proxy::clock::{SharedClock, SystemClock};
use aoai_auth_proxy::config::{Config, Environment, Overrides};
use aoai_auth_proxy::ledger::Ledger;
use aoai_auth_proxy::telemetry::exchange::{Exchange, Route};
use aoai_auth_proxy::telemetry::history::History;
use aoai_auth_proxy::telemetry::logs;
use aoai_auth_proxy::telemetry::metrics::Metrics;
use aoai_auth_proxy::telemetry::otlp::Export;
use aoai_auth_proxy::telemetry::recorder::{Observer, Recorder};
use aoai_auth_proxy::tls;
use aoai_auth_proxy::workers::{Shared, Workers};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use nix::sys::resource::{UsageWho, getrusage};

/// Requests that are measured.
const REQUESTS: u32 = 100_000;
/// So many come at once, and then none for a moment: nothing is dropped, and threads have reason to sleep.
const AT_ONCE: u32 = 64;
const MOMENT: Duration = Duration::from_millis(3);

const CONTENT: &[u8] = br#"{"id":"chatcmpl-1","object":"chat.completion","created":1763740800,"model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,"message":{"role":"assistant","content":"Here you are."},"finish_reason":"stop"}],"usage":{"prompt_tokens":19,"completion_tokens":96,"total_tokens":115,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}"#;

/// What a process is told to tell, beside what it always does.
const WAYS: [(&str, &str); 8] = [
    ("nothing more", ""),
    ("log lines as text", "text"),
    ("log lines as JSON", "json"),
    ("ledger", "ledger"),
    ("OTLP spans", "spans"),
    ("OTLP metrics", "metrics"),
    ("all, with text", "text ledger spans metrics"),
    ("all, with JSON", "json ledger spans metrics"),
];

fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--plain", requests] => tell("", requests.parse().unwrap(), None),
        ["--tell", ways, collector] => tell(ways, REQUESTS, Some(collector)),
        _ => compare(),
    }
}

/// Runs each way, and prints what it costs.
fn compare() {
    let collector = collector();
    println!("{:<20} {:>14} {:>14}", "told", "ns a request", "more");
    let mut least = None;
    for (name, ways) in WAYS {
        let mut costs: Vec<f64> = (0..3).map(|_| cost(ways, &collector)).collect();
        costs.sort_by(f64::total_cmp);
        let least = *least.get_or_insert(costs[1]);
        println!("{name:<20} {:>14.0} {:>14.0}", costs[1], costs[1] - least);
    }
}

/// Nanoseconds of all threads for each request.
fn cost(ways: &str, collector: &str) -> f64 {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--tell", ways, collector]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut log = child.stderr.take().unwrap();
    let reader = thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    let output = child.wait_with_output().unwrap();
    reader.join().unwrap().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().expect("a number")
}

/// Takes whatever is sent to it.
fn collector() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || take(stream.unwrap()));
        }
    });
    url
}

fn take(mut stream: TcpStream) -> std::io::Result<()> {
    let (mut seen, mut piece) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let read = stream.read(&mut piece)?;
        if read == 0 {
            return Ok(());
        }
        seen.extend_from_slice(&piece[..read]);
        let Some(head) = seen.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&seen[..head]).to_ascii_lowercase();
        let (_, length) = text.split_once("content-length: ").expect("a length");
        let length: usize = length.lines().next().unwrap().parse().unwrap();
        if seen.len() >= head + 4 + length {
            seen.clear();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
        }
    }
}

/// What a request is accounted with.
struct Told {
    apps: Apps,
    recorder: Shared<Recorder>,
    fields: HeaderMap,
}

impl Told {
    fn request(&self) {
        let id = HeaderValue::from_static("f74d2677-99ec-4682-9e85-9757846506c0");
        let request = Request::post("/v1/chat/completions").body(()).unwrap();
        let app = self.apps.identify(request.headers()).near();
        let mut exchange = Exchange::begin(Method::POST, "/v1/chat/completions", id, app, self.recorder.near());
        exchange.comes_as(&request);
        exchange.routed(Route::Resource);
        exchange.asks().names("gpt-4o-mini");
        exchange.asks().goes();
        exchange.receives(StatusCode::OK, &self.fields);
        exchange.answered(StatusCode::OK);
        exchange.passes(CONTENT);
        exchange.completed();
    }
}

/// Tells of so many requests in these ways; prints what each cost if there is somebody to tell.
fn tell(ways: &str, requests: u32, collector: Option<&str>) {
    let has = |way| ways.split(' ').any(|known| known == way);
    let directory = tempfile::tempdir().unwrap();
    let mut assignments = vec!["upstream.endpoint=http://127.0.0.1:9".to_owned(), "usage.enabled=true".to_owned()];
    assignments.push(format!("usage.database={}", directory.path().join("usage.db").display()));
    assignments.push(format!("telemetry.log_format={}", if has("json") { "json" } else { "text" }));
    assignments.push(format!("telemetry.log_level={}", if has("json") || has("text") { "info" } else { "off" }));
    assignments.extend(collector.map(|url| format!("telemetry.otlp_endpoint={url}")));
    let mut config = Config::isolated(&Overrides { assignments, ..Overrides::default() }).unwrap();
    if let Some(otlp) = &mut config.telemetry.otlp {
        otlp.traces = otlp.traces.filter(|_| has("spans"));
        otlp.metrics = has("metrics");
    }
    let logs = logs::start(&config.telemetry, &Environment::default()).unwrap();
    logs.write().unwrap();
    let clock: SharedClock = Arc::new(SystemClock);
    let mut ledger = has("ledger").then(|| Ledger::open(config.ledger.as_ref().unwrap(), clock.clone()).unwrap());
    if let Some(ledger) = &mut ledger {
        ledger.begin().unwrap();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let tls = tls::client(&[]).unwrap();
    let export = runtime.block_on(async { Export::start(&config, tls, clock.clone()).unwrap() });

    let apps = Apps::new(&config);
    let metrics = Arc::new(Metrics::new(&apps).unwrap());
    let mut observers: Vec<Arc<dyn Observer>> = ledger.iter().map(Ledger::observer).collect();
    observers.extend(export.iter().map(Export::observer));
    observers.extend([Arc::new(History::new(clock.clone())) as Arc<dyn Observer>, metrics]);
    let kind = if collector.is_some() { "application/json" } else { "text/plain" };
    let fields = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
    let told = Told { apps, recorder: Shared::new(Recorder::new(observers, clock)), fields };
    if collector.is_none() {
        (0..requests).for_each(|_| told.request());
        return;
    }
    let (workers, (over, is_over)) = (Workers::start().unwrap(), mpsc::channel());
    let before = cpu();
    workers.crew().serve(async move {
        for number in 0..requests {
            told.request();
            if number % AT_ONCE == 0 {
                tokio::time::sleep(MOMENT).await;
            }
        }
        over.send(()).unwrap();
    });
    is_over.recv().unwrap();
    drop(workers);
    runtime.block_on(async {
        if let Some(export) = export {
            export.end().await;
        }
    });
    drop(ledger);
    drop(logs);
    let spent = cpu().checked_sub(before).unwrap();
    println!("{}", spent.as_secs_f64() * 1e9 / f64::from(requests));
}

/// What this process has spent so far.
fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    [usage.user_time(), usage.system_time()]
        .into_iter()
        .map(|time| Duration::new(time.tv_sec().try_into().unwrap(), u32::try_from(time.tv_usec()).unwrap() * 1000))
        .sum()
}
