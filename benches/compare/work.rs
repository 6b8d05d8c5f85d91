//! The kinds of work that are compared, and what each costs.

use std::time::{Duration, Instant};

use crate::load::{Latencies, Target, closed_loop, fixed_rate, latencies, new_connections, paced};
use crate::process::Tree;
use crate::upstream::{BURST, Upstream};

/// Something to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    Small,
    One,
    Rate,
    Large,
    Paced,
    Burst,
    NewConnection,
    Download,
    Upload,
    Idle,
}

/// What one round of it has cost.
#[derive(Debug)]
pub(crate) struct Sample {
    /// Processor time for each unit, in microseconds; bytes of memory for each stream that waits.
    pub(crate) cost: f64,
    pub(crate) latencies: Latencies,
}

/// Streams of [`Work::Idle`].
const WAITING: usize = 2_000;

impl Work {
    pub(crate) const ALL: [Self; 10] = [
        Self::Small,
        Self::One,
        Self::Rate,
        Self::Large,
        Self::Paced,
        Self::Burst,
        Self::NewConnection,
        Self::Download,
        Self::Upload,
        Self::Idle,
    ];

    /// As it is called on the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::One => "one",
            Self::Rate => "rate",
            Self::Large => "large",
            Self::Paced => "paced",
            Self::Burst => "burst",
            Self::NewConnection => "connect",
            Self::Download => "download",
            Self::Upload => "upload",
            Self::Idle => "idle",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Small => "1 KB question and answer, 64 connections: CPU µs a request",
            Self::One => "the same, one at a time: CPU µs a request",
            Self::Rate => "the same, 2 000 a second over 64 connections: CPU µs a request",
            Self::Large => "200 KB of embeddings, 16 connections: CPU µs a request",
            Self::Paced => "100 streams, a chunk each 20 ms: CPU µs a chunk",
            Self::Burst => "16 streams as fast as they come: CPU µs a chunk",
            Self::NewConnection => "a connection for each question, 16 at once: CPU µs a request",
            Self::Download => "256 MiB down: CPU ms",
            Self::Upload => "256 MiB up: CPU ms",
            Self::Idle => "2 000 streams that wait: KiB of memory each",
        }
    }

    /// Whether its latencies tell anything.
    pub(crate) fn has_latencies(self) -> bool {
        !matches!(self, Self::Download | Self::Upload | Self::Idle | Self::Burst)
    }

    /// Does it for about `time`.
    pub(crate) async fn run(self, target: &Target, tree: Option<Tree>, upstream: &Upstream, time: Duration) -> Sample {
        if self == Self::Idle {
            return waiting(target, tree).await;
        }
        let processor_time = || tree.map_or(Duration::ZERO, Tree::processor_time);
        let before = processor_time();
        let (latencies, units) = self.traffic(target, upstream, time).await;
        let cost = processor_time().saturating_sub(before).as_secs_f64() * 1e6 / units;
        Sample { cost, latencies }
    }

    /// The work itself, and of how many units it was.
    async fn traffic(self, target: &Target, upstream: &Upstream, time: Duration) -> (Latencies, f64) {
        const CHAT: &str = "/v1/chat/completions";
        let latencies = match self {
            Self::Small => closed_loop(target, CHAT, 64, time).await,
            Self::One => closed_loop(target, CHAT, 1, time).await,
            Self::Rate => fixed_rate(target, 2_000, 64, time).await,
            Self::Large => closed_loop(target, "/v1/embeddings", 16, time).await,
            Self::Paced => paced(target, 100, upstream.began).await,
            Self::Burst => closed_loop(target, "/v1/chat/completions?burst", 16, time).await,
            Self::NewConnection => new_connections(target, 16, time).await,
            Self::Download | Self::Upload | Self::Idle => return (bulk(self, target).await, 1e3),
        };
        let units = latencies.len() as f64 * if self == Self::Burst { BURST as f64 } else { 1.0 };
        (latencies, units)
    }
}

async fn bulk(work: Work, target: &Target) -> Latencies {
    let (mut caller, began, mut latencies) = (target.connect().await, Instant::now(), latencies());
    match work {
        Work::Upload => caller.upload().await,
        _ => caller.download().await,
    }
    latencies.saturating_record(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
    latencies
}

/// How much more memory there is while streams wait than there was before.
async fn waiting(target: &Target, tree: Option<Tree>) -> Sample {
    use http_body_util::{BodyExt, Full};
    let memory = || tree.map_or(0, Tree::memory);
    let before = memory();
    let mut streams = Vec::with_capacity(WAITING);
    for _ in 0..WAITING {
        let mut caller = target.connect().await;
        let mut body =
            caller.ask(http::Method::POST, "/v1/chat/completions?silent", Full::new("{}".into()).boxed_unsync()).await;
        body.frame().await.expect("a chunk").expect("content");
        streams.push((caller, body));
    }
    let cost = memory().saturating_sub(before) as f64 / WAITING as f64 / 1024.0;
    drop(streams);
    Sample { cost, latencies: latencies() }
}
