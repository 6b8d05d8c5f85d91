//! A request as a span: a child of the caller's, if the caller says which that is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::wire;
use super::words::{self, Attributes, Place, Problem};
use crate::inspect::usage::Usage;
use crate::telemetry::exchange::Route;
use crate::telemetry::operation::Operation;
use crate::telemetry::origin::{Origin, Parent};
use crate::telemetry::recorder::{Finished, Outcome};
use crate::telemetry::text::seen;

/// The kind of span that a server has.
const SERVER: u64 = 2;
/// That a span has failed.
const FAILED: u64 = 2;
/// The field of its attributes.
const ATTRIBUTE: u32 = 9;
/// A span's flags: its trace is told; it is known whether the parent is of another process; it is.
const IS_SAMPLED: u32 = 1;
const SAYS_WHETHER_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// How many kinds of requests are remembered.
const KINDS: usize = 4;

/// What spans of requests of one kind have alike, of the last few kinds: more than half of a span, and mostly that of one before.
#[derive(Debug, Default)]
pub(super) struct Alike {
    kinds: Vec<Kind>,
    /// Which one is forgotten next.
    oldest: usize,
}

/// Requests that differ in nothing but what each has of its own.
#[derive(Debug)]
struct Kind {
    by_number: ByNumber,
    models: [Option<String>; 2],
    /// How that is written.
    said: Vec<u8>,
}

/// What there are only a few of, told apart without a look at texts of callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ByNumber {
    method: &'static str,
    operation: Operation,
    /// What says where it went.
    route: Route,
    app: usize,
    counted_as: Option<usize>,
    outcome: Outcome,
    status: Option<http::StatusCode>,
    problem: Option<Problem>,
    version: Option<&'static str>,
}

impl Alike {
    /// What spans like that of `request` have alike.
    fn of(&mut self, request: &Finished<'_>, place: &Place) -> &[u8] {
        let by_number = ByNumber::of(request);
        let at = self.kinds.iter().position(|kind| kind.is_of(by_number, request)).unwrap_or_else(|| {
            let kind = Kind::of(by_number, request, place);
            if self.kinds.len() < KINDS {
                self.kinds.push(kind);
                return self.kinds.len() - 1;
            }
            let at = self.oldest;
            self.oldest = (at + 1) % KINDS;
            self.kinds.splice(at..=at, [kind]);
            at
        });
        self.kinds.get(at).map_or(&[], |kind| &kind.said)
    }
}

impl ByNumber {
    fn of(request: &Finished<'_>) -> Self {
        Self {
            method: words::method(request.method),
            operation: request.operation,
            route: request.route,
            app: request.app.number,
            counted_as: request.counted_as.map(|model| model.number),
            outcome: request.outcome,
            status: request.status,
            problem: Problem::of(request),
            version: request.origin.map(Origin::version),
        }
    }
}

impl Kind {
    fn of(by_number: ByNumber, request: &Finished<'_>, place: &Place) -> Self {
        let mut said = Vec::new();
        write_alike(&mut said, by_number, request, place);
        let models = models(request).map(|model| model.map(str::to_owned));
        Self { by_number, models, said }
    }

    fn is_of(&self, by_number: ByNumber, request: &Finished<'_>) -> bool {
        self.by_number == by_number && self.models.iter().map(Option::as_deref).eq(models(request))
    }
}

/// The model as it was asked for, and as it has answered.
fn models<'request>(request: &Finished<'request>) -> [Option<&'request str>; 2] {
    [request.model, request.answered_by]
}

/// By the numbers of `opentelemetry.proto.trace.v1.Span`.
pub(super) fn write(
    out: &mut Vec<u8>,
    alike: &mut Alike,
    request: &Finished<'_>,
    place: &Place,
    parent: Option<Parent>,
    trace: [u8; 16],
) {
    wire::bytes(out, 1, &trace);
    wire::bytes(out, 2, &fastrand::u64(1..).to_be_bytes());
    if let Some(parent) = parent {
        if let Some(state) = request.origin.and_then(Origin::state) {
            wire::text(out, 3, &[state]);
        }
        wire::bytes(out, 4, &parent.span);
    }
    let ended = since_1970(request.ended.wall);
    wire::eight_bytes(out, 7, nanoseconds(ended.saturating_sub(request.duration)));
    wire::eight_bytes(out, 8, nanoseconds(ended));
    out.extend_from_slice(alike.of(request, place));
    attributes(&mut Attributes { out, field: ATTRIBUTE }, request);
    wire::four_bytes(out, 16, IS_SAMPLED | SAYS_WHETHER_REMOTE | if parent.is_some() { IS_REMOTE } else { 0 });
}

/// What each request has of its own.
fn attributes(said: &mut Attributes<'_>, request: &Finished<'_>) {
    said.number("http.response.body.size", request.bytes);
    if let Some(time) = request.first_byte {
        said.float("aoai_proxy.time_to_first_byte", time.as_secs_f64());
    }
    for (name, id) in [("aoai_proxy.request_id", Some(request.id)), ("azure.service.request.id", request.upstream_id)] {
        if let Some(id) = id.and_then(seen) {
            said.text(name, id);
        }
    }
    if let Some(usage) = request.operation.name().and(request.usage) {
        of_usage(said, usage);
    }
}

/// As the conventions name them: what was cached is part of the input, what was thought is part of the output.
fn of_usage(said: &mut Attributes<'_>, usage: Usage) {
    said.number("gen_ai.usage.input_tokens", usage.input);
    said.number("gen_ai.usage.output_tokens", usage.output);
    let some = [
        ("gen_ai.usage.cache_read.input_tokens", usage.cached),
        ("gen_ai.usage.reasoning.output_tokens", usage.reasoning),
    ];
    some.into_iter().filter(|(_, tokens)| *tokens > 0).for_each(|(name, tokens)| said.number(name, tokens));
}

fn write_alike(out: &mut Vec<u8>, by_number: ByNumber, request: &Finished<'_>, place: &Place) {
    name(out, 5, request);
    wire::number(out, 6, SERVER);
    wire::message(out, 15, |status| {
        if words::is_failure(request) {
            // What is to be said of it is in the log, under the same id.
            wire::number(status, 3, FAILED);
        }
    });
    let said = &mut Attributes { out, field: ATTRIBUTE };
    said.text(words::METHOD, by_number.method);
    said.text(words::ROUTE, request.operation.path());
    said.fixed(words::SCHEME);
    said.text(words::APP, request.app.name);
    said.text("aoai_proxy.outcome", request.outcome.as_str());
    said.fixed(place.upstream());
    if let Some(version) = by_number.version {
        said.text(words::VERSION, version);
    }
    if let Some(status) = request.status {
        said.number(words::STATUS, status.as_u16().into());
    }
    if let Some(problem) = by_number.problem {
        said.text(words::ERROR, problem.as_str());
    }
    if let Some(operation) = request.operation.name() {
        said.text(words::OPERATION, operation);
        said.fixed(words::PROVIDER);
        for (name, model) in [(words::MODEL, request.model), ("gen_ai.response.model", request.answered_by)] {
            if let Some(model) = model {
                said.text(name, model);
            }
        }
    }
}

fn name(out: &mut Vec<u8>, field: u32, request: &Finished<'_>) {
    // What is asked for in vain may be anything.
    let model = request.counted_as.filter(|_| request.is_granted());
    match (request.operation.name(), model) {
        (Some(operation), Some(model)) => wire::text(out, field, &[operation, " ", model.name]),
        (Some(operation), None) => wire::text(out, field, &[operation]),
        (None, _) => wire::text(out, field, &[words::method(request.method), " ", request.operation.path()]),
    }
}

fn since_1970(wall: SystemTime) -> Duration {
    wall.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Of a time since 1970, as OTLP writes it: enough until 2554.
pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
