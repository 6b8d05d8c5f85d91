//! `man`: the manual page, from the same words as `--help`.

use std::io;

use clap::{Arg, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::Failure;
use super::line::{self, is_common};
use crate::config::keys::KEYS;

pub(super) fn print() -> Result<(), Failure> {
    let page = page().map_err(Failure::Manual)?;
    super::print(String::from_utf8_lossy(&page).trim_end())
}

/// One page for everything: nobody looks for the manual of a subcommand.
fn page() -> io::Result<Vec<u8>> {
    // What `-h` leaves out belongs in a manual.
    let mut command = line::command().mut_args(|argument| argument.hide_short_help(false));
    command.build();
    let mut page = Vec::new();
    let man = Man::new(command.clone()).manual("User Commands");
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    synopsis().to_writer(&mut page)?;
    man.render_description_section(&mut page)?;
    commands(&command).to_writer(&mut page)?;
    man.render_options_section(&mut page)?;
    files_and_variables().to_writer(&mut page)?;
    man.render_version_section(&mut page)?;
    Ok(page)
}

/// Of so many options, none is named.
fn synopsis() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([bold("aoai-auth-proxy"), roman(" [OPTIONS] [COMMAND]")]);
    roff
}

/// Every subcommand with the options that it alone takes.
fn commands(command: &Command) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    let told = |subcommand: &&Command| !subcommand.is_hide_set() && subcommand.get_name() != "help";
    for subcommand in command.get_subcommands().filter(told) {
        roff.control("TP", []);
        roff.text([bold(subcommand.get_name())]);
        let about = subcommand.get_long_about().or(subcommand.get_about()).map(ToString::to_string);
        roff.text([roman(about.unwrap_or_default())]);
        let told = |argument: &&Arg| !is_common(argument) && !argument.is_hide_set() && argument.get_id() != "help";
        for argument in subcommand.get_arguments().filter(told) {
            let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string);
            roff.control("RS", []);
            roff.control("TP", []);
            roff.text([bold(argument.to_string())]);
            roff.text([roman(help.unwrap_or_default())]);
            roff.control("RE", []);
        }
    }
    roff
}

fn files_and_variables() -> Roff {
    let mut roff = Roff::new();
    let mut section = |title: &str, entries: &[(&str, &str)]| {
        roff.control("SH", [title]);
        for (name, meaning) in entries {
            roff.control("TP", []);
            roff.text([bold(*name)]);
            roff.text([roman(*meaning)]);
        }
    };
    section(
        "FILES",
        &[
            (
                "./aoai-auth-proxy.toml",
                "the configuration; the first of these that exists is read, unless --config names one",
            ),
            ("$XDG_CONFIG_HOME/aoai-auth-proxy/config.toml", "or ~/.config/aoai-auth-proxy/config.toml"),
            ("/etc/aoai-auth-proxy/config.toml", "for the whole machine"),
        ],
    );
    let variables = KEYS.iter().filter_map(|key| Some((key.variable?, key.name)));
    let own =
        [("AOAI_PROXY_CONFIG", "the configuration file"), ("AOAI_PROXY__SECTION__KEY", "any key of the configuration")];
    let others = [
        ("AZURE_TOKEN_CREDENTIALS", "which credentials auto tries: dev, prod, or one by its name in Azure's SDKs"),
        ("HTTPS_PROXY, NO_PROXY", "the forward proxy of every outgoing connection"),
        ("SSL_CERT_FILE, SSL_CERT_DIR", "whom outgoing connections trust"),
    ];
    section("ENVIRONMENT", &own.into_iter().chain(variables).chain(others).collect::<Vec<_>>());
    section(
        "EXIT STATUS",
        &[
            ("0", "done, or stopped in order"),
            ("1", "failed at run time"),
            ("2", "bad usage or bad configuration"),
            ("the command's own", "run: the command has ended"),
            ("126, 127", "run: the command cannot be executed, it was not found"),
            ("128 + N", "run: signal N has ended the command"),
        ],
    );
    roff
}
