//! What the process takes of the machine: metrics that every Prometheus client has, by the names that all of them use.

use std::time::SystemTime;

use rustix::process::{Resource, getrlimit};

use super::metrics::seconds;
use crate::telemetry::metrics::{Error, Reading, Sample, number};

/// All of them. What the system does not say has no value.
pub(super) fn readings(began: SystemTime) -> Result<Vec<Reading>, Error> {
    let began = gauge("process_start_time_seconds", "When the proxy began to serve.", move || Some(seconds(began)))?;
    let most = gauge("process_max_fds", "Files and sockets that may be open at once.", || {
        getrlimit(Resource::Nofile).current.map(number)
    })?;
    let mut readings = vec![began, most];
    #[cfg(target_os = "linux")]
    readings.extend(linux::readings()?);
    Ok(readings)
}

fn gauge(name: &str, help: &str, read: impl Fn() -> Option<f64> + Send + Sync + 'static) -> Result<Reading, Error> {
    Reading::gauge(name, help, &[], move || samples(read()))
}

fn samples(value: Option<f64>) -> Vec<Sample> {
    value.map(|value| Sample { labels: Vec::new(), value }).into_iter().collect()
}

#[cfg(target_os = "linux")]
mod linux {
    use procfs::process::{Process, Stat};

    use super::{Error, Reading, gauge, number, samples};

    pub(super) fn readings() -> Result<[Reading; 3], Error> {
        let used = || stat().map(|stat| number(stat.utime + stat.stime) / number(procfs::ticks_per_second()));
        let held = || stat().map(|stat| number(stat.rss) * number(procfs::page_size()));
        let open = || process().and_then(|process| process.fd_count().ok()).map(|count| number(count as u64));
        Ok([
            Reading::counter("process_cpu_seconds_total", "Time of processors that was used.", &[], move || {
                samples(used())
            })?,
            gauge("process_resident_memory_bytes", "Memory that is held.", held)?,
            gauge("process_open_fds", "Files and sockets that are open.", open)?,
        ])
    }

    fn process() -> Option<Process> {
        Process::myself().ok()
    }

    fn stat() -> Option<Stat> {
        process()?.stat().ok()
    }
}
