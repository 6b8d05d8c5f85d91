//! Signals that reach us while a command runs, with where they come from.

use std::future::pending;
use std::io;
use std::thread;

use rustix::process::{Signal, getpid, kill_process};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::emulate_default_handler;
use signal_hook::low_level::siginfo::Cause;
use tokio::sync::mpsc;

/// What is passed on. `SIGTTIN` and `SIGTTOU` are left to do what they do: they stop us along with the command.
const PASSED_ON: [Signal; 10] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::TERM,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::WINCH,
    Signal::CONT,
    Signal::TSTP,
];

/// Signals as they come.
#[derive(Debug)]
pub(super) struct Signals(mpsc::UnboundedReceiver<Arrived>);

/// One that came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived {
    pub(super) signal: Signal,
    /// By whom.
    pub(super) from: Sender,
}

/// Who sends signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// A program, to us.
    Program,
    /// The terminal, to everybody in its foreground.
    Terminal,
}

impl Signals {
    /// From now on they come here and have no other effect. What was ignored stays so, for the command too (`nohup`).
    pub(super) fn install() -> io::Result<Self> {
        let ignored = ignored();
        let caught = PASSED_ON.iter().chain([&Signal::CHILD]).map(|signal| signal.as_raw());
        let caught = caught.filter(|number| !ignored.contains(number));
        let mut signals = SignalsInfo::<WithOrigin>::new(caught)?;
        // Of a terminal that is closed, the system tells the leader of its session alone. Asked through `nix`, because a session
        // that was made outside of a container is called 0 in it (`docker exec`), and `rustix` has no such.
        let leads = nix::unistd::getsid(None) == Ok(nix::unistd::getpid());
        let (sender, receiver) = mpsc::unbounded_channel();
        let listening = thread::Builder::new().name("signals".to_owned());
        listening.spawn(move || {
            for origin in signals.forever() {
                let to_us = matches!(origin.cause, Cause::Sent(_)) || leads && origin.signal == Signal::HUP.as_raw();
                let from = if to_us { Sender::Program } else { Sender::Terminal };
                let arrived = Signal::from_named_raw(origin.signal).map(|signal| Arrived { signal, from });
                if arrived.is_some_and(|arrived| sender.send(arrived).is_err()) {
                    return;
                }
            }
        })?;
        Ok(Self(receiver))
    }

    /// The first that ends whoever does nothing about it.
    pub(super) async fn ending(&mut self) -> Signal {
        while let Some(Arrived { signal, .. }) = self.next().await {
            match signal {
                Signal::CHILD | Signal::WINCH | Signal::CONT => {}
                // Which stops us where a shell can wake us, as this one would.
                Signal::TSTP => {
                    if let Err(error) = kill_process(getpid(), Signal::TTOU) {
                        tracing::debug!(%error, "not stopped");
                    }
                }
                signal => return signal,
            }
        }
        // The thread that listens lives as long as we.
        pending().await
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Option<Arrived> {
        self.0.recv().await
    }
}

/// Ends us by this signal, as if it had never been caught. Comes back where that has no effect: as the first process of a
/// container.
pub(super) fn end_by(signal: Signal) {
    if getpid().is_init() {
        return;
    }
    if let Err(error) = emulate_default_handler(signal.as_raw()) {
        tracing::debug!(%error, ?signal, "not ended by it");
    }
}

/// Whether whoever started us has made us ignore it.
pub(super) fn is_ignored(signal: Signal) -> bool {
    ignored().contains(&signal.as_raw())
}

/// The numbers of the signals that whoever started us has made us ignore; but for `SIGCHLD`, which we need.
fn ignored() -> Vec<i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = line.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or_default();
    let numbers = (1..=64).filter(|number| mask & (1 << (number - 1)) != 0);
    numbers.filter(|number| *number != Signal::CHILD.as_raw()).collect()
}
