//! Runs `az` and `azd`: killed with all they have started when nobody waits any more, with nothing to read from.

use std::ffi::OsStr;
use std::io;
use std::process::{Output, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

use crate::systemd;

/// Runs a program until it ends. Whoever stops waiting kills it and its descendants: `az` is a shell script that starts
/// Python, so killing one process alone would leave the others behind.
pub(super) async fn run(program: &OsStr, arguments: &[&OsStr]) -> io::Result<Output> {
    let mut command = Command::new(program);
    // A service manager's word is for the proxy alone.
    for name in systemd::VARIABLES {
        command.env_remove(name);
    }
    let child = command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
    let output = child.wait_with_output().await;
    // It has ended and was waited for: its number may be another's by now.
    group.0 = None;
    output
}

/// A process group that is killed when it is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0
            && let Err(error) = kill_process_group(leader, Signal::KILL)
        {
            tracing::debug!(%error, "a process group was gone before it was killed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Whether the process runs: not gone, and not a zombie that nobody has waited for yet.
    fn runs(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
    }

    #[tokio::test]
    async fn who_stops_waiting_kills_the_descendants_too() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let script = format!("sleep 1000 & echo $! > {} && wait", file.path().display());
        let arguments = [OsStr::new("-c"), OsStr::new(&script)];
        let mut running = Box::pin(run(OsStr::new("/bin/sh"), &arguments));
        let grandchild = loop {
            tokio::select! {
                _ = &mut running => panic!("it ended by itself"),
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
            let pid = std::fs::read_to_string(file.path()).unwrap();
            if pid.ends_with('\n') {
                break pid.trim().to_owned();
            }
        };
        assert!(runs(&grandchild));
        drop(running);
        tokio::time::timeout(Duration::from_secs(30), async {
            while runs(&grandchild) {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the grandchild is killed");
    }
}
