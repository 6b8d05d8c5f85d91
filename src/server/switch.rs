//! The caller's side of a connection that switches to another protocol (RFC 9110 §7.8).

use tokio::sync::oneshot;

use super::socket::Rewound;
use crate::lifecycle::Held;

/// What becomes of the connection of a request that asks to switch and can, if the response is a 101.
#[derive(Debug)]
pub struct Switch {
    connection: oneshot::Receiver<Rewound>,
    held: Held,
}

impl Switch {
    pub(super) fn new(connection: oneshot::Receiver<Rewound>, held: Held) -> Self {
        Self { connection, held }
    }

    /// The connection once the 101 has been written, and what has to be held as long as it is used. [`None`] if the
    /// caller went away before that.
    pub async fn switched(self) -> Option<(Rewound, Held)> {
        Some((self.connection.await.ok()?, self.held))
    }
}
