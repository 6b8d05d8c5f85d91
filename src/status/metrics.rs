//! `GET /metrics`: what Prometheus is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::response::IntoResponse;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use super::{Readiness, process};
use crate::ledger::Condition;
use crate::telemetry::metrics::{Error, Metrics, Reading, Sample};
use crate::telemetry::recorder::Recorder;

/// Prometheus's text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The handler.
pub async fn metrics(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, TEXT), (CACHE_CONTROL, "no-store")], metrics.text())
}

/// Lets `metrics` tell what is known here and by `recorder`.
///
/// # Errors
///
/// If a metric is described wrongly.
pub fn tell(readiness: &Arc<Readiness>, recorder: &Arc<Recorder>, metrics: &Metrics) -> Result<(), Error> {
    let (in_flight, connections) = (recorder.clone(), recorder.connections.clone());
    let ours = [
        now(
            "aoai_proxy_in_flight_requests",
            "Requests under way to the resource or the management plane.",
            move || in_flight.in_flight(),
        )?,
        now("aoai_proxy_open_connections", "Connections of callers; not those to the admin listener.", move || {
            connections.get()
        })?,
        refreshes(readiness.clone())?,
        expiries(readiness.clone())?,
        denied(readiness.clone())?,
    ];
    let ledger = readiness.ledger.as_ref().map(ledger).transpose()?.into_iter().flatten();
    ours.into_iter()
        .chain(ledger)
        .chain(process::readings(readiness.began)?)
        .try_for_each(|reading| metrics.read(reading))
}

/// How many of something there are at the moment.
fn now(name: &str, help: &str, count: impl Fn() -> usize + Send + Sync + 'static) -> Result<Reading, Error> {
    Reading::gauge(name, help, &[], move || vec![Sample::count(Vec::new(), count() as u64)])
}

fn refreshes(readiness: Arc<Readiness>) -> Result<Reading, Error> {
    let name = "aoai_proxy_credential_refreshes_total";
    Reading::counter(name, "Attempts to get a token from Entra ID.", &["scope", "result"], move || {
        let mut attempts = BTreeMap::new();
        for slot in readiness.slots() {
            let account = slot.account();
            for (result, count) in [("success", account.renewals), ("failure", account.failures)] {
                // Both planes may have one scope.
                *attempts.entry([slot.scope().to_string(), result.to_owned()]).or_default() += count;
            }
        }
        attempts.into_iter().map(|(labels, count)| Sample::count(labels.into(), count)).collect()
    })
}

fn expiries(readiness: Arc<Readiness>) -> Result<Reading, Error> {
    let name = "aoai_proxy_credential_expiry_timestamp_seconds";
    let help = "When the token that was got last ends, or has ended; nothing before there was one.";
    Reading::gauge(name, help, &["scope"], move || {
        let mut ends = BTreeMap::new();
        for slot in readiness.slots() {
            let Some(end) = slot.expires_at() else { continue };
            // Both planes may have one scope: then the end is when one of them is without.
            ends.entry(slot.scope().to_string())
                .and_modify(|first: &mut SystemTime| *first = end.min(*first))
                .or_insert(end);
        }
        ends.into_iter().map(|(scope, end)| Sample { labels: vec![scope], value: seconds(end) }).collect()
    })
}

fn denied(readiness: Arc<Readiness>) -> Result<Reading, Error> {
    let name = "aoai_proxy_denied_peers_total";
    Reading::counter(name, "Connections of users who may not connect (access.peer_users).", &[], move || {
        let denied = readiness.denials.seen().values().map(|denial| denial.count).sum();
        vec![Sample::count(Vec::new(), denied)]
    })
}

fn ledger(ledger: &Condition) -> Result<[Reading; 2], Error> {
    let (waiting, dropped) = (ledger.clone(), ledger.clone());
    let count = |count| vec![Sample::count(Vec::new(), count)];
    Ok([
        Reading::gauge(
            "aoai_proxy_usage_ledger_waiting",
            "Responses that wait in memory, because the usage ledger cannot be written.",
            &[],
            move || count(waiting.waiting()),
        )?,
        Reading::counter(
            "aoai_proxy_usage_ledger_dropped_total",
            "Responses that the usage ledger will never have: too much waited.",
            &[],
            move || count(dropped.dropped()),
        )?,
    ])
}

/// Since 1970.
pub(super) fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
