//! What Prometheus is told: counts of everything that happens, kept here, and readings, taken whenever somebody asks.
//!
//! There are only so many series, whatever callers send: routes, methods, statuses and codes are of lists that are known
//! beforehand, apps are of the configuration, and [`super::recorder`] tells of no more models than there is room for.

mod by_app;
mod labels;
mod merged;
mod reading;
mod times;

use http::StatusCode;
use prometheus::{IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use self::by_app::{Kind, OfApp};
use self::labels::NONE;
use self::merged::merged;
use self::times::Times;
use super::names::Label;
use super::operation::Operation;
use super::recorder::{Finished, Observer, Outcome, Spent};
use crate::apps::Apps;
use crate::error::ErrorReport;
use crate::inspect::usage::Usage;
use crate::workers::PerWorker;

pub use self::reading::{Reading, Sample, number};
pub use prometheus::Error;

/// All metrics of one [`App`](crate::app::App).
#[derive(Debug)]
pub struct Metrics {
    /// What is known elsewhere.
    registry: Registry,
    counted: PerWorker<Counted>,
}

/// What one worker has counted: to count in one place, workers would wait for each other.
#[derive(Debug)]
struct Counted {
    registry: Registry,
    /// By the app's number. Whoever is no known app comes last.
    of_apps: Vec<OfApp>,
    times: Times,
    upstream_errors: IntCounterVec,
}

/// What begins the codes of errors that are the resource's doing, or the network's.
const UPSTREAM: &str = "upstream_";
/// What stands for a code where a response broke off.
const BROKE_OFF: &str = "broke_off";
/// All that is counted as an error of the resource: whoever watches for one must know nought from nothing.
const UPSTREAM_ERRORS: [&str; 5] =
    [BROKE_OFF, "upstream_protocol", "upstream_timeout", "upstream_tls", "upstream_unreachable"];

impl Metrics {
    /// Nothing has happened yet.
    ///
    /// # Errors
    ///
    /// If a metric is described wrongly.
    pub fn new(apps: &Apps) -> Result<Self, Error> {
        let registry = Registry::new();
        let version = Opts::new("aoai_proxy_build_info", "Always 1; the label says which version runs.");
        let version = IntGauge::with_opts(version.const_label("version", env!("CARGO_PKG_VERSION")))?;
        version.set(1);
        registry.register(Box::new(version))?;
        Ok(Self { registry, counted: PerWorker::try_new(|| Counted::new(apps))? })
    }

    /// Lets something be read whenever somebody asks. What is counted here has other names.
    ///
    /// # Errors
    ///
    /// If another reading has its name.
    pub fn read(&self, reading: Reading) -> Result<(), Error> {
        self.registry.register(Box::new(reading))
    }

    /// All of it in Prometheus's text format, of version 0.0.4.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let registries = [&self.registry].into_iter().chain(self.counted.all().map(|counted| &counted.registry));
        for family in merged(registries) {
            // None should be unfit; then the others are worth something still.
            if let Err(error) = TextEncoder.encode_utf8(&[family], &mut text) {
                tracing::error!(%error, "a metric cannot be written");
            }
        }
        text
    }
}

impl Counted {
    fn new(apps: &Apps) -> Result<Self, Error> {
        let registry = Registry::new();
        let of_apps = apps.all().map(|app| OfApp::new(app.name(), &registry)).collect::<Result<_, Error>>()?;
        let times = Times::new(&registry)?;
        let errors = Opts::new(
            "aoai_proxy_upstream_errors_total",
            "Requests that failed because of Azure or the way there, by the code of the error; broke_off: the response \
             began and did not end.",
        );
        let upstream_errors = IntCounterVec::new(errors, &["code"])?;
        registry.register(Box::new(upstream_errors.clone()))?;
        for code in UPSTREAM_ERRORS {
            upstream_errors.get_metric_with_label_values(&[code])?;
        }
        Ok(Self { registry, of_apps, times, upstream_errors })
    }

    fn finished(&self, request: &Finished<'_>) -> Result<(), Error> {
        let Finished { operation, method, status, .. } = *request;
        if let Some(of_app) = self.of_apps.get(request.app.number) {
            of_app.requested(Kind { operation, method: labels::method(method), status })?;
        }
        if !request.is_conversation() {
            self.times.observe(operation, request.duration, request.waited())?;
        }
        let code = match request.outcome {
            Outcome::BrokeOff => Some(BROKE_OFF),
            Outcome::Refused => request.code.filter(|code| code.starts_with(UPSTREAM)),
            Outcome::Abandoned | Outcome::Completed => None,
        };
        if let Some(code) = code {
            self.upstream_errors.get_metric_with_label_values(&[code])?.inc();
        }
        Ok(())
    }

    fn spent(&self, app: Label<'_>, model: Label<'_>, usage: Option<Usage>) -> Result<(), Error> {
        self.of_apps.get(app.number).map_or(Ok(()), |of_app| of_app.spent(model, usage))
    }

    fn misfit(&self, status: StatusCode) -> Result<(), Error> {
        let kind = Kind { operation: Operation::unknown(), method: NONE, status: Some(status) };
        self.of_apps.last().map_or(Ok(()), |others| others.requested(kind))
    }
}

impl Observer for Metrics {
    fn finished(&self, request: &Finished<'_>) {
        tell(self.counted.own().finished(request));
    }

    fn spent(&self, spent: &Spent<'_>) {
        tell(self.counted.own().spent(spent.app, spent.model, spent.usage));
    }

    fn misfit(&self, status: StatusCode, _: &ErrorReport) {
        tell(self.counted.own().misfit(status));
    }
}

/// Fails only where there are more labels or fewer than a metric has.
fn tell(counted: Result<(), Error>) {
    if let Err(error) = counted {
        tracing::error!(%error, "a metric cannot be counted");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_codes_of_upstream_errors_are_there_from_the_start() {
        let words = include_str!("../../error/answer.rs").split('"').skip(1).step_by(2);
        let codes: BTreeSet<_> = words.filter(|word| word.starts_with(UPSTREAM)).chain([BROKE_OFF]).collect();
        assert_eq!(codes, UPSTREAM_ERRORS.into());
    }
}
