//! Traces and metrics over OTLP: what a collector is told, and that nobody ever waits for it.

mod away;
mod collector;
mod metrics;
mod spans;
mod switch;

use std::time::Duration;

use aoai_auth_proxy::emulator::Emulator;
use tokio::process::Command;

use crate::program::serve;

use collector::Collector;

/// A program that tells `collector` what it does, when it ends and not before.
fn telling(azure: &Emulator, collector: &Collector) -> Command {
    let mut command = serve(azure);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url);
    let long = Duration::from_secs(3600).as_millis().to_string();
    for variable in ["OTEL_BSP_SCHEDULE_DELAY", "OTEL_METRIC_EXPORT_INTERVAL", "OTEL_EXPORTER_OTLP_TIMEOUT"] {
        command.env(variable, &long);
    }
    command
}
