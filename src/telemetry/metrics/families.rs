//! What is told of what was counted: metrics, and the series of each.

use std::collections::{BTreeMap, HashMap};

use prometheus::Error;
use prometheus::core::Desc;
use prometheus::proto::{Counter, Gauge, Histogram as ToldHistogram, LabelPair, Metric, MetricFamily, MetricType};

use super::counted::{Counted, Kind, OfModel, Times};
use super::histogram::Histogram;
use super::reading::number;
use super::{UPSTREAM_ERRORS, labels};

/// A metric, and what its series are told apart by.
#[derive(Debug)]
pub(super) struct Family {
    desc: Desc,
    kind: MetricType,
}

/// What a series is told to be.
#[derive(Debug)]
pub(super) enum Value {
    Counter(f64),
    Gauge(f64),
    Histogram(ToldHistogram),
}

impl Family {
    /// # Errors
    ///
    /// If it is described wrongly.
    pub(super) fn new(kind: MetricType, [name, help]: [&str; 2], labels: &[&str]) -> Result<Self, Error> {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        Ok(Self { desc: Desc::new(name.to_owned(), help.to_owned(), labels, HashMap::new())?, kind })
    }

    pub(super) fn desc(&self) -> &Desc {
        &self.desc
    }

    /// The metric with these series: of each, the values of its labels, and its own.
    pub(super) fn of<L: IntoIterator<Item = impl Into<String>>>(
        &self,
        series: impl IntoIterator<Item = (L, Value)>,
    ) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(self.kind);
        family.set_metric(series.into_iter().map(|(labels, value)| self.metric(labels, value)).collect());
        family
    }

    fn metric(&self, labels: impl IntoIterator<Item = impl Into<String>>, value: Value) -> Metric {
        let labels = self.desc.variable_labels.iter().zip(labels).map(|(name, value)| {
            let mut label = LabelPair::default();
            label.set_name(name.clone());
            label.set_value(value.into());
            label
        });
        let mut metric = Metric::from_label(labels.collect());
        match value {
            Value::Counter(value) => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Value::Gauge(value) => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
            Value::Histogram(histogram) => metric.set_histogram(histogram),
        }
        metric
    }
}

/// All that is counted here, as metrics.
#[derive(Debug)]
pub(super) struct Families {
    requests: Family,
    tokens: Family,
    unknown: Family,
    durations: Family,
    first_bytes: Family,
    upstream_errors: Family,
}

impl Families {
    /// # Errors
    ///
    /// If one is described wrongly.
    pub(super) fn new() -> Result<Self, Error> {
        use MetricType::{COUNTER, HISTOGRAM};
        let family = |kind, name, help, labels: &[&str]| Family::new(kind, [name, help], labels);
        Ok(Self {
            requests: family(
                COUNTER,
                "aoai_proxy_requests_total",
                "Requests that are over, however they ended. status -: the caller left before there was one; route * with \
                 method -: what came was no request, or from a user who may not connect.",
                &["app", "method", "route", "status"],
            )?,
            tokens: family(
                COUNTER,
                "aoai_proxy_model_tokens_total",
                "Tokens that responses have cost, as Azure says. cached is a part of input, and reasoning of output: the sum \
                 of input and output is all of it.",
                &["app", "kind", "model"],
            )?,
            unknown: family(
                COUNTER,
                "aoai_proxy_responses_of_unknown_usage_total",
                "Responses that should have said how many tokens they cost, and did not, or not in a way that can be read: \
                 they are missing in aoai_proxy_model_tokens_total.",
                &["app", "model"],
            )?,
            durations: family(
                HISTOGRAM,
                "aoai_proxy_request_duration_seconds",
                "From when a request's head was read until the last byte of its response went to the caller, or the caller \
                 left. Without WebSockets.",
                &["route"],
            )?,
            first_bytes: family(
                HISTOGRAM,
                "aoai_proxy_time_to_first_byte_seconds",
                "From when a request's head was read until the head of its response was there. Without WebSockets, and \
                 without errors of the proxy's own.",
                &["route"],
            )?,
            upstream_errors: family(
                COUNTER,
                "aoai_proxy_upstream_errors_total",
                "Requests that failed because of Azure or the way there, by the code of the error; broke_off: the response \
                 began and did not end.",
                &["code"],
            )?,
        })
    }

    pub(super) fn descs(&self) -> impl Iterator<Item = &Desc> {
        let Self { requests, tokens, unknown, durations, first_bytes, upstream_errors } = self;
        [requests, tokens, unknown, durations, first_bytes, upstream_errors].into_iter().map(Family::desc)
    }

    /// All series of what was `counted`, by apps with these names. What is told alike is one series: statuses of no list are
    /// `other`, all of them.
    pub(super) fn of(&self, counted: &Counted, apps: &[String]) -> Vec<MetricFamily> {
        let (mut requests, mut tokens, mut unknown) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (mut durations, mut first_bytes) = (BTreeMap::<_, Histogram>::new(), BTreeMap::<_, Histogram>::new());
        for (Kind { app, operation, method, status }, count) in &counted.requests {
            let Some(app) = apps.get(*app) else { continue };
            let labels = [app, *method, operation.path(), labels::status(status.as_ref())];
            *requests.entry(labels).or_default() += count;
        }
        for ((app, _), OfModel { name, tokens: kinds, unknown: responses }) in &counted.models {
            let Some(app) = apps.get(*app) else { continue };
            for (kind, count) in super::counted::KINDS.into_iter().zip(kinds.iter().flatten()) {
                *tokens.entry([app, kind, &**name]).or_default() += count;
            }
            if *responses > 0 {
                *unknown.entry([app, &**name]).or_default() += responses;
            }
        }
        for (operation, Times { duration, first_byte }) in &counted.times {
            for (all, one) in [(&mut durations, duration), (&mut first_bytes, first_byte)] {
                // Only routes that were asked for have series, as each has forty.
                if one.count() > 0 {
                    all.entry([operation.path()]).or_default().add(one);
                }
            }
        }
        // Whoever watches for an error must know nought from nothing.
        let errors =
            UPSTREAM_ERRORS.map(|code| ([code], counted.upstream_errors.get(code).copied().unwrap_or_default()));
        vec![
            self.requests.of(counts(requests)),
            self.tokens.of(counts(tokens)),
            self.unknown.of(counts(unknown)),
            self.durations.of(histograms(durations)),
            self.first_bytes.of(histograms(first_bytes)),
            self.upstream_errors.of(counts(errors)),
        ]
    }
}

fn counts<L>(counts: impl IntoIterator<Item = (L, u64)>) -> impl Iterator<Item = (L, Value)> {
    counts.into_iter().map(|(labels, count)| (labels, Value::Counter(number(count))))
}

fn histograms<L>(histograms: impl IntoIterator<Item = (L, Histogram)>) -> impl Iterator<Item = (L, Value)> {
    histograms.into_iter().map(|(labels, histogram)| (labels, Value::Histogram(histogram.told())))
}
