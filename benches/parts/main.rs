//! What the parts of a request's way cost that no socket is needed for: `cargo bench --locked --bench parts`.
//!
//! Content comes in pieces as long as a TLS record. A table at the end tells the time of each.

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on stops")]

mod contents;
mod steps;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use http::uri::PathAndQuery;

use contents::{
    EVENTS, JSON, chat, chat_chunks, embeddings, heard, image, models, of_kind, request, response_deltas, speech,
    tokens,
};
use steps::Tokens;

/// Reads something, and tells a number of it.
type Read = Box<dyn Fn(&[u8]) -> Option<u64>>;

/// Each content with who reads it, and what that must tell.
fn cases() -> Vec<(&'static str, Vec<u8>, Read, u64)> {
    let asked = |name, content: String| (name, content.into_bytes(), Box::new(models) as Read, 1);
    let told = |name, kind, content: String, total| {
        let fields = of_kind(kind);
        (name, content.into_bytes(), Box::new(move |content: &[u8]| tokens(&fields, content)) as Read, total)
    };
    vec![
        asked("model of a request of 1 KB", request(1)),
        asked("model behind 1 MiB of messages", request(1400)),
        told("usage of an answer of 1 KB", JSON, chat(), 115),
        told("usage of 200 KB of embeddings", JSON, embeddings(), 80),
        told("usage of an image of 1 MiB", JSON, image(), 4210),
        told("usage of 1000 chat chunks", EVENTS, chat_chunks(), 1019),
        told("usage of 1000 response deltas", EVENTS, response_deltas(), 1019),
        ("usage of 1000 messages of speech", speech(), Box::new(heard), 7),
    ]
}

fn inspect(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("inspect");
    let cases = cases();
    for (name, content, read, told) in &cases {
        assert_eq!(read(content), Some(*told), "{name}");
        group.throughput(Throughput::Bytes(content.len() as u64));
        group.bench_function(*name, |bencher| bencher.iter(|| read(black_box(content))));
    }
    group.finish();
    println!("| | bytes | time | GB/s |\n| --- | ---: | ---: | ---: |");
    for (name, content, read, _) in &cases {
        let time = fastest(|| read(black_box(content)));
        let rate = u32::try_from(content.len()).map_or(f64::NAN, f64::from) / time;
        println!("| {name} | {} | {:.2} µs | {rate:.1} |", content.len(), time / 1000.0);
    }
}

/// How many nanoseconds `run` takes, in the fastest of some rounds: whatever else the machine does makes it slower.
fn fastest<T>(run: impl Fn() -> T) -> f64 {
    const ROUND: Duration = Duration::from_millis(20);
    let round = || {
        let (began, mut runs) = (Instant::now(), 0_u32);
        while began.elapsed() < ROUND {
            (0..16).for_each(|_| drop(black_box(run())));
            runs += 16;
        }
        began.elapsed().as_secs_f64() * 1e9 / f64::from(runs)
    };
    (0..10).map(|_| round()).fold(f64::INFINITY, f64::min)
}

fn steps(criterion: &mut Criterion) {
    let (address, held) = (steps::address(), Tokens::held());
    assert_eq!(
        steps::map(&address).as_ref().map(PathAndQuery::as_str),
        Some("/openai/v1/chat/completions?api-version=preview")
    );
    assert!(held.authorization().is_some_and(|value| value.is_sensitive()));
    criterion.bench_function("path mapped", |bencher| bencher.iter(|| steps::map(black_box(&address))));
    criterion.bench_function("token taken", |bencher| bencher.iter(|| held.authorization()));
    let fields = (steps::asked(), steps::answered());
    let clean = steps::clean(fields.clone());
    assert!(clean.0.len() + 3 <= fields.0.len() && !clean.0.contains_key("authorization"));
    criterion.bench_function("fields cleaned, both ways", |bencher| {
        bencher.iter_batched(|| fields.clone(), steps::clean, BatchSize::SmallInput);
    });
}

criterion_group!(benches, steps, inspect);
criterion_main!(benches);
