//! Wall-clock time, injected: the one place that asks what time it is.
//!
//! A token's expiry is wall-clock time, and monotonic time may stand still while a laptop sleeps. Everything that judges
//! a token's age asks a [`Clock`], so that tests can set the time by hand.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

/// A clock that is shared by everything in one process (or in one test).
pub type SharedClock = Arc<dyn Clock>;

/// The longest that [`SystemClock::wait_until`] trusts a monotonic timer before it looks at the wall clock again.
///
/// While a machine sleeps its timers stand still, so after waking a wait may be late by at most this.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// Tells wall-clock time and waits for it.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The wall-clock time.
    fn now(&self) -> SystemTime;

    /// Completes once [`Clock::now`] has reached `deadline`, also when the machine slept in between.
    fn wait_until(&self, deadline: SystemTime) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks for wall time")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn wait_until(&self, deadline: SystemTime) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            while let Ok(left) = deadline.duration_since(self.now()) {
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(LOOK_AGAIN)).await;
            }
        })
    }
}

/// A clock that stands still until it is set: for tests.
#[derive(Debug)]
pub struct ManualClock(watch::Sender<SystemTime>);

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn new(now: SystemTime) -> Self {
        Self(watch::Sender::new(now))
    }

    /// A clock that shows the machine's time of this moment and then stands still.
    #[must_use]
    pub fn stopped() -> Self {
        Self::new(SystemClock.now())
    }

    /// Sets the clock back, as happens to a machine's own when it learns the time from others.
    pub fn set_back(&self, by: Duration) {
        self.0.send_modify(|now| *now -= by);
    }

    /// Moves the clock on and wakes whoever waited for a time that has come.
    pub fn advance(&self, by: Duration) {
        self.0.send_modify(|now| *now += by);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        *self.0.borrow()
    }

    fn wait_until(&self, deadline: SystemTime) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let mut time = self.0.subscribe();
        Box::pin(async move {
            // The sender lives as long as `self`, so the only way out is that the time has come.
            let _ = time.wait_for(|now| *now >= deadline).await;
        })
    }
}
