//! `config`: the configuration as it is in force, and who says so.

use clap::Args;

use super::{Failure, print};
use crate::config::{Effective, Environment, Overrides};

/// What is to be shown.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// Show one key alone: what it means, its value, who sets it and how to set it.
    #[arg(long, value_name = "KEY")]
    explain: Option<String>,
}

pub(super) fn run(environment: &Environment, overrides: &Overrides, show: &Show) -> Result<(), Failure> {
    let effective = Effective::read(environment, overrides)?;
    if let Some(key) = &show.explain {
        return print(&effective.explain(key)?);
    }
    print(effective.toml().trim_end())?;
    effective.into_config().map(|_| ()).map_err(Failure::Config)
}
