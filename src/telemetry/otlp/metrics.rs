//! Requests and tokens as metrics, by the names of OpenTelemetry's conventions. Nothing that callers write is a label as it is:
//! models only once the resource has answered for them, and no more of those than there is room for.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::time::sleep;

use super::backlog::Backlog;
use super::delivery::{Delivery, Signal, Undelivered};
use super::histograms::{About, Bounds, CUMULATIVE, Histogram, Period, metric};
use super::sender::{Sender, rejected};
use super::span::nanoseconds;
use super::words::{self, Attributes, OTHER_METHOD, Place, Problem};
use super::{Otlp, wire};
use crate::clock::SharedClock;
use crate::inspect::usage::Usage;
use crate::telemetry::methods;
use crate::telemetry::names::Label;
use crate::telemetry::operation::Operation;
use crate::telemetry::recorder::{Finished, Spent};
use crate::workers::PerWorker;

/// As the conventions want them: seconds of a request, seconds of a model's answer, tokens.
const SECONDS: Bounds = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const LONG_SECONDS: Bounds = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
const TOKENS: Bounds = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// The number of the attributes among the fields of `NumberDataPoint`.
const ATTRIBUTES: u32 = 7;

const UNDER_WAY: About =
    About { name: "http.server.active_requests", meaning: "Number of active HTTP server requests.", unit: "{request}" };

/// Counts requests and tokens.
#[derive(Debug)]
pub(super) struct Metrics {
    sender: Sender,
    backlog: Arc<Backlog>,
    interval: Duration,
    clock: SharedClock,
    began: SystemTime,
    resource: Place,
    counted: PerWorker<Counted>,
}

/// What one worker has counted: to count in one place, workers would wait for each other.
#[derive(Debug)]
struct Counted {
    under_way: AllUnderWay,
    sums: Mutex<Sums>,
}

/// Of each method that has a name, and last of all the others.
type AllUnderWay = [UnderWay; methods::KNOWN.len() + 1];

/// Requests of one method.
#[derive(Debug, Default)]
struct UnderWay {
    now: AtomicI64,
    /// Methods that nobody uses are not told of.
    ever: AtomicBool,
}

/// All histograms, by what they are told apart by.
#[derive(Debug)]
struct Sums {
    durations: Histogram<OfHttp>,
    operations: Histogram<(OfModel, Option<Problem>)>,
    first_bytes: Histogram<OfModel>,
    tokens: Histogram<(OfModel, Kind)>,
}

/// What is told of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct OfHttp {
    operation: Operation,
    method: usize,
    status: Option<StatusCode>,
    problem: Option<Problem>,
}

/// What is told of models' answers: by the name of what was asked, and by the numbers of app and model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct OfModel {
    operation: &'static str,
    app: usize,
    model: Option<usize>,
}

/// Kinds of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Input,
    Output,
}

impl Metrics {
    pub(super) fn new(otlp: &Otlp, resource: Place, sender: Sender, backlog: Arc<Backlog>, clock: SharedClock) -> Self {
        let began = clock.now();
        let counted = PerWorker::new(|| Counted { under_way: AllUnderWay::default(), sums: Mutex::new(Sums::new()) });
        Self { sender, backlog, interval: otlp.metrics_interval, clock, began, resource, counted }
    }

    /// A request has begun to be passed on.
    pub(super) fn under_way(&self, method: &Method) {
        self.add(method, 1);
    }

    /// Such a request is over.
    pub(super) fn finished(&self, request: &Finished<'_>) {
        self.add(request.method, -1);
        if request.is_conversation() {
            return;
        }
        let (problem, duration) = (Problem::of(request), request.duration.as_secs_f64());
        let method = method_number(request.method);
        let of_http = OfHttp { operation: request.operation, method, status: request.status, problem };
        let mut sums = self.counted.own().open();
        sums.durations.record(of_http, duration, |said| of_http.tell(said));
        let Some(operation) = request.operation.name() else { return };
        let (app, model) = (request.app, request.counted_as);
        let of_model = OfModel { operation, app: app.number, model: model.map(|model| model.number) };
        let tell = |said: &mut Attributes<'_>| self.tell(said, operation, app, model);
        if let Some(first_byte) = request.waited().filter(|_| request.is_granted()) {
            sums.first_bytes.record(of_model, first_byte.as_secs_f64(), tell);
        }
        sums.operations.record((of_model, problem), duration, |said| {
            tell(said);
            if let Some(problem) = problem {
                said.text(words::ERROR, problem.as_str());
            }
        });
    }

    /// A response has cost tokens.
    pub(super) fn spent(&self, spent: &Spent<'_>) {
        let (Some(Usage { input, output, .. }), Some(operation)) = (spent.usage, spent.operation.name()) else {
            return;
        };
        let of_model = OfModel { operation, app: spent.app.number, model: Some(spent.model.number) };
        let mut sums = self.counted.own().open();
        for (kind, tokens) in [(Kind::Input, input), (Kind::Output, output)] {
            #[expect(clippy::cast_precision_loss, reason = "nobody counts single tokens beyond 2^53")]
            sums.tokens.record((of_model, kind), tokens as f64, |said| {
                said.text("gen_ai.token.type", if kind == Kind::Input { "input" } else { "output" });
                self.tell(said, operation, spent.app, Some(spent.model));
            });
        }
    }

    fn tell(&self, said: &mut Attributes<'_>, operation: &str, app: Label<'_>, model: Option<Label<'_>>) {
        said.text(words::OPERATION, operation);
        said.fixed(words::PROVIDER);
        said.text(words::APP, app.name);
        self.resource.tell(said);
        if let Some(model) = model {
            said.text(words::MODEL, model.name);
        }
    }

    /// Sends all of it once an interval until the end has begun, and then once more. Whether the collector has that.
    pub(super) async fn send(self: Arc<Self>, delivery: Arc<Delivery>) -> bool {
        loop {
            tokio::select! {
                () = sleep(self.interval) => {}
                () = delivery.is_ending() => {}
            }
            let has_begun_to_end = !delivery.is_working();
            let sent = match self.message() {
                Some(message) => deliver(&delivery, message).await,
                None => Ok(()),
            };
            let has_it = sent.map_err(|error| self.backlog.undelivered(Signal::Metrics, &error, 0)).is_ok();
            if has_begun_to_end {
                return has_it;
            }
        }
    }

    /// All of it, if there is any.
    pub(super) fn message(&self) -> Option<Bytes> {
        let [began, now] =
            [self.began, self.clock.now()].map(|time| nanoseconds(time.duration_since(UNIX_EPOCH).unwrap_or_default()));
        let period = Period { began, now };
        let mut content = vec![0; self.sender.room()];
        let nothing = content.len();
        self.write_under_way(&mut content, period);
        let mut sums = Sums::new();
        self.counted.all().for_each(|counted| sums.add(&counted.open()));
        sums.durations.write(&mut content, period);
        sums.first_bytes.write(&mut content, period);
        sums.operations.write(&mut content, period);
        sums.tokens.write(&mut content, period);
        (content.len() > nothing).then(|| self.sender.message(content))
    }

    /// Requests under way are counted where they begin and end.
    fn write_under_way(&self, out: &mut Vec<u8>, period: Period) {
        let methods = methods::KNOWN.into_iter().chain([OTHER_METHOD]);
        let count = |number: usize| {
            let those = || self.counted.all().filter_map(|counted| counted.under_way.get(number));
            let now: i64 = those().map(|count| count.now.load(Ordering::Relaxed)).sum();
            those().any(|count| count.ever.load(Ordering::Relaxed)).then_some(now)
        };
        let counts = || methods.clone().enumerate().filter_map(|(number, method)| Some((count(number)?, method)));
        if counts().next().is_none() {
            return;
        }
        metric(out, &UNDER_WAY, 7, |sum| {
            for (count, method) in counts() {
                wire::message(sum, 1, |point| {
                    wire::eight_bytes(point, 2, period.began);
                    wire::eight_bytes(point, 3, period.now);
                    wire::eight_bytes(point, 6, count.max(0).cast_unsigned());
                    let mut said = Attributes { out: point, field: ATTRIBUTES };
                    said.text(words::METHOD, method);
                    said.fixed(words::SCHEME);
                });
            }
            wire::number(sum, 2, CUMULATIVE);
        });
    }

    fn add(&self, method: &Method, number: i64) {
        if let Some(count) = self.counted.own().under_way.get(method_number(method)) {
            count.now.fetch_add(number, Ordering::Relaxed);
            count.ever.store(true, Ordering::Relaxed);
        }
    }
}

impl Counted {
    /// A panic elsewhere leaves nothing half done in here that matters.
    fn open(&self) -> MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sums {
    fn new() -> Self {
        Self {
            durations: Histogram::new(
                "http.server.request.duration",
                "s",
                "Duration of HTTP server requests.",
                &SECONDS,
            ),
            operations: Histogram::new(
                "gen_ai.client.operation.duration",
                "s",
                "GenAI operation duration.",
                &LONG_SECONDS,
            ),
            first_bytes: Histogram::new(
                "aoai_proxy.time_to_first_byte",
                "s",
                "Until the response's head was there.",
                &LONG_SECONDS,
            ),
            tokens: Histogram::new(
                "gen_ai.client.token.usage",
                "{token}",
                "Number of input and output tokens used.",
                &TOKENS,
            ),
        }
    }

    fn add(&mut self, other: &Self) {
        self.durations.add(&other.durations);
        self.operations.add(&other.operations);
        self.first_bytes.add(&other.first_bytes);
        self.tokens.add(&other.tokens);
    }
}

impl OfHttp {
    fn tell(&self, said: &mut Attributes<'_>) {
        said.text(words::METHOD, methods::KNOWN.get(self.method).copied().unwrap_or(OTHER_METHOD));
        said.text(words::ROUTE, self.operation.path());
        said.fixed(words::SCHEME);
        if let Some(status) = self.status {
            said.number(words::STATUS, status.as_u16().into());
        }
        if let Some(problem) = self.problem {
            said.text(words::ERROR, problem.as_str());
        }
    }
}

fn method_number(method: &Method) -> usize {
    methods::number(method).unwrap_or(methods::KNOWN.len())
}

async fn deliver(delivery: &Delivery, message: Bytes) -> Result<(), Undelivered> {
    match rejected(&delivery.deliver(Signal::Metrics, message).await?) {
        0 => Ok(()),
        rejected => Err(Undelivered::InPart(rejected)),
    }
}
