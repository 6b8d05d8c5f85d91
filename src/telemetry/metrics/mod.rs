//! What Prometheus is told: counts of everything that happens, kept here, and readings, taken whenever somebody asks.
//!
//! There are only so many series, whatever callers send: routes, methods, statuses and codes are of lists that are known
//! beforehand, apps are of the configuration, and [`super::recorder`] tells of no more models than there is room for.

mod by_app;
mod labels;
mod reading;
mod times;

use std::collections::HashMap;

use http::StatusCode;
use prometheus::{IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use self::by_app::OfApp;
use self::labels::NONE;
use self::times::Times;
use super::operation::Operation;
use super::recorder::{Finished, Observer, Outcome, Spent};
use crate::apps::{Apps, OTHERS};
use crate::error::ErrorReport;

pub use self::reading::{Reading, Sample, number};
pub use prometheus::Error;

/// All metrics of one [`App`](crate::app::App).
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// By the app's name.
    of_apps: HashMap<String, OfApp>,
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
        let of_apps = apps.all().map(|app| Ok((app.name().to_owned(), OfApp::new(app.name(), &registry)?)));
        let of_apps = of_apps.collect::<Result<_, Error>>()?;
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
        let version = Opts::new("aoai_proxy_build_info", "Always 1; the label says which version runs.");
        let version = IntGauge::with_opts(version.const_label("version", env!("CARGO_PKG_VERSION")))?;
        version.set(1);
        registry.register(Box::new(version))?;
        Ok(Self { registry, of_apps, times, upstream_errors })
    }

    /// Lets something be read whenever somebody asks.
    ///
    /// # Errors
    ///
    /// If its name is taken.
    pub fn read(&self, reading: Reading) -> Result<(), Error> {
        self.registry.register(Box::new(reading))
    }

    /// All of it in Prometheus's text format, of version 0.0.4.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for family in self.registry.gather() {
            // None should be unfit; then the others are worth something still.
            if let Err(error) = TextEncoder.encode_utf8(&[family], &mut text) {
                tracing::error!(%error, "a metric cannot be written");
            }
        }
        text
    }

    fn requested(&self, app: &str, labels: &[&str; 3]) {
        if let Some(of_app) = self.of_apps.get(app) {
            of_app.requested(labels);
        }
    }
}

impl Observer for Metrics {
    fn finished(&self, request: &Finished<'_>) {
        let route = request.operation.path();
        self.requested(request.app, &[route, labels::method(request.method), labels::status(request.status.as_ref())]);
        if !request.is_conversation() {
            self.times.observe(route, request.duration, request.waited());
        }
        let code = match request.outcome {
            Outcome::BrokeOff => Some(BROKE_OFF),
            Outcome::Refused => request.code.filter(|code| code.starts_with(UPSTREAM)),
            Outcome::Abandoned | Outcome::Completed => None,
        };
        if let Some(code) = code {
            labels::count(&self.upstream_errors, &[code], 1);
        }
    }

    fn spent(&self, spent: &Spent<'_>) {
        if let Some(of_app) = self.of_apps.get(spent.app) {
            of_app.spent(spent.model, spent.usage);
        }
    }

    fn misfit(&self, status: StatusCode, _: &ErrorReport) {
        self.requested(OTHERS, &[Operation::unknown().path(), NONE, labels::status(Some(&status))]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_codes_of_upstream_errors_are_there_from_the_start() {
        let words = include_str!("../../error.rs").split('"').skip(1).step_by(2);
        let codes: BTreeSet<_> = words.filter(|word| word.starts_with(UPSTREAM)).chain([BROKE_OFF]).collect();
        assert_eq!(codes, UPSTREAM_ERRORS.into());
    }
}
