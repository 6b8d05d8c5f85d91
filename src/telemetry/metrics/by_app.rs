//! What is counted for each app.

use prometheus::{Error, IntCounterVec, Opts, Registry};

use super::labels::count;
use crate::inspect::usage::Usage;

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
        Ok(Self { requests, tokens, unknown })
    }

    /// A request is over, with this route, method and status.
    pub(super) fn requested(&self, labels: &[&str; 3]) {
        count(&self.requests, labels, 1);
    }

    /// A response of `model` has cost this, if it is known.
    pub(super) fn spent(&self, model: &str, usage: Option<Usage>) {
        let Some(Usage { input, cached, output, reasoning }) = usage else {
            return count(&self.unknown, &[model], 1);
        };
        for (kind, tokens) in KINDS.into_iter().zip([input, cached, output, reasoning]) {
            count(&self.tokens, &[model, kind], tokens);
        }
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
        for (app, model) in [(&a, "bc"), (&ab, "c"), (&a, "b")] {
            app.spent(model, Some(Usage { input: 1, cached: 0, output: 0, reasoning: 0 }));
            app.spent(model, None);
        }
        let text = TextEncoder.encode_to_string(&registry.gather()).unwrap();
        for series in [r#"app="a",kind="input",model="bc""#, r#"app="ab",kind="input",model="c""#] {
            assert!(text.contains(&format!("aoai_proxy_model_tokens_total{{{series}}} 1\n")), "{text}");
        }
    }
}
