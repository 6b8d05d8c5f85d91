//! Findings of a review: each of these fails until what it names is mended.

use aoai_auth_proxy::emulator::{Action, Fault, Route};
use rustix::process::Signal;

use super::collector::{Collector, Does};
use super::telling;
use crate::program::{Running, emulator};
use crate::support::{chat, client, within};

/// What is cut off when the grace is over is what somebody will look for.
#[tokio::test]
async fn review_a_request_that_was_cut_off_has_a_span() {
    let (azure, collector) = (emulator().await, Collector::start(Does::Takes).await);
    let mut command = telling(&azure, &collector);
    let proxy = Running::start(command.args(["--set", "limits.shutdown_grace=100ms"])).await;
    azure.control().fault(Fault::new(Route::Chat, Action::Hang));
    let url = format!("{}/v1/chat/completions", proxy.url);
    let asking = tokio::spawn(async move { client().post(url).json(&chat(false)).send().await.is_ok() });
    within(azure.control().until(|state| state.count(Route::Chat) == 1)).await;
    proxy.process().signal(Signal::TERM);
    let (_, log) = proxy.end().await;
    assert!(log.contains("cut off"), "{log}");
    assert!(!within(asking).await.unwrap());
    assert_eq!(collector.spans().len(), 1, "{log}");
}
