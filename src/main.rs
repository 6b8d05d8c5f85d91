//! The program: reads the command line, hands over, ends with the exit code that comes back.

use std::process::ExitCode;

use aoai_auth_proxy::cli::{CommandLine, run};
use clap::Parser;

fn main() -> ExitCode {
    run(CommandLine::parse())
}
