//! Endurance: `cargo bench --locked --bench soak -- --seconds 60`.
//!
//! The built program stands between callers and the embedded Azure: mixed traffic, callers who leave or read slowly, and a
//! resource that goes wrong when it is asked to. Every request knows whether it is to meet a fault, and each outcome must be
//! one that this explains. At the end, with everything idle, the program holds what it held after warming up. Then: how soon
//! the resource hears that a caller has left, what a stream costs that waits, and what the program holds while very long
//! content passes. All of it once over HTTP/1.1 to the resource and once over HTTP/2. Fails if anything is not as it should.

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on stops")]

#[path = "../../tests/integration/authority.rs"]
mod authority;
#[path = "../../tests/integration/bulk.rs"]
mod bulk;
#[path = "../../tests/integration/caller.rs"]
mod caller;
mod faults;
mod leaving;
mod long;
#[path = "../../tests/integration/process.rs"]
mod process;
mod program;
mod tally;
mod traffic;
mod waiting;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aoai_auth_proxy::emulator::{Emulator, Options};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use process::MIB;
use program::Program;
use traffic::Stage;

/// How long it takes if nobody says how long.
const SECONDS: u64 = 60;
/// The program may hold this much more at the end than after warming up: what an allocator keeps.
const MOST_GROWTH: u64 = 16 * MIB;
/// It may have this many more files open: kept connections to the resource, no more than there are callers.
const MOST_MORE_FILES: usize = traffic::CALLERS;
/// How long the program has to let go of everything.
const SETTLING: Duration = Duration::from_secs(20);
/// How long the number of open files must not change to be the one that lasts.
const SETTLED: Duration = Duration::from_secs(1);

/// What the program holds while nothing is under way.
#[derive(Debug, Clone, Copy)]
struct Idle {
    memory: u64,
    /// If they can be counted.
    files: Option<usize>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Some(seconds) = seconds() else {
        eprintln!("usage: cargo bench --bench soak -- [--seconds N]");
        return ExitCode::from(2);
    };
    // One end of every connection is in here.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("the limit that there is");
    let each = Duration::from_secs(seconds) / 2;
    let mut violations = Vec::new();
    for http2 in [false, true] {
        println!("\n== over HTTP/{} to the resource", if http2 { "2" } else { "1.1" });
        violations.extend(round(http2, each).await);
    }
    for violation in &violations {
        println!("VIOLATION: {violation}");
    }
    println!("\n{}", if violations.is_empty() { "nothing that was not asked for" } else { "failed" });
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What `--seconds` says. `cargo bench` adds an option of its own.
fn seconds() -> Option<u64> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    match (arguments.next().as_deref(), arguments.next(), arguments.next()) {
        (None, None, None) => Some(SECONDS),
        (Some("--seconds"), Some(seconds), None) => seconds.parse().ok(),
        _ => None,
    }
}

/// Everything over one version of HTTP to the resource; what was not as it should be.
async fn round(http2: bool, duration: Duration) -> Vec<String> {
    let options = Options { word_delay: Duration::ZERO, http2, ..Options::default() };
    let azure = Emulator::start(options).await.expect("an Azure");
    let program = Program::start(&azure, &[]).await;
    let process = program.process();
    let stage = Arc::new(Stage::new(azure, program.address).await);

    let began = Instant::now();
    run(&stage, began + duration / 5).await;
    let warm = idle(&stage, &program).await;
    run(&stage, began + duration).await;
    let end = idle(&stage, &program).await;
    println!("{}", stage.tally);
    println!(
        "RSS after warming up {} MiB, at the end {} MiB, at most {} MiB; open files {:?} and {:?}",
        warm.memory / MIB,
        end.memory / MIB,
        process.most_memory() / MIB,
        warm.files,
        end.files
    );
    if end.memory > warm.memory + MOST_GROWTH {
        stage.tally.violation(&format!("memory grew from {} to {} bytes", warm.memory, end.memory));
    }
    match (warm.files, end.files) {
        (Some(warm), Some(end)) if end > warm + MOST_MORE_FILES => {
            stage.tally.violation(&format!("open files grew from {warm} to {end}"));
        }
        (Some(_), Some(_)) => {}
        _ => println!("skipped: whether files are left open; only root may count them"),
    }

    leaving::measure(&stage).await;
    let (lines, bad) = program.stop().await;
    println!("{lines} lines logged");
    let mut violations = stage.tally.violations();
    violations.extend(bad);
    violations.extend(waiting::measure(&stage.azure).await);
    violations.extend(long::measure(&stage.azure, http2).await);
    violations
}

/// Traffic until `end`, and until whatever was under way then is over.
async fn run(stage: &Arc<Stage>, end: Instant) {
    let mut tasks = JoinSet::new();
    for client in traffic::clients() {
        tasks.spawn(traffic::call(stage.clone(), client, end));
    }
    tasks.spawn(faults::quick(stage.clone(), end));
    tasks.spawn(faults::slow(stage.clone(), end));
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a caller does not panic");
    }
}

/// Waits until nothing is under way and the number of open files stays what it is.
async fn idle(stage: &Stage, program: &Program) -> Idle {
    stage.nothing_open().await;
    let process = program.process();
    let mut files = process.open_files();
    let settled = async {
        let mut since = Instant::now();
        while since.elapsed() < SETTLED {
            sleep(SETTLED / 20).await;
            let now = process.open_files();
            if now != files {
                (files, since) = (now, Instant::now());
            }
        }
    };
    if timeout(SETTLING, settled).await.is_err() {
        stage.tally.violation("open files do not settle");
    }
    Idle { memory: process.memory(), files }
}
