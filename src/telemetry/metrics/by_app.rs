//! What is counted for each app.

use http::StatusCode;
use prometheus::{Error, IntCounter, IntCounterVec, Opts, Registry};

use super::labels;
use crate::inspect::usage::Usage;
use crate::telemetry::cells::Cells;
use crate::telemetry::names::Label;
use crate::telemetry::operation::Operation;

/// Kinds of tokens.
pub(super) const KINDS: [&str; 4] = ["input", "cached", "output", "reasoning"];

/// The counts of one app.
///
/// Its name is no label of these vectors, but part of what each one is. A vector finds its series by a hash of all values
/// written one behind the other, so that an app `a` with a model `bc` would be the app `ab` with the model `c`. Of the labels
/// that are left, only the first can be anything: the others are words of lists, and no word of a list ends like another.
#[derive(Debug)]
pub(super) struct OfApp {
    requests: IntCounterVec,
    tokens: IntCounterVec,
    unknown: IntCounterVec,
    /// Those that were found once, by what they count.
    of_requests: Cells<Kind, IntCounter>,
    of_models: Cells<usize, [IntCounter; KINDS.len()]>,
    of_unknown: Cells<usize, IntCounter>,
}

/// What requests are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    pub(super) operation: Operation,
    /// Of a list; none of what was no request.
    pub(super) method: &'static str,
    pub(super) status: Option<StatusCode>,
}

impl OfApp {
    pub(super) fn new(app: &str, registry: &Registry) -> Result<Self, Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help).const_label("app", app), labels)?;
            registry.register(Box::new(counters.clone())).map(|()| counters)
        };
        let requests = counters(
            "aoai_proxy_requests_total",
            "Requests that are over, however they ended. status -: the caller left before there was one; route * with \
             method -: what came was no request, or from a user who may not connect.",
            &["route", "method", "status"],
        )?;
        let tokens = counters(
            "aoai_proxy_model_tokens_total",
            "Tokens that responses have cost, as Azure says. cached is a part of input, and reasoning of output: the sum \
             of input and output is all of it.",
            &["model", "kind"],
        )?;
        let unknown = counters(
            "aoai_proxy_responses_of_unknown_usage_total",
            "Responses that should have said how many tokens they cost, and did not, or not in a way that can be read: \
             they are missing in aoai_proxy_model_tokens_total.",
            &["model"],
        )?;
        let (of_requests, of_models, of_unknown) = Default::default();
        Ok(Self { requests, tokens, unknown, of_requests, of_models, of_unknown })
    }

    /// A request of this kind is over.
    pub(super) fn requested(&self, kind: Kind) -> Result<(), Error> {
        let labels = || [kind.operation.path(), kind.method, labels::status(kind.status.as_ref())];
        let make = || self.requests.get_metric_with_label_values(&labels());
        self.of_requests.with(kind, make, IntCounter::inc)
    }

    /// A response of `model` has cost this, if it is known.
    pub(super) fn spent(&self, model: Label<'_>, usage: Option<Usage>) -> Result<(), Error> {
        let Some(usage) = usage else {
            let make = || self.unknown.get_metric_with_label_values(&[model.name]);
            return self.of_unknown.with(model.number, make, IntCounter::inc);
        };
        let make = || {
            let [a, b, c, d] = KINDS.map(|kind| self.tokens.get_metric_with_label_values(&[model.name, kind]));
            Ok([a?, b?, c?, d?])
        };
        self.of_models.with(model.number, make, |kinds| {
            let tokens = [usage.input, usage.cached, usage.output, usage.reasoning];
            kinds.iter().zip(tokens).for_each(|(kind, tokens)| kind.inc_by(tokens));
        })
    }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn what_is_written_alike_is_not_mixed_up() {
        let registry = Registry::new();
        let [a, ab] = ["a", "ab"].map(|app| OfApp::new(app, &registry).unwrap());
        for (number, (app, name)) in [(&a, "bc"), (&ab, "c"), (&a, "b")].into_iter().enumerate() {
            let model = Label { name, number };
            app.spent(model, Some(Usage { input: 1, cached: 0, output: 0, reasoning: 0 })).unwrap();
            app.spent(model, None).unwrap();
        }
        let text = TextEncoder.encode_to_string(&registry.gather()).unwrap();
        for series in [r#"app="a",kind="input",model="bc""#, r#"app="ab",kind="input",model="c""#] {
            assert!(text.contains(&format!("aoai_proxy_model_tokens_total{{{series}}} 1\n")), "{text}");
        }
    }
}
