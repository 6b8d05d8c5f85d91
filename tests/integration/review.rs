//! Findings of a review: each of these fails until what it names is mended.

use axum::body::Body;
use http::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::program::{Running, emulator, serve};
use crate::support::within;

/// The page says of OpenTelemetry's variables that none of them keeps the proxy from starting; collectors that speak gRPC are
/// often named without a scheme, or with their own.
#[tokio::test]
async fn review_a_collectors_address_for_others_keeps_nothing_from_starting() {
    let azure = emulator().await;
    for endpoint in ["collector:4317", "grpc://collector:4317"] {
        let mut command = serve(&azure);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        let proxy = Running::start(&mut command).await;
        assert_eq!(proxy.stop().await.0, 0);
    }
}

/// A viewer that takes nothing (a browser that is stopped, a debugger, a window of HTTP/2 that is used up) must not hold the end
/// up: nothing that it is told is worth waiting for.
#[tokio::test]
async fn review_a_viewer_that_takes_nothing_does_not_hold_the_end_up() {
    let azure = emulator().await;
    let proxy = Running::start(serve(&azure).args(["--set", "limits.shutdown_grace=2s"])).await;
    let stream = TokioIo::new(TcpStream::connect(proxy.address()).await.unwrap());
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(1);
    let (mut sender, connection) = within(builder.handshake(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("http://localhost/status/events").body(Body::empty()).unwrap();
    let viewer = within(sender.send_request(request)).await.unwrap();
    assert_eq!(viewer.status(), 200);
    let (code, log) = proxy.stop().await;
    assert!(code == 0 && !log.contains("cut off"), "{log}");
    drop((viewer, sender));
    connection.abort();
}
