//! The built program under the load, and what it logs.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use aoai_auth_proxy::emulator::Emulator;
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::process::Process;

/// How long it has to start, and to stop with nothing under way.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running proxy.
pub(crate) struct Program {
    pub(crate) address: SocketAddr,
    child: Child,
    /// How many lines were logged, and those that should not have been.
    log: JoinHandle<(u64, Vec<String>)>,
}

impl Program {
    /// Starts the proxy in front of `azure`; `settings` (`section.key=value`) win over what points it there.
    pub(crate) async fn start(azure: &Emulator, settings: &[String]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aoai-auth-proxy"));
        command.env_clear().env("HOME", "/nonexistent").env("AZURE_POD_IDENTITY_AUTHORITY_HOST", azure.imds());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let own = [
            "listen.address=127.0.0.1:0".to_owned(),
            format!("upstream.endpoint={}", azure.openai()),
            format!("upstream.ca_file={}", azure.ca_file().display()),
            format!("upstream.response_timeout={}s", crate::faults::DEADLINE.as_secs()),
            format!("upstream.idle_timeout={}s", crate::faults::DEADLINE.as_secs()),
            "credential.kind=managed-identity".to_owned(),
            format!("credential.imds_endpoint={}", azure.imds()),
            format!("management.endpoint={}", azure.management()),
            format!("management.subscription_id={}", azure.subscription_id()),
            format!("management.location={}", azure.location()),
        ];
        for setting in own.iter().chain(settings) {
            command.args(["--set", setting]);
        }
        let mut child = command.spawn().expect("the program");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        // Read all the time: a program whose log nobody reads stands still.
        let log = tokio::spawn(async move {
            let (mut count, mut bad) = (0, Vec::new());
            while let Ok(Some(line)) = lines.next_line().await {
                count += 1;
                if line.contains("panicked") || line.contains("ERROR") {
                    bad.push(format!("logged: {line}"));
                }
            }
            (count, bad)
        });
        let mut output = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let line = timeout(PATIENCE, output.next_line()).await.expect("in time").expect("a pipe").expect("a line");
        let address = line.strip_prefix("listening on http://").expect("the address").parse().expect("an address");
        Self { address, child, log }
    }

    pub(crate) fn process(&self) -> Process {
        Process::new(self.child.id().expect("it runs"))
    }

    /// Asks it to stop; how many lines it logged, and what was not as it should be.
    pub(crate) async fn stop(mut self) -> (u64, Vec<String>) {
        self.process().signal(Signal::TERM);
        let ended = timeout(PATIENCE, self.child.wait()).await;
        let (lines, mut bad) = match &ended {
            Ok(_) => self.log.await.expect("a log"),
            Err(_) => (0, vec!["the program does not stop".to_owned()]),
        };
        match ended {
            Ok(Ok(status)) if !status.success() => bad.push(format!("the program ended with {status}")),
            _ => {}
        }
        (lines, bad)
    }
}
