//! From the signal to stop until the process may end.

use tokio::sync::watch;

/// Shared by everything that behaves differently once the end has begun.
#[derive(Debug, Clone)]
pub struct Lifecycle(watch::Sender<bool>);

impl Lifecycle {
    /// A life that has not begun to end.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Begins the end: no new connections, running requests go on.
    pub fn end(&self) {
        self.0.send_replace(true);
    }

    /// Whether the end has begun.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        *self.0.borrow()
    }

    /// Completes when the end begins.
    pub async fn ending(&self) {
        // `self` holds the sender, so the wait ends only by its value.
        let _ = self.0.subscribe().wait_for(|ending| *ending).await;
    }
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}
