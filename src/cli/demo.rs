//! `demo`: the proxy as it would serve Azure, against the emulator in the same process.

use std::net::SocketAddr;

use tempfile::TempDir;

use super::serve::{Doors, books, close, ledger, open_many_files, proxy};
use super::{Failure, block_on, say};
use crate::config::{self, Config, Environment, Overrides};
use crate::confine;
use crate::emulator::{self, Emulator};
use crate::ledger::Ledger;
use crate::systemd::{Handed, Manager};
use crate::telemetry::logs::{self, Logs};
use crate::tls;

/// Options that would say where Azure is or who we are: the demo decides both.
const DECIDED: [&str; 4] = ["--endpoint", "--credential", "--client-id", "--tenant-id"];

pub(super) fn run(environment: &Environment, overrides: Overrides) -> Result<(), Failure> {
    if overrides.file.is_some() {
        return Err(Failure::DemoOption("--config"));
    }
    if let Some((option, ..)) = overrides.named.iter().find(|(option, ..)| DECIDED.contains(option)) {
        return Err(Failure::DemoOption(option));
    }
    let mut kept = Kept::default();
    let outcome = block_on(demo(environment, overrides, &mut kept));
    if let Some(ledger) = kept.ledger.take() {
        close(ledger, &outcome);
    }
    outcome
}

/// What outlives whoever is served.
#[derive(Default)]
struct Kept {
    ledger: Option<Ledger>,
    /// Where the ledger lies, unless another place is said.
    place: Option<TempDir>,
    /// Last: the others have things to say.
    logs: Option<Logs>,
}

async fn demo(environment: &Environment, mut overrides: Overrides, kept: &mut Kept) -> Result<(), Failure> {
    let emulator = Emulator::start(emulator::Options::default()).await.map_err(Failure::Emulator)?;
    // Behind what the user said: the demo's own settings win.
    overrides.assignments.extend(settings(&emulator));
    // In front: nothing of this machine is used, and nothing stays.
    let place = tempfile::tempdir().map_err(Failure::Emulator)?;
    overrides.assignments.insert(0, format!("usage.database={}", place.path().join("usage.db").display()));
    kept.place = Some(place);
    let config = Config::isolated(&overrides)?;
    kept.logs.insert(logs::start(&config.telemetry, environment)?).write().map_err(Failure::Runtime)?;
    confine::hide_memory();
    tracing::debug!("not confined: the emulator is in the same process");
    open_many_files();
    let tls = tls::client(&config.upstream.authorities)?;
    let doors = Doors::open(&config, Handed::default())?;
    kept.ledger = ledger(&config)?;
    kept.ledger.as_mut().map_or(Ok(()), Ledger::begin).map_err(Failure::Runtime)?;
    let books = books(kept.ledger.as_ref());
    let announce = |address| say(&what_to_try(address, config.ledger.as_ref()));
    proxy(&config, tls, doors, books, &Manager::default(), announce).await
}

/// The emulator's addresses, as an operator would configure Azure's.
fn settings(emulator: &Emulator) -> Vec<String> {
    vec![
        format!("upstream.endpoint={}", emulator.openai()),
        format!("upstream.ca_file={}", emulator.ca_file().display()),
        "credential.kind=managed-identity".to_owned(),
        format!("credential.imds_endpoint={}", emulator.imds()),
        format!("credential.authority_host={}", emulator.entra()),
        format!("management.endpoint={}", emulator.management()),
        format!("management.subscription_id={}", emulator.subscription_id()),
        format!("management.location={}", emulator.location()),
    ]
}

fn what_to_try(address: SocketAddr, ledger: Option<&config::Ledger>) -> String {
    let usage = ledger.map_or_else(String::new, |ledger| {
        format!("What it costs: aoai-auth-proxy usage --set usage.database={}\n", ledger.database.display())
    });
    let base = format!("http://{address}");
    format!(
        r#"
Azure here is an emulator in this process: real TLS, real signed tokens, echoed answers. Try, in another terminal:

  curl -N {base}/v1/chat/completions -H 'content-type: application/json' \
    -d '{{"model":"gpt-4o-mini","stream":true,"messages":[{{"role":"user","content":"Hello!"}}]}}'

Or point any OpenAI tool at it:

  export OPENAI_BASE_URL={base}/v1
  export OPENAI_API_KEY=unused

The page: {base}/    The region's models: {base}/management/models
{usage}Ctrl-C ends it."#
    )
}
