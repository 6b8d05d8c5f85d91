//! `check`: goes the way of a request step by step, says what it sees, and how to mend what is wrong.
//!
//! Each step needs some of those before it: [`steps`] has the order, and what is skipped because of what.

mod ask;
mod call;
mod certificates;
mod credential;
mod data;
mod management;
mod network;
mod progress;
mod report;
mod role;
mod setup;
mod show;
mod tls;

use std::net::IpAddr;
use std::process::ExitCode;

use clap::Args;
use http::uri::Scheme;
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, block_on};
use crate::config::{Environment, Overrides};
use crate::confine;
use crate::identity::tokens::Token;
use crate::telemetry::logs;
use data::Access;
use management::Management;
use report::{Finding, Mend, Name, Reader, Report};
use setup::Setup;

/// What is asked.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Print the report as one JSON object.
    #[arg(long)]
    json: bool,
    /// Make one chat call too, as short as the model lets it be.
    #[arg(long)]
    call: bool,
    /// The deployment to call; without it, the first that chats, if the management plane tells.
    #[arg(long, value_name = "NAME", requires = "call")]
    deployment: Option<String>,
}

pub(super) fn run(environment: &Environment, overrides: Overrides, asked: &Check) -> Result<ExitCode, Failure> {
    // The report says it all, unless somebody wants to know more.
    let overrides = Overrides { defaults: vec![("telemetry.log_level", "off")], ..overrides };
    let reader = if asked.json { Reader::Machine } else { Reader::Person };
    let mut report = Report::new(reader);
    let began = std::time::Instant::now();
    let setup = match Setup::new(environment, &overrides) {
        Ok(setup) => setup,
        Err(failure) => {
            report.add(Name::Configuration, began.elapsed(), setup::misfit(&failure));
            for name in Name::FURTHER {
                let _ = report.blame::<()>(name, Name::Configuration);
            }
            report.end()?;
            // People have read it already.
            return if reader == Reader::Machine { Err(failure) } else { Ok(failure.exit_code()) };
        }
    };
    report.add(Name::Configuration, began.elapsed(), setup.finding());
    let logs = logs::start(&setup.config.telemetry, environment)?;
    confine::hide_memory();
    logs.write().map_err(Failure::Runtime)?;
    let ok = block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::Runtime)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::Runtime)?;
        tokio::select! {
            report = steps(&setup, asked, report) => report.end(),
            // What is under way ends with its future: also a tool, which Ctrl-C does not reach.
            _ = interrupt.recv() => Err(Failure::Interrupted),
            _ = terminate.recv() => Err(Failure::Interrupted),
        }
    })?;
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All steps behind the configuration.
async fn steps(setup: &Setup, asked: &Check, mut report: Report) -> Report {
    let (way, addresses) = way(setup, &mut report).await;

    // Whoever we are does not depend on the resource.
    let token = report.step(Name::Credential, credential::credential(setup)).await;
    let token = match token {
        Ok(token) => {
            let finding = credential::token(&token, setup.now());
            report.step(Name::Token, async { (finding, Some(token)) }).await
        }
        Err(to_blame) => report.blame(Name::Token, to_blame),
    };

    let management = Management::new(setup);
    plane(setup, asked, &mut report, &management, way, token.as_ref(), addresses.as_deref()).await;

    let _ = match token {
        Ok(_) => report.step(Name::Management, management.check()).await,
        Err(to_blame) => report.blame(Name::Management, to_blame),
    };
    report
}

/// DNS, TCP and TLS; and where the resource's name leads to, if it was this machine that looked it up.
async fn way(setup: &Setup, report: &mut Report) -> (Result<(), Name>, Option<Vec<IpAddr>>) {
    let addresses = report.step(Name::Dns, network::dns(setup)).await;
    let stream = match &addresses {
        Ok(_) => report.step(Name::Tcp, network::tcp(setup)).await,
        Err(to_blame) => report.blame(Name::Tcp, *to_blame),
    };
    let is_plain = setup.config.upstream.endpoint.scheme() == &Scheme::HTTP;
    let way = match stream {
        Ok(_) if is_plain => {
            let finding = Finding::skipped("because upstream.endpoint is on this machine and begins with http://");
            report.step(Name::Tls, async { (finding, Some(())) }).await
        }
        Ok(stream) => report.step(Name::Tls, tls::tls(setup, stream)).await,
        Err(to_blame) => report.blame(Name::Tls, to_blame),
    };
    (way, addresses.ok().filter(|_| setup.connector.forward_proxy().is_none()))
}

/// What the resource answers, and what follows from it.
async fn plane(
    setup: &Setup,
    asked: &Check,
    report: &mut Report,
    management: &Management<'_>,
    way: Result<(), Name>,
    token: Result<&Token, &Name>,
    addresses: Option<&[IpAddr]>,
) {
    let ready = way.and(token.map_err(|to_blame| *to_blame));
    let listing = match ready {
        Ok(token) => {
            report.step(Name::DataPlane, data::models(setup, token, addresses)).await.map(|access| (token, access))
        }
        Err(to_blame) => report.blame(Name::DataPlane, to_blame),
    };
    let called = match &listing {
        Ok((token, _)) => report.step(Name::Call, call(setup, asked, token, management)).await.ok(),
        Err(to_blame) => report.blame(Name::Call, *to_blame).ok(),
    };
    let _ = match listing {
        Ok((_, listing)) => {
            let judged = async {
                let account = match (&listing, &called) {
                    (Access::NoRole(_), _) | (_, Some(Access::NoRole(_))) => management.account().await,
                    _ => None,
                };
                (role::role(&listing, called.as_ref(), account.as_deref()), Some(()))
            };
            report.step(Name::Role, judged).await
        }
        Err(to_blame) => report.blame(Name::Role, to_blame),
    };
}

/// A call, if one is asked for and it is known whom to call.
async fn call(setup: &Setup, asked: &Check, token: &Token, management: &Management<'_>) -> (Finding, Option<Access>) {
    if !asked.call {
        return (Finding::skipped("because it was not asked for; --call makes one, for a token or a few"), None);
    }
    let deployment = match &asked.deployment {
        Some(name) => Ok(name.clone()),
        None => management.chat_deployment().await,
    };
    match deployment {
        Ok(name) => call::call(setup, token, &name).await,
        Err(reason) => {
            let mend = Mend::new("name one", ["aoai-auth-proxy check --call --deployment NAME".to_owned()]);
            (Finding::skipped(format!("because no deployment is known: {reason}")).mend(mend), None)
        }
    }
}
