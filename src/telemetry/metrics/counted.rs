//! What one worker has counted, in plain numbers: whoever counts holds it for a moment, and asks nobody else.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use rustc_hash::FxHashMap;

use super::histogram::Histogram;
use crate::inspect::usage::Usage;
use crate::telemetry::names::Label;
use crate::telemetry::operation::Operation;

/// Kinds of tokens.
pub(super) const KINDS: [&str; 4] = ["input", "cached", "output", "reasoning"];

/// By numbers and words of lists that have an end: nobody chooses them, so a quick hash will do.
#[derive(Debug, Default, Clone)]
pub(super) struct Counted {
    pub(super) requests: FxHashMap<Kind, u64>,
    /// By the numbers of the app and of the model.
    pub(super) models: FxHashMap<(usize, usize), OfModel>,
    pub(super) times: FxHashMap<Operation, Times>,
    /// By the error's code.
    pub(super) upstream_errors: FxHashMap<&'static str, u64>,
}

/// What requests are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    /// The app's number.
    pub(super) app: usize,
    pub(super) operation: Operation,
    /// Of a list; none of what was no request.
    pub(super) method: &'static str,
    pub(super) status: Option<StatusCode>,
}

/// What responses of one model have cost one app.
#[derive(Debug, Clone)]
pub(super) struct OfModel {
    pub(super) name: Arc<str>,
    /// By [`KINDS`]; nothing before any was known.
    pub(super) tokens: Option<[u64; KINDS.len()]>,
    /// How many responses have not said it.
    pub(super) unknown: u64,
}

/// How long requests to one route took.
#[derive(Debug, Default, Clone)]
pub(super) struct Times {
    pub(super) duration: Histogram,
    pub(super) first_byte: Histogram,
}

impl Counted {
    /// A request of this kind is over.
    pub(super) fn requested(&mut self, kind: Kind) {
        *self.requests.entry(kind).or_default() += 1;
    }

    /// A response of `model` has cost this, if it is known.
    pub(super) fn spent(&mut self, app: usize, model: Label<'_>, usage: Option<Usage>) {
        let of_model = self.models.entry((app, model.number));
        let of_model = of_model.or_insert_with(|| OfModel { name: model.name.into(), tokens: None, unknown: 0 });
        match usage {
            Some(Usage { input, cached, output, reasoning }) => {
                add(of_model.tokens.get_or_insert_default(), [input, cached, output, reasoning]);
            }
            None => of_model.unknown += 1,
        }
    }

    /// A request has taken so long, and so long until the head of its response was there, if that tells anything.
    pub(super) fn took(&mut self, operation: Operation, duration: Duration, first_byte: Option<Duration>) {
        let times = self.times.entry(operation).or_default();
        times.duration.observe(duration);
        if let Some(first_byte) = first_byte {
            times.first_byte.observe(first_byte);
        }
    }

    /// A request failed because of the resource, or of the way there.
    pub(super) fn failed(&mut self, code: &'static str) {
        *self.upstream_errors.entry(code).or_default() += 1;
    }

    /// Adds what was counted elsewhere.
    pub(super) fn add(&mut self, other: &Self) {
        for (kind, count) in &other.requests {
            *self.requests.entry(*kind).or_default() += count;
        }
        for (key, more) in &other.models {
            let OfModel { name, tokens, unknown } = self.models.entry(*key).or_insert_with(|| OfModel {
                name: more.name.clone(),
                tokens: None,
                unknown: 0,
            });
            debug_assert_eq!(*name, more.name, "a number stands for one name");
            if let Some(more) = more.tokens {
                add(tokens.get_or_insert_default(), more);
            }
            *unknown += more.unknown;
        }
        for (operation, more) in &other.times {
            let times = self.times.entry(*operation).or_default();
            times.duration.add(&more.duration);
            times.first_byte.add(&more.first_byte);
        }
        for (code, count) in &other.upstream_errors {
            *self.upstream_errors.entry(code).or_default() += count;
        }
    }
}

/// What callers and the resource say is theirs: a sum too large for a number is no reason to fall over.
fn add(tokens: &mut [u64; KINDS.len()], more: [u64; KINDS.len()]) {
    tokens.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(more));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_in_several_places_adds_up() {
        let usage = Usage { input: u64::MAX, cached: 1, output: 2, reasoning: 3 };
        let kind = Kind { app: 1, operation: Operation::unknown(), method: "GET", status: Some(StatusCode::OK) };
        let [mut one, mut other] = [Counted::default(), Counted::default()];
        for (counted, times) in [(&mut one, 1), (&mut other, 2)] {
            for _ in 0..times {
                counted.requested(kind);
                counted.spent(1, Label { name: "o3", number: 7 }, Some(usage));
                counted.spent(1, Label { name: "o3", number: 7 }, None);
                counted.took(kind.operation, Duration::from_secs(1), None);
                counted.failed("upstream_tls");
            }
            counted.spent(times, Label::UNKNOWN, None);
        }
        let mut sum = Counted::default();
        sum.add(&one);
        sum.add(&other);
        assert_eq!((sum.requests[&kind], sum.upstream_errors["upstream_tls"], sum.models.len()), (3, 3, 3));
        let model = &sum.models[&(1, 7)];
        assert_eq!((model.tokens, model.unknown), (Some([u64::MAX, 3, 6, 9]), 3));
        assert_eq!((sum.models[&(2, 0)].tokens, sum.models[&(2, 0)].unknown), (None, 1));
        assert_eq!(sum.times[&kind.operation].duration.count(), 3);
        assert_eq!(sum.times[&kind.operation].first_byte.count(), 0);
    }
}
