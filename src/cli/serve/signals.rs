//! The signals that mean something to a server.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::lifecycle::Lifecycle;

pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Installed so that losing the terminal ends nothing.
    _hangup: Signal,
}

impl Signals {
    pub(super) fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The first begins the end, or asks for nothing new if that was asked for otherwise; completes with the second.
    pub(super) async fn twice(mut self, lifecycle: &Lifecycle) {
        self.next().await;
        if lifecycle.is_ending() {
            tracing::info!("stopping already; a second signal ends at once");
        } else {
            tracing::info!(
                "stopping: running requests go on, new connections are refused; a second signal ends at once"
            );
        }
        lifecycle.end();
        self.next().await;
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
