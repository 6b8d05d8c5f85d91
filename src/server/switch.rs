//! The caller's side of a connection that switches to another protocol (RFC 9110 §7.8).

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::socket::Rewound;
use crate::lifecycle::Held;

/// Among the extensions of a request that asks to switch and can: what becomes of the connection if the response is a 101.
#[derive(Debug, Clone)]
pub struct Switch {
    /// Extensions must be clonable; a connection switches once.
    connection: Arc<Mutex<Option<oneshot::Receiver<Rewound>>>>,
    held: Held,
}

impl Switch {
    pub(super) fn new(connection: oneshot::Receiver<Rewound>, held: Held) -> Self {
        Self { connection: Arc::new(Mutex::new(Some(connection))), held }
    }

    /// The connection once the 101 has been written, and what has to be held as long as it is used. [`None`] if the
    /// caller went away before that.
    pub async fn switched(self) -> Option<(Rewound, Held)> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some((connection.await.ok()?, self.held))
    }
}
