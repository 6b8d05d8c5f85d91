//! What Prometheus is told: counts of everything that happens, kept here, and readings, taken whenever somebody asks.
//!
//! There are only so many series, whatever callers send: routes, methods, statuses and codes are of lists that are known
//! beforehand, apps are of the configuration, and [`super::recorder`] tells of no more models than there is room for.

mod counted;
mod families;
mod histogram;
mod labels;
mod reading;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::StatusCode;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, Opts, Registry, TextEncoder};

use self::counted::{Counted, Kind};
use self::families::Families;
use self::labels::NONE;
use super::operation::Operation;
use super::recorder::{Finished, Observer, Outcome, Spent};
use crate::apps::Apps;
use crate::error::ErrorReport;
use crate::workers::PerWorker;

pub use self::reading::{Reading, Sample, number};
pub use prometheus::Error;

/// All metrics of one [`App`](crate::app::App).
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    counted: Arc<AllCounted>,
}

/// What each worker has counted: to count in one place, workers would wait for each other.
#[derive(Debug)]
struct AllCounted {
    workers: PerWorker<Mutex<Counted>>,
    /// Names by number. Whoever is no known app comes last.
    apps: Vec<String>,
    families: Families,
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
        let apps = apps.all().map(|app| app.name().to_owned()).collect();
        let counted = Arc::new(AllCounted { workers: PerWorker::default(), apps, families: Families::new()? });
        registry.register(Box::new(Telling(counted.clone())))?;
        Ok(Self { registry, counted })
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
        for family in self.registry.gather() {
            // None should be unfit; then the others are worth something still.
            if let Err(error) = TextEncoder.encode_utf8(&[family], &mut text) {
                tracing::error!(%error, "a metric cannot be written");
            }
        }
        text
    }
}

impl AllCounted {
    /// This worker's. A panic elsewhere leaves nothing half done in here that matters.
    fn own(&self) -> MutexGuard<'_, Counted> {
        self.workers.own().lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everybody's.
    fn sum(&self) -> Counted {
        let mut sum = Counted::default();
        for worker in self.workers.all() {
            // Nobody waits until all is added up.
            let copy = worker.lock().unwrap_or_else(PoisonError::into_inner).clone();
            sum.add(&copy);
        }
        sum
    }
}

/// Tells it whenever somebody asks.
struct Telling(Arc<AllCounted>);

impl Collector for Telling {
    fn desc(&self) -> Vec<&Desc> {
        self.0.families.descs().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.families.of(&self.0.sum(), &self.0.apps)
    }
}

impl Observer for Metrics {
    fn finished(&self, request: &Finished<'_>) {
        let Finished { operation, method, status, .. } = *request;
        let code = match request.outcome {
            Outcome::BrokeOff => Some(BROKE_OFF),
            Outcome::Refused => request.code.filter(|code| code.starts_with(UPSTREAM)),
            Outcome::Abandoned | Outcome::Completed => None,
        };
        let mut counted = self.counted.own();
        counted.requested(Kind { app: request.app.number, operation, method: labels::method(method), status });
        if !request.is_conversation() {
            counted.took(operation, request.duration, request.waited());
        }
        if let Some(code) = code {
            counted.failed(code);
        }
    }

    fn spent(&self, spent: &Spent<'_>) {
        self.counted.own().spent(spent.app.number, spent.model, spent.usage);
    }

    fn misfit(&self, status: StatusCode, _: &ErrorReport) {
        let app = self.counted.apps.len() - 1;
        self.counted.own().requested(Kind { app, operation: Operation::unknown(), method: NONE, status: Some(status) });
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
