//! `emulator`: the embedded Azure emulator alone, for other programs' tests.

use tokio::signal::unix::{SignalKind, signal};

use super::serve::open_many_files;
use super::{Failure, block_on, say};
use crate::emulator::{Emulator, Options};

pub(super) fn run() -> Result<(), Failure> {
    open_many_files();
    block_on(async {
        let emulator = Emulator::start(Options::default()).await.map_err(Failure::Emulator)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::Runtime)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::Runtime)?;
        say(&exports(&emulator));
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}

/// What a shell needs to point the proxy (or another program) at the emulator; the last line says that all is bound.
fn exports(emulator: &Emulator) -> String {
    let variables = [
        ("AZURE_OPENAI_ENDPOINT", emulator.openai().to_owned()),
        ("AZURE_POD_IDENTITY_AUTHORITY_HOST", emulator.imds().to_owned()),
        ("AZURE_AUTHORITY_HOST", emulator.entra().to_owned()),
        ("AZURE_SUBSCRIPTION_ID", emulator.subscription_id().to_owned()),
        ("AOAI_PROXY__UPSTREAM__CA_FILE", emulator.ca_file().display().to_string()),
        ("AOAI_PROXY__CREDENTIAL__KIND", "managed-identity".to_owned()),
        ("AOAI_PROXY__MANAGEMENT__ENDPOINT", emulator.management().to_owned()),
        ("AOAI_PROXY__MANAGEMENT__LOCATION", emulator.location().to_owned()),
        ("AOAI_EMULATOR_APP_SERVICE", emulator.app_service().to_owned()),
        ("AOAI_EMULATOR_APP_SERVICE_HEADER", emulator.app_service_header().to_owned()),
        ("AOAI_EMULATOR_CONTROL", emulator.control_address().to_owned()),
    ];
    let lines = variables.iter().map(|(name, value)| format!("export {name}={value}"));
    lines.chain(["# ready".to_owned()]).collect::<Vec<_>>().join("\n")
}
