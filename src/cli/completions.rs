//! `completions`: what a shell needs to complete commands and options.

use clap_complete::{Shell, generate};

use super::{line, say};

pub(super) fn print(shell: Shell) {
    let mut script = Vec::new();
    generate(shell, &mut line::command(), "aoai-auth-proxy", &mut script);
    say(String::from_utf8_lossy(&script).trim_end());
}
