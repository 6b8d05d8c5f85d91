//! A collector that is away, slow, broken or deaf: requests do not notice, memory is bounded, and the end comes soon.
//!
//! A message may take an hour here, so that whoever waited for one would not end within the test's patience.

use tokio::net::TcpListener;

use super::collector::{Collector, Does};
use super::telling;
use crate::program::{Running, emulator};
use crate::support::{client, within};

/// Asks so often; all must be answered.
async fn ask(proxy: &Running, times: u64) {
    let client = client();
    for _ in 0..times {
        let response = within(client.get(format!("{}/v1/models", proxy.url)).send()).await.unwrap();
        assert_eq!(response.status(), 200);
        within(response.bytes()).await.unwrap();
    }
}

/// A number behind `name` in the last line of a log that has it.
fn number(log: &str, name: &str) -> u64 {
    let line = log.lines().rfind(|line| line.contains(name)).unwrap_or_else(|| panic!("{name}: {log}"));
    let behind = line.split_once(name).unwrap().1;
    behind.split(' ').next().unwrap().parse().unwrap()
}

/// Whoever `url` is: the program serves and ends.
async fn survives(url: &str, words: &str) -> String {
    let azure = emulator().await;
    let collector = Collector::start(Does::Takes).await;
    let mut command = telling(&azure, &collector);
    let proxy =
        Running::start(command.env("OTEL_EXPORTER_OTLP_ENDPOINT", url).env("OTEL_BSP_SCHEDULE_DELAY", "1")).await;
    ask(&proxy, 20).await;
    let (code, log) = proxy.stop().await;
    assert_eq!(code, 0, "{log}");
    assert_eq!(number(&log, "in all  lost="), 20, "{log}");
    let told = log.lines().filter(|line| line.contains("does not take") && line.contains("signal=traces")).count();
    assert!(told <= 1 && log.contains(words), "{log}");
    assert_eq!(collector.received().len(), 0);
    log
}

#[tokio::test]
async fn nobody_there() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    survives(&format!("http://127.0.0.1:{port}"), "Connection refused").await;
}

#[tokio::test]
async fn one_that_refuses() {
    let collector = Collector::start(Does::Refuses(500)).await;
    survives(&collector.url, "the collector answers with 500").await;
}

#[tokio::test]
async fn one_that_never_answers() {
    let collector = Collector::start(Does::Hangs).await;
    survives(&collector.url, "has not taken the last").await;
}

#[tokio::test]
async fn one_that_never_reads() {
    // Its system accepts, and nobody ever asks for the connection.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    survives(&format!("http://{}", listener.local_addr().unwrap()), "has not taken the last").await;
}

#[tokio::test]
async fn one_that_is_another_service() {
    // Trusted as everything else: over TLS, by `upstream.ca_file`.
    let azure = emulator().await;
    let mut command = crate::program::serve(&azure);
    command.arg("--set").arg(format!("telemetry.otlp_endpoint={}/v2", azure.openai()));
    let mut proxy = Running::start(command.env("OTEL_BSP_SCHEDULE_DELAY", "1")).await;
    ask(&proxy, 1).await;
    proxy.until_it_logs("the collector answers with 4").await;
    let asked = azure.control().requests().into_iter().any(|request| request.path_and_query.ends_with("/v2/v1/traces"));
    assert_eq!((proxy.stop().await.0, asked), (0, true));
}

#[tokio::test]
async fn there_is_room_for_so_many_spans_and_the_rest_is_counted() {
    let (azure, collector) = (emulator().await, Collector::start(Does::Hangs).await);
    let proxy = Running::start(telling(&azure, &collector).env("OTEL_BSP_MAX_QUEUE_SIZE", "64")).await;
    ask(&proxy, 100).await;
    let (code, log) = proxy.stop().await;
    assert_eq!(code, 0, "{log}");
    let dropped = log.lines().filter(|line| line.contains("spans are dropped")).count();
    assert_eq!((dropped, number(&log, "in all  lost=")), (1, 100), "told once: {log}");
}

#[tokio::test]
async fn one_that_takes_some_of_it() {
    let (azure, collector) = (emulator().await, Collector::start(Does::TakesMost).await);
    let proxy = Running::start(&mut telling(&azure, &collector)).await;
    ask(&proxy, 5).await;
    let (_, log) = proxy.stop().await;
    assert_eq!(number(&log, "in all  lost="), 1, "{log}");
}

#[tokio::test]
async fn one_that_was_away_has_it_a_moment_later() {
    let (azure, collector) = (emulator().await, Collector::start(Does::RefusesFirst).await);
    let mut command = telling(&azure, &collector);
    command.env("OTEL_METRICS_EXPORTER", "none").env("OTEL_BSP_SCHEDULE_DELAY", "1");
    let proxy = Running::start(&mut command).await;
    ask(&proxy, 1).await;
    collector.until("/v1/traces", 2).await;
    let (_, log) = proxy.stop().await;
    assert!(!log.contains("lost="), "{log}");
    assert_eq!(collector.spans()[0].span_id, collector.spans()[1].span_id, "the same again");
}

/// Whoever answers so is in trouble: no storm is to come of it, whatever it says.
#[tokio::test]
async fn one_that_wants_all_of_it_again_at_once() {
    let (azure, collector) = (emulator().await, Collector::start(Does::RefusesInHaste(503)).await);
    let mut command = telling(&azure, &collector);
    command.env("OTEL_METRICS_EXPORTER", "none").env("OTEL_BSP_SCHEDULE_DELAY", "1");
    let mut proxy = Running::start(command.env("OTEL_EXPORTER_OTLP_TIMEOUT", "3000")).await;
    ask(&proxy, 1).await;
    proxy.until_it_logs("the collector answers with 503").await;
    // At the beginning, half a second later at the earliest, and one after that.
    let posts = collector.received().len();
    assert!((1..=3).contains(&posts), "{posts}");
    let (code, log) = proxy.stop().await;
    assert_eq!((code, number(&log, "in all  lost="), log.contains("panicked")), (0, 1, false), "{log}");
    assert!(!log.contains("the end came first"), "{log}");
}
