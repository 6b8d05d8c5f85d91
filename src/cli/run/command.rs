//! The command as a process: started, given what comes for it, waited for.
//!
//! It has the terminal and our process group, as if the shell had started it. What the terminal sends reaches it without us;
//! what a program sends to us is passed on. When it stops, so do we, or the shell would never know.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode, ExitStatus};

use nix::unistd::{getpgid, getpgrp};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpid, getppid, kill_process, waitid};

use super::signals::{Arrived, Sender, Signals};
use super::variables::Variables;
use super::{Failure, RunError};

/// What this program is told, instead of a subcommand, to become a command; behind it come the proxy's process and the command.
const BECOME: &str = "become-in-run";

/// A command that runs.
#[derive(Debug)]
pub(super) struct Attended {
    child: Child,
    pid: Pid,
}

impl Attended {
    /// Starts this program once more, to become the command: only a process itself can ask for a signal when its parent dies.
    pub(super) fn start(command: &[OsString], variables: &Variables) -> Result<Self, Failure> {
        let us = getpid().as_raw_pid().to_string();
        let mut child = Command::new(this_program().map_err(Failure::Runtime)?);
        child.arg(BECOME).arg(us).args(command);
        variables.apply(&mut child);
        let child = child.spawn().map_err(|error| RunError::Command { program: shown(command), error })?;
        Ok(Self { pid: Pid::from_child(&child), child })
    }

    /// Attends to it until it has ended.
    pub(super) async fn until_it_ends(mut self, mut signals: Signals) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if self.has_stopped() {
                self.stop_too();
            }
            match signals.next().await {
                Some(arrived) => self.pass_on(arrived),
                // The thread that listens to signals lives as long as we.
                None => return self.child.wait(),
            }
        }
    }

    fn pass_on(&self, Arrived { signal, from }: Arrived) {
        if signal == Signal::CHILD || (from == Sender::Terminal && self.is_of_our_group()) {
            return;
        }
        // It is not waited for yet, so the number is still its own.
        if let Err(error) = kill_process(self.pid, signal) {
            tracing::debug!(%error, ?signal, "a signal could not be passed on");
        }
    }

    /// Asked through `nix`, because a group that was made outside of a container is called 0 in it, and `rustix` has no such.
    fn is_of_our_group(&self) -> bool {
        getpgid(Some(nix::unistd::Pid::from_raw(self.pid.as_raw_pid()))) == Ok(getpgrp())
    }

    /// Told once for each time.
    fn has_stopped(&self) -> bool {
        let stopped = waitid(WaitId::Pid(self.pid), WaitIdOptions::STOPPED | WaitIdOptions::NOHANG);
        matches!(stopped, Ok(Some(_)))
    }

    /// Where there is a terminal, a shell waits to hear of it, and wakes us both with `SIGCONT`. This one of the signals that
    /// stop leaves us running where no shell would ever do so; then the command goes on.
    fn stop_too(&self) {
        if File::open("/dev/tty").is_err() {
            return;
        }
        for (process, signal) in [(getpid(), Signal::TTOU), (self.pid, Signal::CONT)] {
            if let Err(error) = kill_process(process, signal) {
                tracing::debug!(%error, ?signal, "a signal could not be sent");
            }
        }
    }
}

/// The file that runs, also if another one has its name by now.
fn this_program() -> io::Result<std::path::PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() }
}

/// Becomes the command, if these words say so. When the proxy dies, however it dies, the command gets `SIGTERM`, where the
/// system can do that.
pub(in crate::cli) fn become_command(words: impl IntoIterator<Item = OsString>) -> Option<Failure> {
    let mut words = words.into_iter().skip(1);
    words.next().filter(|word| word == BECOME)?;
    let proxy = words.next();
    let command: Vec<_> = words.collect();
    let program = shown(&command);
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::TERM)) {
        tracing::debug!(%error, "the command will not hear of the proxy's death");
    }
    // It may have died before.
    let parent = getppid().map(|parent| OsString::from(parent.as_raw_pid().to_string()));
    if proxy != parent {
        return Some(RunError::Orphaned { program }.into());
    }
    let (first, rest) = command.split_first()?;
    let error = Command::new(first).args(rest).exec();
    Some(RunError::Command { program, error }.into())
}

/// 128 and the signal's number, as shells say it, for a command that a signal has ended.
pub(super) fn exit_code(status: ExitStatus) -> ExitCode {
    let number = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    number.and_then(|number| u8::try_from(number).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// The command's name in a message.
pub(super) fn shown(command: &[OsString]) -> String {
    command.first().map_or_else(String::new, |word| word.to_string_lossy().into_owned())
}

/// What is most likely wrong with a command that does not start.
pub(super) fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            " (there is no such program, here or on PATH, or not the one that its first line names)"
        }
        io::ErrorKind::PermissionDenied => " (it is no program that this user may execute)",
        _ => "",
    }
}
