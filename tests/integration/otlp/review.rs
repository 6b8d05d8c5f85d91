//! Findings of a review: each of these fails until what it names is mended.

use aoai_auth_proxy::emulator::{Action, Fault, Route};
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;

use super::collector::{Collector, Does, points};
use super::telling;
use crate::program::{Running, emulator};
use crate::support::{chat, client, within};

/// As for Prometheus: a conversation lasts as long as somebody has something to say, which tells nothing of how fast anything is.
#[tokio::test]
async fn review_a_conversation_takes_no_time_here_either() {
    let (azure, collector) = (emulator().await, Collector::start(Does::Takes).await);
    let proxy = Running::start(telling(&azure, &collector).env("OTEL_TRACES_EXPORTER", "none")).await;
    let stream = TcpStream::connect(proxy.address()).await.unwrap();
    let url = format!("ws://{}/v1/realtime?model=gpt-realtime", proxy.address());
    let (mut socket, _) = within(client_async(url, stream)).await.unwrap();
    within(socket.close(None)).await.unwrap();
    drop(socket);
    let (code, log) = proxy.stop().await;
    assert_eq!(code, 0, "{log}");
    let metrics = collector.metrics();
    for name in ["http.server.request.duration", "gen_ai.client.operation.duration", "aoai_proxy.time_to_first_byte"] {
        let named: Vec<_> = metrics.iter().filter(|metric| metric.name == name).cloned().collect();
        if !named.is_empty() {
            let points = points(&named, name);
            assert_eq!(points.iter().map(|(_, count, _)| count).sum::<u64>(), 0, "{name}: {points:?}");
        }
    }
}

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
