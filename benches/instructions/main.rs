//! How many instructions a request takes, and its parts: `cargo bench --locked --bench instructions`. Counted by Valgrind, they
//! are the same on a busy machine as on a quiet one; where one takes more than its limit, this fails.
//!
//! A limit is what was counted last, and a twentieth: lower it when something has become cheaper.

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on stops")]
#![expect(missing_docs, clippy::disallowed_methods, reason = "of what the harness makes")]

#[expect(dead_code, reason = "the benchmark of time reads more")]
#[path = "../parts/contents.rs"]
mod contents;
mod request;
#[path = "../parts/steps.rs"]
mod steps;

use std::hint::black_box;

use gungraun::prelude::*;
use gungraun::{Callgrind, EventKind};
use http::Uri;
use http::header::{HeaderMap, HeaderValue};
use http::uri::PathAndQuery;

use contents::{EVENTS, JSON, chat, chat_chunks};
use request::Passing;
use steps::Tokens;

/// Fails above `counted` and a twentieth of it.
fn at_most(counted: u64) -> LibraryBenchmarkConfig {
    let mut callgrind = Callgrind::with_args(["--cache-sim=no"]);
    callgrind.hard_limits([(EventKind::Ir, counted + counted / 20)]);
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind);
    config
}

#[library_benchmark]
#[bench::of_a_chat(args = (steps::address()), config = at_most(2_250))]
fn path_mapped(address: Uri) -> Option<PathAndQuery> {
    steps::map(black_box(&address))
}

#[library_benchmark]
#[bench::of_a_chat(args = ((steps::asked(), steps::answered())), config = at_most(4_000))]
fn fields_cleaned(fields: (HeaderMap, HeaderMap)) -> (HeaderMap, HeaderMap) {
    steps::clean(black_box(fields))
}

#[library_benchmark]
#[bench::held(args = (Tokens::held()), config = at_most(293))]
fn token_taken(tokens: Tokens) -> (Option<HeaderValue>, Tokens) {
    (tokens.authorization(), tokens)
}

#[library_benchmark]
#[bench::of_a_chat(args = ((JSON, chat())), config = at_most(12_700))]
#[bench::of_a_stream(args = ((EVENTS, chat_chunks())), config = at_most(841_000))]
fn usage_read((kind, content): (&'static str, String)) -> Option<u64> {
    contents::tokens(&contents::of_kind(kind), black_box(content.as_bytes()))
}

// Whole requests, from one socket to the other and back, a hundred of them.
#[library_benchmark]
#[bench::over_http1(args = (Passing::start(false)), config = at_most(9_470_000))]
#[bench::over_http2(args = (Passing::start(true)), config = at_most(12_340_000))]
fn requests_passed(passing: Passing) -> Passing {
    passing.all()
}

library_benchmark_group!(
    name = parts;
    benchmarks = path_mapped, fields_cleaned, token_taken, usage_read
);
library_benchmark_group!(
    name = whole;
    benchmarks = requests_passed
);
main!(library_benchmark_groups = parts, whole);
