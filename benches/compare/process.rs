//! What the system knows of a program and of all that it has started: processor time and memory.

use std::fs;
use std::time::Duration;

/// A process and its descendants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tree(u32);

impl Tree {
    pub(crate) fn of(process: u32) -> Self {
        Self(process)
    }

    /// The process itself first.
    pub(crate) fn processes(self) -> Vec<u32> {
        let mut found = vec![self.0];
        let mut at = 0;
        while let Some(&process) = found.get(at) {
            for task in entries(&format!("/proc/{process}/task")) {
                let children = fs::read_to_string(format!("/proc/{process}/task/{task}/children")).unwrap_or_default();
                found.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            }
            at += 1;
        }
        found
    }

    /// How long processors have worked for it: what the scheduler has measured, not what it has sampled.
    pub(crate) fn processor_time(self) -> Duration {
        let time = |process: &u32| {
            let of_thread = |thread: u32| {
                let statistics =
                    fs::read_to_string(format!("/proc/{process}/task/{thread}/schedstat")).unwrap_or_default();
                statistics.split_whitespace().next().and_then(|time| time.parse::<u64>().ok()).unwrap_or_default()
            };
            entries(&format!("/proc/{process}/task")).into_iter().map(of_thread).sum::<u64>()
        };
        Duration::from_nanos(self.processes().iter().map(time).sum())
    }

    /// Bytes that it holds in memory; what processes share counts once for each.
    pub(crate) fn memory(self) -> u64 {
        let memory = |process: &u32| {
            let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).map(str::trim).unwrap_or_default();
            line.trim_end_matches(" kB").parse::<u64>().unwrap_or_default() << 10
        };
        self.processes().iter().map(memory).sum()
    }
}

fn entries(directory: &str) -> Vec<u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
