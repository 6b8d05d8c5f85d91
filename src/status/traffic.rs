//! What `/status` says of requests: how many, and what went wrong.

use serde::Serialize;

use super::report::written;
use crate::telemetry::history::Totals;
use crate::telemetry::history::mishaps::Mishap;
use crate::telemetry::recorder::Recorder;

/// Requests for Azure: probes, and whoever asks for the status, are none.
#[derive(Debug, Serialize)]
pub(super) struct Requests {
    /// Over since the start.
    total: u64,
    /// Of these, those that went wrong.
    errors: u64,
    in_flight: usize,
    /// Callers' connections, whatever they ask for.
    open_connections: usize,
}

/// What went wrong, each time in the same way.
#[derive(Debug, Serialize)]
pub(super) struct RequestError {
    at: String,
    status: Option<u16>,
    code: Option<&'static str>,
    message: String,
    hint: Option<String>,
    app: String,
    model: Option<String>,
    id: Option<String>,
    count: u64,
}

impl Requests {
    pub(super) fn of(totals: &Totals, recorder: &Recorder) -> Self {
        Self {
            total: totals.requests,
            errors: totals.errors,
            in_flight: recorder.in_flight(),
            open_connections: recorder.connections.get(),
        }
    }
}

impl RequestError {
    pub(super) fn of(mishap: Mishap) -> Self {
        let Mishap { at, status, code, message, hint, app, model, id, count } = mishap;
        Self { at: written(at), status, code, message, hint, app, model, id, count }
    }
}
