//! Runs `az` and `azd`: with a deadline above it, killed when that passes, with nothing to read from.

use std::ffi::OsStr;
use std::io;
use std::process::{Output, Stdio};

use super::credential::Executor;
use async_trait::async_trait;
use tokio::process::Command;

/// Runs a command until it ends. Whoever stops waiting kills it.
#[derive(Debug)]
pub(super) struct KillOnDrop;

#[async_trait]
impl Executor for KillOnDrop {
    async fn run(&self, program: &OsStr, arguments: &[&OsStr]) -> io::Result<Output> {
        Command::new(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output().await
    }
}
