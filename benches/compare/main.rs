//! What the program costs beside others that do the same job: `cargo bench --locked --bench compare`.
//!
//! Callers and the resource are in here; the proxies are programs of their own, of which the system tells how long processors
//! have worked for them. Everybody takes turns, several rounds of each, because machines are not the same from minute to
//! minute; what is printed is the median, and how far the rounds lie apart. nginx and haproxy are taken where they are
//! installed.

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on stops")]
#![expect(clippy::cast_precision_loss, reason = "figures are rounded to three digits")]

mod contender;
mod load;
mod process;
mod relay;
mod table;
mod upstream;
mod work;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use aoai_auth_proxy::emulator::{Emulator, Options};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use contender::{Contender, OTHER, OURS, RELAY};
use load::Target;
use table::Table;
use upstream::Upstream;
use work::Work;

const USAGE: &str =
    "usage: cargo bench --bench compare -- [--rounds N] [--seconds N] [--work WORD[,WORD…]] [--only NAME[,NAME…]] [--ours PATH] [--other PATH]

  --rounds N    how often each does each kind of work (5)
  --seconds N   for how long each time (3)
  --work WORD   small, one, rate, large, paced, burst, connect, download, upload, idle (all)
  --only NAME   ours, http2, observed, other, nginx, haproxy, relay (all that there are)
  --ours PATH   the program (as cargo has built it)
  --other PATH  another build of the program";

/// Nobody between the caller and the resource.
const DIRECT: &str = "nobody between";

#[derive(Debug)]
struct Asked {
    rounds: u32,
    time: Duration,
    works: Vec<Work>,
    contenders: Vec<Contender>,
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(RELAY) {
        relay::run(std::env::args().skip(2));
    }
    let Some(asked) = asked() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    compare(&asked);
    ExitCode::SUCCESS
}

#[tokio::main]
async fn compare(asked: &Asked) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("the limit that there is");
    let upstream = Upstream::start().await;
    let azure = Emulator::start(Options::default()).await.expect("an Azure");
    let who: Vec<_> = asked.contenders.iter().map(|contender| contender.name()).chain([DIRECT]).collect();
    let mut tables: BTreeMap<Work, Table> = BTreeMap::new();
    let mut starts: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for round in 1..=asked.rounds {
        for work in &asked.works {
            eprintln!("round {round} of {}: {}", asked.rounds, work.word());
            let table = tables.entry(*work).or_default();
            for contender in asked.contenders.iter().filter(|contender| contender.does(*work)) {
                let running = contender.start(&upstream, &azure);
                starts.entry(contender.name()).or_default().push(running.started_in);
                let (target, tree) = (Target::proxy(running.address), Some(running.tree()));
                // Connections to the resource are made, and whatever else happens once: but for memory, of which that is a part.
                Work::Small.run(&target, tree, &upstream, asked.time / 10).await;
                table.add(contender.name(), work.run(&target, tree, &upstream, asked.time).await);
            }
            if work.has_latencies() {
                table.add(DIRECT, work.run(&Target::direct(&upstream), None, &upstream, asked.time).await);
            }
        }
    }
    let base = if asked.contenders.contains(&Contender::Nginx) { Contender::Nginx } else { Contender::Ours };
    for (work, table) in &tables {
        table.print(*work, &who, base.name());
    }
    println!("\nFrom the start to an open port, median:");
    for (name, mut times) in starts {
        times.sort();
        println!("- {name}: {:.1} ms", times.get(times.len() / 2).copied().unwrap_or_default().as_secs_f64() * 1e3);
    }
}

/// What the command line says; nothing if that makes no sense. `cargo bench` adds an option of its own.
fn asked() -> Option<Asked> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (mut rounds, mut seconds, mut works, mut contenders) = (5, 3, Work::ALL.to_vec(), Contender::ALL.to_vec());
    while let Some(option) = arguments.next() {
        let value = arguments.next()?;
        match option.as_str() {
            "--rounds" => rounds = value.parse().ok()?,
            "--seconds" => seconds = value.parse().ok()?,
            "--work" => {
                works = value
                    .split(',')
                    .map(|word| Work::ALL.into_iter().find(|work| work.word() == word))
                    .collect::<Option<_>>()?;
            }
            "--only" => contenders = value.split(',').map(Contender::called).collect::<Option<_>>()?,
            "--ours" => OURS.set(value.into()).ok()?,
            "--other" => OTHER.set(value.into()).ok()?,
            _ => return None,
        }
    }
    contenders.retain(|contender| contender.is_installed());
    Some(Asked { rounds, time: Duration::from_secs(seconds), works, contenders })
}
