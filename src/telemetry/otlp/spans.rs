//! A request as a span: a child of the caller's, if the caller says which that is.
//!
//! It is written as it will be sent when its request is over, so that nothing of the request is kept, and nothing is left to do
//! for whoever sends it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::time::sleep;

use super::backlog::Backlog;
use super::delivery::{Delivery, Signal, Undelivered};
use super::sender::{Sender, rejected};
use super::words::{self, Attributes, Place, Problem};
use super::{Otlp, wire};
use crate::config::Sampling;
use crate::inspect::usage::Usage;
use crate::telemetry::origin::{Origin, Parent};
use crate::telemetry::recorder::Finished;
use crate::workers::PerWorker;

/// Spans in one message.
const MOST_AT_ONCE: usize = 512;
/// The kind of span that a server has.
const SERVER: u64 = 2;
/// That a span has failed.
const FAILED: u64 = 2;
/// A span's flags: its trace is told; it is known whether the parent is of another process; it is.
const IS_SAMPLED: u32 = 1;
const SAYS_WHETHER_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// Makes spans.
#[derive(Debug)]
pub(super) struct Spans {
    sampling: Sampling,
    sender: Sender,
    backlog: Arc<Backlog>,
    delay: Duration,
    /// Messages that are full.
    full_ones: Mutex<VecDeque<Batch>>,
    /// Those that are not: workers that wrote to one would wait for each other.
    begun: PerWorker<Mutex<Batch>>,
    /// There is one where there was none.
    first: Notify,
    /// There are enough for a message, or for half of the room.
    many: Notify,
    /// How many that is.
    enough: usize,
}

/// Spans of one message, behind room for what comes before them.
#[derive(Debug, Default)]
struct Batch {
    message: Vec<u8>,
    spans: usize,
}

thread_local! {
    /// Where a thread writes its spans.
    static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Spans {
    pub(super) fn new(otlp: &Otlp, sampling: Sampling, sender: Sender, backlog: Arc<Backlog>) -> Self {
        Self {
            sampling,
            sender,
            backlog,
            delay: otlp.batch_delay,
            full_ones: Mutex::default(),
            begun: PerWorker::default(),
            first: Notify::new(),
            many: Notify::new(),
            enough: (otlp.most_spans / 2).clamp(1, MOST_AT_ONCE),
        }
    }

    /// A request is over.
    pub(super) fn finished(&self, request: &Finished<'_>, place: &Place) {
        let parent = request.origin.and_then(Origin::parent);
        let trace = parent.map_or_else(|| fastrand::u128(1..).to_be_bytes(), |parent| parent.trace);
        if !is_sampled(self.sampling, parent, trace) {
            return;
        }
        let Some(waiting) = self.backlog.enter() else { return };
        // A thread that ends has no room any more, and no requests.
        let _ = ROOM.try_with(|room| {
            let Ok(mut room) = room.try_borrow_mut() else { return };
            room.clear();
            write(&mut room, request, place, parent, trace);
            self.push(&room);
        });
        if waiting % self.enough == 0 {
            self.many.notify_one();
        }
    }

    fn push(&self, span: &[u8]) {
        let mut batch = open(self.begun.own());
        if batch.spans == 0 {
            batch.message.resize(self.sender.room(), 0);
        }
        wire::bytes(&mut batch.message, 2, span);
        batch.spans += 1;
        let is_first = batch.spans == 1;
        let full = (batch.spans == MOST_AT_ONCE).then(|| {
            let full = mem::take(&mut *batch);
            // As much as this one took, the next one will.
            batch.message.reserve(full.message.len());
            full
        });
        drop(batch);
        if let Some(full) = full {
            open(&self.full_ones).push_back(full);
            self.many.notify_one();
        }
        if is_first {
            self.first.notify_one();
        }
    }

    /// Sends what comes, until the end has begun, and then what is left. Whether the collector has all of that.
    pub(super) async fn send(self: Arc<Self>, delivery: Arc<Delivery>) -> bool {
        loop {
            if self.is_empty() {
                tokio::select! {
                    () = self.first.notified() => {}
                    () = delivery.is_ending() => {}
                }
            }
            tokio::select! {
                () = sleep(self.delay) => {}
                () = self.many.notified() => {}
                () = delivery.is_ending() => {}
            }
            let has_begun_to_end = !delivery.is_working();
            let (mut is_due, mut has_all) = (true, true);
            while let Some(batch) = self.take(&mut is_due) {
                has_all &= self.deliver(batch, &delivery).await;
                is_due |= has_begun_to_end;
            }
            if has_begun_to_end {
                return has_all;
            }
        }
    }

    async fn deliver(&self, Batch { message, spans }: Batch, delivery: &Delivery) -> bool {
        let all = spans as u64;
        let sent = match delivery.deliver(Signal::Traces, self.sender.message(message)).await {
            Err(error) => Err((error, all)),
            Ok(answer) => match rejected(&answer) {
                0 => Ok(()),
                rejected => Err((Undelivered::InPart(rejected), rejected.min(all))),
            },
        };
        self.backlog.leave(spans);
        sent.map_err(|(error, lost)| self.backlog.undelivered(Signal::Traces, &error, lost)).is_ok()
    }

    /// Spans for a message: as many as it may have, or all there are if these are due, once.
    fn take(&self, is_due: &mut bool) -> Option<Batch> {
        let full = open(&self.full_ones).pop_front();
        full.or_else(|| mem::take(is_due).then(|| self.gather()).filter(|batch| batch.spans > 0))
    }

    /// What all workers have begun. What does not fit into one message becomes another one.
    fn gather(&self) -> Batch {
        let mut all = Batch::default();
        for begun in self.begun.all() {
            let begun = mem::take(&mut *open(begun));
            if all.spans == 0 {
                all = begun;
            } else if begun.spans > MOST_AT_ONCE - all.spans {
                open(&self.full_ones).push_back(begun);
            } else if let Some(spans) = begun.message.get(self.sender.room()..) {
                all.message.extend_from_slice(spans);
                all.spans += begun.spans;
            }
        }
        all
    }

    /// What would be sent now.
    #[cfg(test)]
    pub(super) fn next_message(&self) -> Option<bytes::Bytes> {
        self.take(&mut true).map(|batch| self.sender.message(batch.message))
    }

    fn is_empty(&self) -> bool {
        open(&self.full_ones).is_empty() && self.begun.all().all(|batch| open(batch).spans == 0)
    }
}

/// A panic elsewhere leaves nothing half done in here.
fn open<T>(waiting: &Mutex<T>) -> MutexGuard<'_, T> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a trace is told: as the caller says, or a part of them, which is the same part wherever that is asked.
fn is_sampled(Sampling { by_parent, ratio }: Sampling, parent: Option<Parent>, trace: [u8; 16]) -> bool {
    if let Some(parent) = parent.filter(|_| by_parent) {
        return parent.is_sampled;
    }
    let chosen = (u128::from_be_bytes(trace) & u128::from(u64::MAX)) >> 1;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "as OpenTelemetry reckons; the ratio is between 0 and 1"
    )]
    let bound = (ratio.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64;
    chosen < u128::from(bound)
}

/// By the numbers of `opentelemetry.proto.trace.v1.Span`.
fn write(out: &mut Vec<u8>, request: &Finished<'_>, place: &Place, parent: Option<Parent>, trace: [u8; 16]) {
    wire::bytes(out, 1, &trace);
    wire::bytes(out, 2, &fastrand::u64(1..).to_be_bytes());
    if let Some(parent) = parent {
        if let Some(state) = request.origin.and_then(Origin::state) {
            wire::text(out, 3, &[state]);
        }
        wire::bytes(out, 4, &parent.span);
    }
    name(out, 5, request);
    wire::number(out, 6, SERVER);
    let ended = since_1970(request.ended.wall);
    wire::eight_bytes(out, 7, nanoseconds(ended.saturating_sub(request.duration)));
    wire::eight_bytes(out, 8, nanoseconds(ended));
    attributes(&mut Attributes { out, field: 9 }, request, place);
    wire::message(out, 15, |status| {
        if words::is_failure(request) {
            // What is to be said of it is in the log, under the same id.
            wire::number(status, 3, FAILED);
        }
    });
    wire::four_bytes(out, 16, IS_SAMPLED | SAYS_WHETHER_REMOTE | if parent.is_some() { IS_REMOTE } else { 0 });
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

fn attributes(said: &mut Attributes<'_>, request: &Finished<'_>, place: &Place) {
    said.text(words::METHOD, words::method(request.method));
    said.text(words::ROUTE, request.operation.path());
    said.fixed(words::SCHEME);
    said.text(words::APP, request.app.name);
    said.text("aoai_proxy.outcome", request.outcome.as_str());
    said.number("http.response.body.size", request.bytes);
    said.fixed(place.upstream());
    if let Some(origin) = request.origin {
        said.text(words::VERSION, origin.version());
    }
    if let Some(status) = request.status {
        said.number(words::STATUS, status.as_u16().into());
    }
    if let Some(problem) = Problem::of(request) {
        said.text(words::ERROR, problem.as_str());
    }
    if let Some(time) = request.first_byte {
        said.float("aoai_proxy.time_to_first_byte", time.as_secs_f64());
    }
    for (name, id) in [("aoai_proxy.request_id", Some(request.id)), ("azure.service.request.id", request.upstream_id)] {
        if let Some(id) = id.and_then(|id| id.to_str().ok()) {
            said.text(name, id);
        }
    }
    if let Some(operation) = request.operation.name() {
        of_model(said, request, operation);
    }
}

fn of_model(said: &mut Attributes<'_>, request: &Finished<'_>, operation: &str) {
    said.text(words::OPERATION, operation);
    said.fixed(words::PROVIDER);
    for (name, model) in [(words::MODEL, request.model), ("gen_ai.response.model", request.answered_by)] {
        if let Some(model) = model {
            said.text(name, model);
        }
    }
    if let Some(usage) = request.usage {
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

fn since_1970(wall: SystemTime) -> Duration {
    wall.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Of a time since 1970, as OTLP writes it: enough until 2554.
pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
