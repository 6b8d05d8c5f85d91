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

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::os::unix::net::UnixDatagram;
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test]
    async fn a_thread_that_hangs_keeps_it_silent() {
        let directory = tempfile::tempdir().unwrap();
        let name = directory.path().join("notify");
        let heard = UnixDatagram::bind(&name).unwrap();
        heard.set_nonblocking(true).unwrap();
        let variables = [("NOTIFY_SOCKET", name.to_str().unwrap()), ("WATCHDOG_USEC", "2000")];
        let manager = Manager::connect(&variables.into_iter().collect());
        let workers = Workers::start().unwrap();
        let (go_on, waits) = mpsc::channel::<()>();
        workers.crew().serve(async move {
            // Not as a task should wait.
            let _ = waits.recv();
        });
        let mut text = [0; 64];
        // Many times as long as it may be silent.
        tokio::select! {
            never = watch(&manager, &workers) => match never {},
            () = sleep(Duration::from_millis(50)) => {}
        }
        assert_eq!(heard.recv(&mut text).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
        drop(go_on);
        heard.set_nonblocking(false).unwrap();
        let next = tokio::task::spawn_blocking(move || heard.recv(&mut text).map(|length| text[..length].to_vec()));
        tokio::select! {
            never = watch(&manager, &workers) => match never {},
            told = next => assert_eq!(told.unwrap().unwrap(), b"WATCHDOG=1\n"),
        }
    }
}
