//! Waits until a token is held: as long as waiting can help, and not without saying what for.

use std::future::pending;
use std::io::{IsTerminal, stderr};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::error::ToMendIt;
use crate::identity::schedule::Pace;
use crate::identity::tokens::TokenSlot;
use crate::identity::{Cause, CredentialError};

/// Nobody wonders before.
const MOMENT: Duration = Duration::from_secs(1);
/// How long to wait before looking again whether an attempt that failed was followed by one that did not.
const PAUSE: Duration = Duration::from_millis(100);

/// Waits for at most `patience`.
///
/// # Errors
///
/// Why there is none, as the end of a sentence: at once where only a person can mend it.
pub(super) async fn wait(tokens: &TokenSlot, patience: Duration) -> Result<(), String> {
    tokio::select! {
        outcome = held(tokens, patience) => outcome,
        () = say_what_for(tokens, patience) => Ok(()),
    }
}

async fn held(tokens: &TokenSlot, patience: Duration) -> Result<(), String> {
    let until = Instant::now() + patience;
    loop {
        match timeout_at(until, tokens.token()).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(failure)) if !can_pass(&failure.error) => return Err(told(&failure.error)),
            Ok(Err(_)) if Instant::now() + PAUSE < until => sleep(PAUSE).await,
            Ok(Err(_)) | Err(_) => {
                let why = tokens.failure().map_or_else(String::new, |failure| format!(": {}", told(&failure.error)));
                return Err(format!("no token within {} s{why}", patience.as_secs()));
            }
        }
    }
}

/// To a person who is there to read it; never ends.
async fn say_what_for(tokens: &TokenSlot, patience: Duration) {
    if !stderr().is_terminal() {
        return pending().await;
    }
    let mut said = String::new();
    loop {
        sleep(MOMENT).await;
        let for_what = match tokens.failure() {
            Some(failure) => format!("still no token: {}", told(&failure.error)),
            None => format!("waiting for a token from {}", tokens.source().name()),
        };
        if said != for_what {
            eprintln!("aoai-auth-proxy: {for_what} (waiting for {} s at most; Ctrl-C ends it)", patience.as_secs());
            said = for_what;
        }
    }
}

fn told(error: &CredentialError) -> String {
    format!("{error}{}", ToMendIt(error.advice()))
}

/// Whether the failure may be over before anybody does something about it.
fn can_pass(error: &CredentialError) -> bool {
    match &error.cause {
        // Nobody installs or configures anything meanwhile.
        Cause::Missing(_) | Cause::Unsupported(_) | Cause::Misfit(_) | Cause::ExpiredCertificate(_) => false,
        Cause::NoneWorked(tried) if !error.needs_a_person() => tried.iter().any(can_pass),
        Cause::NoneWorked(_)
        | Cause::Refused { .. }
        | Cause::Unreachable { .. }
        | Cause::NoToken { .. }
        | Cause::Overdue(_)
        | Cause::Tool(_)
        | Cause::File(_)
        | Cause::Panicked
        | Cause::Expired
        | Cause::Unsendable => error.pace(1) != Pace::Person,
    }
}
