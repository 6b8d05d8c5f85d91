//! Tells the service manager again and again that serving goes on, as long as it does: a program that hangs is one that says
//! nothing, and is started anew.

use std::convert::Infallible;
use std::future::pending;

use tokio::time::{MissedTickBehavior, interval};

use super::{Event, Manager};
use crate::workers::Workers;

/// Never completes. Says as often as `manager` wants that all is well: whenever each of `workers` has answered, and so has whoever
/// accepts callers, in whose runtime this is to run.
pub async fn watch(manager: &Manager, workers: &Workers) -> Infallible {
    let Some(every) = manager.every() else { return pending().await };
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        workers.answer().await;
        manager.tell(Event::Alive);
    }
}
