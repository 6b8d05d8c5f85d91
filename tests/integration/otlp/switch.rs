//! How it is switched on and off, and what of that is shown.

use super::collector::{Collector, Does, attributes};
use super::telling;
use crate::program::{Running, emulator, outcome, program, serve};
use crate::support::{chat, client, within};

const FIELDS: (&str, &str) = ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hunter2-of%20the-collector,x-team=blue");

async fn ask(proxy: &Running) {
    let request = client().post(format!("{}/v1/chat/completions", proxy.url)).json(&chat(false));
    within(within(request.send()).await.unwrap().bytes()).await.unwrap();
}

#[tokio::test]
async fn fields_for_the_collector_go_there_and_nowhere_else() {
    let (azure, collector) = (emulator().await, Collector::start(Does::Takes).await);
    let mut command = telling(&azure, &collector);
    command.args(["--log-level", "trace,aoai_auth_proxy=trace"]).env(FIELDS.0, FIELDS.1);
    command.env("OTEL_SERVICE_NAME", "proxy-of-a-test").env("OTEL_RESOURCE_ATTRIBUTES", "team=a%2Cb");
    let proxy = Running::start(&mut command).await;
    ask(&proxy).await;
    let status = within(proxy.get("/status").await.text()).await.unwrap();
    let (_, log) = proxy.stop().await;
    let received = collector.received();
    let mut paths: Vec<_> = received.iter().map(|message| message.path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/v1/metrics", "/v1/traces"]);
    for message in &received {
        assert_eq!(message.fields["api-key"], "hunter2-of the-collector");
        assert_eq!(message.fields["x-team"], "blue");
        assert_eq!(message.fields["content-type"], "application/x-protobuf");
        assert!(!message.fields.contains_key("authorization"));
    }
    assert!(!log.contains("hunter2") && !status.contains("hunter2"), "{log}");
    let resource = collector.resource();
    assert_eq!((&*resource["service.name"], &*resource["team"]), ("proxy-of-a-test", "a,b"));
}

#[tokio::test]
async fn what_is_in_force_is_shown_without_them() {
    let mut command = program();
    command.env("AZURE_OPENAI_ENDPOINT", "https://name.openai.azure.com");
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318").env(FIELDS.0, FIELDS.1);
    let (code, shown, errors) = outcome(command.arg("config").env("OTEL_SERVICE_NAME", "mine")).await;
    assert_eq!((code, errors.as_str()), (0, ""));
    for line in [
        "otlp_endpoint = \"http://collector:4318\"",
        "#   OTEL_EXPORTER_OTLP_HEADERS = (secret)",
        "#   OTEL_SERVICE_NAME = \"mine\"",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn nothing_is_sent_where_it_is_switched_off() {
    let (azure, collector) = (emulator().await, Collector::start(Does::Takes).await);
    for (variable, value) in [("OTEL_SDK_DISABLED", "true"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")] {
        let proxy = Running::start(telling(&azure, &collector).env(variable, value)).await;
        ask(&proxy).await;
        let (code, log) = proxy.stop().await;
        let is_told =
            log.lines().any(|line| line.contains(" WARN ") && line.contains("OTEL_EXPORTER_OTLP_PROTOCOL=grpc"));
        assert_eq!((code, is_told), (0, value == "grpc"), "{log}");
    }
    assert_eq!(collector.received().len(), 0);
}

#[tokio::test]
async fn a_part_of_the_traces_can_be_asked_for() {
    let (azure, collector) = (emulator().await, Collector::start(Does::Takes).await);
    let mut command = telling(&azure, &collector);
    command.env("OTEL_TRACES_SAMPLER", "parentbased_always_off");
    let proxy = Running::start(&mut command).await;
    ask(&proxy).await;
    let request = client().post(format!("{}/v1/chat/completions", proxy.url)).json(&chat(false));
    let request = request.header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    within(within(request.send()).await.unwrap().bytes()).await.unwrap();
    proxy.stop().await;
    let spans = collector.spans();
    assert_eq!(spans.len(), 1, "the one that the caller has asked for");
    assert!(!attributes(&spans[0].attributes).is_empty() && !spans[0].parent_span_id.is_empty());
}

/// One variable alone says where, and not to the demo, which is configured by its command line.
#[tokio::test]
async fn nobody_is_told_anything_unless_it_is_said_where() {
    let (azure, collector) = (emulator().await, Collector::start(Does::Takes).await);
    let demo = || {
        let mut demo = program();
        demo.args(["demo", "--listen", "127.0.0.1:0"]).env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url);
        demo
    };
    let mut for_one_signal = serve(&azure);
    for_one_signal.env("OTEL_TRACES_EXPORTER", "otlp").env("OTEL_METRICS_EXPORTER", "otlp");
    for (signal, path) in [("TRACES", "traces"), ("METRICS", "metrics")] {
        let url = format!("{}/v1/{path}", collector.url);
        for_one_signal.env(format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"), url);
    }
    for command in [&mut for_one_signal, &mut demo()] {
        let proxy = Running::start(command).await;
        ask(&proxy).await;
        assert_eq!(proxy.stop().await.0, 0);
    }
    assert_eq!(collector.received().len(), 0);
    let setting = format!("telemetry.otlp_endpoint={}", collector.url);
    let proxy = Running::start(demo().args(["--set", &setting])).await;
    ask(&proxy).await;
    proxy.stop().await;
    assert_eq!(collector.received().len(), 2, "spans and metrics");
}

/// The page says of OpenTelemetry's variables that none of them keeps the proxy from starting; collectors that speak gRPC are
/// often named without a scheme, or with their own.
#[tokio::test]
async fn a_collectors_address_for_others_keeps_nothing_from_starting() {
    let azure = emulator().await;
    for endpoint in ["collector:4317", "grpc://collector:4317"] {
        let mut command = serve(&azure);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        let proxy = Running::start(&mut command).await;
        assert_eq!(proxy.stop().await.0, 0);
    }
}
