//! The command as a process: started, given what comes for it, waited for.
//!
//! Where a shell moves its jobs between foreground and background, the command has our process group, and with it the terminal,
//! as if the shell had started it: what the terminal sends reaches it without us. When it stops, so do we, or the shell would
//! never know. Elsewhere it has a group of its own, or it would hear twice what is sent to all of ours. What a program sends
//! to us is passed on.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use nix::unistd::{getpgid, getpgrp, tcgetpgrp};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpid, getppid, kill_process, kill_process_group, waitid};

use super::signals::{Arrived, Sender, Signals, is_ignored};
use super::variables::Variables;
use super::{Failure, RunError};

/// What this program is told, instead of a subcommand, to become a command; behind it come the proxy's process and the command.
const BECOME: &str = "become-in-run";

/// What asks a program to end.
const ENDING: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];

/// What comes a second time this soon was sent once: `timeout` tells its program, and then the group that this is in.
const AT_ONCE: Duration = Duration::from_millis(100);

/// A command that runs.
#[derive(Debug)]
pub(super) struct Attended {
    child: Child,
    pid: Pid,
    /// Whether it leads a process group of its own.
    leads: bool,
    /// The last signal that was passed on to end it, and when.
    asked_to_end: Option<(Signal, Instant)>,
}

impl Attended {
    /// Starts this program once more, to become the command: only a process itself can ask for a signal when its parent dies.
    pub(super) fn start(command: &[OsString], variables: &Variables) -> Result<Self, RunError> {
        let refused = |error| RunError::NoProcess { program: shown(command), error };
        let mut child = Command::new(this_program().map_err(refused)?);
        child.arg(BECOME).arg(getpid().as_raw_pid().to_string()).args(command);
        variables.apply(&mut child);
        let leads = !is_a_shells_job();
        if leads {
            child.process_group(0);
        }
        let child = child.spawn().map_err(refused)?;
        Ok(Self { pid: Pid::from_child(&child), child, leads, asked_to_end: None })
    }

    /// Attends to it until it has ended.
    pub(super) async fn until_it_ends(mut self, mut signals: Signals) -> io::Result<ExitStatus> {
        while !self.has(WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            if self.has(WaitIdOptions::STOPPED) {
                self.stop_too();
            }
            match signals.next().await {
                Some(arrived) => self.pass_on(arrived),
                // The thread that listens to signals lives as long as we.
                None => break,
            }
        }
        self.tell_who_is_left();
        self.child.wait()
    }

    fn pass_on(&mut self, Arrived { signal, from }: Arrived) {
        if signal == Signal::CHILD || (from == Sender::Terminal && self.is_of_our_group()) {
            return;
        }
        if ENDING.contains(&signal) {
            let now = Instant::now();
            if self.asked_to_end.is_some_and(|(last, when)| last == signal && now - when < AT_ONCE) {
                return;
            }
            self.asked_to_end = Some((signal, now));
        }
        // It is not waited for yet, so the number is still its own.
        if let Err(error) = kill_process(self.pid, signal) {
            tracing::debug!(%error, ?signal, "a signal could not be passed on");
        }
    }

    /// A script's programs, which were meant too if the signal was for all of our group: not before the script has ended, so that
    /// a command that ends its own processes in order can do so. Nor when it is waited for, as long as the number is its own.
    fn tell_who_is_left(&self) {
        if let (true, Some((signal, _))) = (self.leads, self.asked_to_end)
            && let Err(error) = kill_process_group(self.pid, signal)
        {
            tracing::debug!(%error, ?signal, "nobody of the command's group could be told");
        }
    }

    /// Asked through `nix`, because a group that was made outside of a container is called 0 in it, and `rustix` has no such.
    fn is_of_our_group(&self) -> bool {
        getpgid(Some(nix::unistd::Pid::from_raw(self.pid.as_raw_pid()))) == Ok(getpgrp())
    }

    /// Whether it has ended or stopped; that it has stopped is told once for each time.
    fn has(&self, changed: WaitIdOptions) -> bool {
        matches!(waitid(WaitId::Pid(self.pid), changed | WaitIdOptions::NOHANG), Ok(Some(_)))
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

/// Whether a shell may give us the terminal, now or later: it sends what Ctrl-C means to the group that has it, and only that
/// may read. Whoever is in the background in another's group, like that of `timeout`, will not have it.
fn is_a_shells_job() -> bool {
    let Ok(terminal) = File::open("/dev/tty") else { return false };
    getpgrp() == nix::unistd::getpid() || tcgetpgrp(&terminal) == Ok(getpgrp())
}

/// The file that runs, also if another one has its name by now.
fn this_program() -> io::Result<PathBuf> {
    let file = Path::new("/proc/self/exe");
    if cfg!(target_os = "linux") && file.exists() { Ok(file.to_owned()) } else { std::env::current_exe() }
}

/// What the command gets when the proxy dies. Shells that people type at end by `SIGHUP` alone, and so does whatever loses its
/// terminal.
#[cfg(target_os = "linux")]
fn death_signal() -> Signal {
    if File::open("/dev/tty").is_ok() && !is_ignored(Signal::HUP) { Signal::HUP } else { Signal::TERM }
}

/// Becomes the command, if these words say so. When the proxy dies, however it dies, the command gets a signal, where the
/// system can do that.
pub(in crate::cli) fn become_command(words: impl IntoIterator<Item = OsString>) -> Option<Failure> {
    let mut words = words.into_iter().skip(1);
    words.next().filter(|word| word == BECOME)?;
    let proxy = words.next();
    let command: Vec<_> = words.collect();
    let program = shown(&command);
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(death_signal())) {
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

/// The command's own, or by the signal that has ended it.
pub(super) fn exit_code(status: ExitStatus) -> ExitCode {
    let own = status.code().and_then(|code| u8::try_from(code).ok()).map(ExitCode::from);
    own.or_else(|| status.signal().map(by_signal)).unwrap_or(ExitCode::FAILURE)
}

/// 128 and the signal's number, as shells say it.
pub(super) fn by_signal(number: i32) -> ExitCode {
    u8::try_from(128 + number).map_or(ExitCode::FAILURE, ExitCode::from)
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
