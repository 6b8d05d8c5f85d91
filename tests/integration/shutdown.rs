//! The end: running requests have theirs, new connections are refused.

use aoai_auth_proxy::emulator::{Action, Route};
use aoai_auth_proxy::server::Drained;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;
use tokio::net::TcpStream;

use crate::program::{Running, emulator, held_streams, serve};
use crate::support::{World, within};

#[tokio::test]
async fn a_stream_that_runs_is_finished() {
    let mut world = World::new().await;
    world.fault(Route::Chat, Action::Hold { after_events: 2 }, Some(1));
    let mut response = world.chat_stream().await;
    within(response.chunk()).await.unwrap().expect("the first event");

    world.proxy.lifecycle.end();
    let address = world.proxy.address;
    within(async {
        // The listener is closed as soon as the server has heard of the end.
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    within(world.azure.control().until(|state| state.streams_held == 1)).await;
    world.azure.control().release();
    let mut text = String::new();
    while let Some(chunk) = within(response.chunk()).await.expect("no break") {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    // The caller's kept connections must not hold the end up.
    drop(world.client);
    assert_eq!(within(&mut world.proxy.serving).await.unwrap().unwrap(), Drained::Completely);
}

#[tokio::test]
async fn after_the_grace_period_what_runs_is_cut_off() {
    let mut world = World::with(&["limits.shutdown_grace=50ms"], |_| ()).await;
    world.fault(Route::Chat, Action::Hold { after_events: 2 }, Some(1));
    let mut response = world.chat_stream().await;
    within(response.chunk()).await.unwrap().expect("the first event");
    world.proxy.lifecycle.end();
    assert_eq!(within(&mut world.proxy.serving).await.unwrap().unwrap(), Drained::CutOff);
}

/// Asks the program to stop; returns once it takes no more connections.
async fn refuses_connections(running: &Running) {
    running.process().signal(Signal::TERM);
    within(async {
        while TcpStream::connect(running.address()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_signal_lets_streams_finish() {
    let azure = emulator().await;
    let mut running = Running::start(&mut serve(&azure)).await;
    let streams = held_streams(&running, &azure, [false, true, false, true]).await;
    refuses_connections(&running).await;
    assert_eq!(running.child.try_wait().unwrap(), None, "it waits for them");
    assert_eq!(azure.control().state().streams_held, 4);
    azure.control().release();
    for (_caller, content) in streams {
        let text = within(content.collect()).await.expect("no break").to_bytes();
        assert!(text.ends_with(b"data: [DONE]\n\n"));
    }
    let (code, log) = running.end().await;
    assert_eq!(code, 0, "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let azure = emulator().await;
    let running = Running::start(&mut serve(&azure)).await;
    let streams = held_streams(&running, &azure, [false, true, false, true]).await;
    refuses_connections(&running).await;
    running.process().signal(Signal::TERM);
    let (code, log) = running.end().await;
    assert_eq!(code, 1, "it was not an orderly stop: {log}");
    assert!(!log.contains("panicked"), "{log}");
    for (_caller, content) in streams {
        assert!(within(content.collect()).await.is_err(), "broken off, not ended");
    }
    within(azure.control().until(|state| state.streams_open == 0)).await;
}

/// A viewer that takes nothing (a browser that is stopped, a debugger, a window of HTTP/2 that is used up) must not hold the end
/// up: nothing that it is told is worth waiting for.
#[tokio::test]
async fn a_viewer_that_takes_nothing_does_not_hold_the_end_up() {
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
