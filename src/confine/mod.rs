//! What the process may do once it has started: no more than it needs.
//!
//! Two things hold everywhere: no core is dumped, and nobody of the same user looks into the memory, where tokens are. On
//! Linux, Landlock takes the rest away: files but for what is still read, programs, new TCP listeners. Where a credential is a
//! program (`az`, `azd`), that needs all the rights of whoever runs the proxy, and Landlock is left out.
//!
//! What cannot be enforced is said at debug and keeps nothing from starting.

mod needs;
mod programs;
#[cfg(target_os = "linux")]
mod ruleset;

use std::path::PathBuf;

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::config::{Config, Environment};

use needs::Needs;
use programs::{is_installed, runs_programs};

/// No core dumps, and nobody of the same user attaches or reads the memory unless privileged (`CAP_SYS_PTRACE`).
///
/// Programs that are started later are not touched by the second: it ends with `exec`.
pub fn hide_memory() {
    forbid_cores();
    keep_out_others();
}

/// No core dumps, of this process and of whatever it starts from now on.
pub fn forbid_cores() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::debug!(%error, "core dumps cannot be forbidden");
    }
}

/// Nobody of the same user attaches or reads the memory, and on Linux no core of it is dumped; programs that are started are
/// not touched by it.
pub fn keep_out_others() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        // The limit alone does not bind a program that the system pipes cores into.
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            tracing::debug!(%error, "processes of the same user can read this one's memory");
        }
    }
}

/// Takes from this thread, and all that it starts from now on, whatever serving does not need. `writable` are files or
/// directories that are written to.
///
/// Everything else that is opened once must be open: sockets, the configuration, the system's certificate authorities.
pub fn confine(config: &Config, environment: &Environment, writable: &[PathBuf]) {
    if runs_programs(&config.credential.source, |tool| is_installed(tool, environment)) {
        tracing::debug!("not confined: the credential may run az or azd, which need all rights of this user");
        return;
    }
    enforce(&Needs::of(config, writable));
}

#[cfg(target_os = "linux")]
fn enforce(needs: &Needs) {
    use landlock::{LandlockStatus, RulesetStatus};

    use crate::error::Causes;

    let status = match ruleset::enforce(needs) {
        Ok(status) => status,
        Err(error) => return tracing::debug!(error = %Causes(&error), "not confined: Landlock refuses"),
    };
    let (kernel, Needs { read, remove, write }) = (status.landlock, needs);
    match (status.ruleset, kernel) {
        (RulesetStatus::FullyEnforced, _) => tracing::debug!(?read, ?remove, ?write, "confined by Landlock"),
        (RulesetStatus::PartiallyEnforced, _) => tracing::debug!(
            ?read,
            ?remove,
            ?write,
            ?kernel,
            "confined by Landlock in part: this kernel does not know all of it (truncating files: ABI 3, binding TCP ports: 4, \
             device controls: 5, signals and abstract sockets: 6)"
        ),
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => {
            tracing::debug!("not confined: Landlock is not enabled in this kernel (lsm=landlock,…)");
        }
        (RulesetStatus::NotEnforced, _) => tracing::debug!("not confined: this kernel has no Landlock (Linux 5.13)"),
    }
}

#[cfg(not(target_os = "linux"))]
fn enforce(_: &Needs) {
    tracing::debug!("not confined: this system has no Landlock");
}
