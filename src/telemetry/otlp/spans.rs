//! Spans on their way to a collector.
//!
//! Each is written as it will be sent when its request is over, so that nothing of the request is kept, and nothing is left to do
//! for whoever sends it.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::backlog::Backlog;
use super::delivery::{Delivery, Signal, Undelivered};
use super::sender::{Sender, rejected};
use super::span::{self, Alike};
use super::words::Place;
use super::{Otlp, wire};
use crate::config::Sampling;
use crate::telemetry::origin::{Origin, Parent};
use crate::telemetry::recorder::Finished;
use crate::workers::PerWorker;

/// Spans in one message.
const MOST_AT_ONCE: usize = 512;
/// How many bytes the length of most spans takes: few are shorter than 128 bytes, or longer than 16 KiB.
const LENGTH: usize = 2;
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
    begun: PerWorker<Mutex<Begun>>,
    /// There is one where there was none.
    first: Notify,
    /// A message is full, or half of the room is.
    many: Notify,
    /// How many spans half of the room has.
    half: usize,
}

/// What one worker writes to.
#[derive(Debug, Default)]
struct Begun {
    batch: Batch,
    alike: Alike,
}

/// Spans of one message, behind room for what comes before them.
#[derive(Debug, Default)]
struct Batch {
    message: Vec<u8>,
    spans: usize,
    /// Where the last one of them ends.
    end: usize,
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
            half: (otlp.most_spans / 2).max(1),
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
        self.add(|batch, alike| span::write(batch, alike, request, place, parent, trace));
        if waiting % self.half == 0 {
            self.many.notify_one();
        }
    }

    pub(super) fn add(&self, write: impl FnOnce(&mut Vec<u8>, &mut Alike)) {
        let mut begun = open_begun(self.begun.own());
        let Begun { batch, alike } = &mut *begun;
        if batch.spans == 0 {
            batch.message.resize(self.sender.room(), 0);
        }
        wire::message_of(&mut batch.message, 2, LENGTH, |span| write(span, alike));
        batch.end = batch.message.len();
        batch.spans += 1;
        let is_first = batch.spans == 1;
        let full = (batch.spans == MOST_AT_ONCE).then(|| {
            let full = mem::take(batch);
            // As much as this one took, the next one will.
            batch.message.reserve(full.message.len());
            full
        });
        drop(begun);
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
        let (mut due, mut has_all) = (None, true);
        loop {
            if self.is_empty() {
                tokio::select! {
                    () = self.first.notified() => {}
                    () = delivery.is_ending() => {}
                }
                due = None;
            }
            // Full messages are sent as they are. What workers have begun is copied to be put together, so that it waits until the
            // time has come, or half of the room is taken.
            let mut is_due = tokio::select! {
                () = sleep_until(*due.get_or_insert_with(|| Instant::now() + self.delay)) => true,
                () = self.many.notified() => self.backlog.waiting() >= self.half,
                () = delivery.is_ending() => true,
            };
            let has_begun_to_end = !delivery.is_working();
            // Whichever of these it was that has come.
            is_due |= has_begun_to_end;
            if is_due {
                due = None;
            }
            while let Some(batch) = self.take(&mut is_due) {
                has_all &= self.deliver(batch, &delivery).await;
                is_due |= has_begun_to_end;
            }
            if has_begun_to_end {
                return has_all;
            }
            // What was under way when the end began is among the last.
            has_all |= delivery.is_working();
        }
    }

    async fn deliver(&self, Batch { message, spans, .. }: Batch, delivery: &Delivery) -> bool {
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
            let begun = mem::take(&mut open_begun(begun).batch);
            if all.spans == 0 {
                all = begun;
            } else if begun.spans > MOST_AT_ONCE - all.spans {
                open(&self.full_ones).push_back(begun);
            } else if let Some(spans) = begun.message.get(self.sender.room()..) {
                all.message.extend_from_slice(spans);
                all.spans += begun.spans;
                all.end = all.message.len();
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
        open(&self.full_ones).is_empty() && self.begun.all().all(|begun| open_begun(begun).batch.spans == 0)
    }
}

/// A span that was not written to its end is none.
fn open_begun(begun: &Mutex<Begun>) -> MutexGuard<'_, Begun> {
    begun.lock().unwrap_or_else(|poisoned| {
        let mut begun = poisoned.into_inner();
        let end = begun.batch.end;
        begun.batch.message.truncate(end);
        begun
    })
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
