//! Runs `az` and `azd`: with a deadline above it, killed when that passes, with nothing to read from.

use std::ffi::OsStr;
use std::io;
use std::process::{Output, Stdio};

use tokio::process::Command;

/// Runs a program until it ends. Whoever stops waiting kills it.
pub(super) async fn run(program: &OsStr, arguments: &[&OsStr]) -> io::Result<Output> {
    Command::new(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output().await
}
