//! `completions`: what a shell needs to complete commands and options.

use clap_complete::{Shell, generate};

use super::{Failure, line};

pub(super) fn print(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(shell, &mut line::command(), "aoai-auth-proxy", &mut script);
    let script = String::from_utf8_lossy(&script);
    // The library takes the dashes of the program's name for subcommands in one place and not in the other.
    super::print(script.replace("aoai__subcmd__auth__subcmd__proxy", "aoai__auth__proxy").trim_end())
}
