//! The program: reads the command line, hands over, ends with the exit code that comes back.

use std::process::ExitCode;

use aoai_auth_proxy::cli::{CommandLine, become_command, run};

/// musl's is made to be small, and takes a lock for each piece of memory.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    become_command(std::env::args_os()).unwrap_or_else(|| run(CommandLine::read()))
}
