//! A WebSocket ends as its two ends want it: with their code and reason, one side after the other, or in silence.

use std::time::{Duration, Instant};

use aoai_auth_proxy::emulator::Action;
use aoai_auth_proxy::emulator::Route;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::{Before, next, open};
use crate::program::{Running, emulator, serve};
use crate::support::{World, within};

#[tokio::test]
async fn code_and_reason_arrive_whoever_closes() {
    let before = Before::a_socket(&[]).await;
    for turn in 0..2 {
        let (caller, resource, _) = before.open(&[]).await;
        let (mut from, mut to) = if turn == 0 { (caller, resource) } else { (resource, caller) };
        let frame = CloseFrame { code: CloseCode::Library(4321), reason: "that is all: ü".into() };
        within(from.close(Some(frame.clone()))).await.unwrap();
        assert_eq!(next(&mut to).await, Message::Close(Some(frame.clone())));
        // The answer to a close repeats it; whether it has left at once, the library tells one side as an error.
        let _ = within(to.flush()).await;
        assert_eq!(next(&mut from).await, Message::Close(Some(frame)));
        drop(from);
        assert!(within(to.next()).await.is_none());
    }
}

/// The emulator, like many servers, closes without saying so to TLS.
#[tokio::test]
async fn a_conversation_that_ended_well_is_logged_as_such() {
    let azure = emulator().await;
    let running = Running::start(&mut serve(&azure)).await;
    let stream = TcpStream::connect(running.address()).await.unwrap();
    let url = format!("ws://{}/v1/realtime?model=gpt-realtime", running.address());
    let (mut socket, _) = within(tokio_tungstenite::client_async(url, stream)).await.unwrap();
    let greeting = next(&mut socket).await.into_text().unwrap();
    within(socket.close(None)).await.unwrap();
    while within(socket.next()).await.is_some() {}
    drop(socket);
    let (code, log) = running.stop().await;
    let line = log.lines().find(|line| line.contains(" 101 ")).expect("a line of the WebSocket");
    assert!(
        code == 0 && line.contains("INFO") && line.contains("model=gpt-realtime") && !line.contains("outcome="),
        "{line}"
    );
    let (_, bytes) = line.split_once(" bytes=").unwrap();
    let bytes: usize = bytes.split(' ').next().unwrap().parse().unwrap();
    assert!(bytes > greeting.len(), "{line}");
}

#[tokio::test]
async fn one_side_may_go_on_when_the_other_has_said_everything() {
    let before = Before::a_socket(&[]).await;
    for turn in 0..2 {
        let ((mut caller, _), (mut resource, _)) = before.open_plainly().await;
        let (first, second) = if turn == 0 { (&mut caller, &mut resource) } else { (&mut resource, &mut caller) };
        first.write_all(b"the last words").await.unwrap();
        first.shutdown().await.unwrap();
        let mut said = Vec::new();
        within(second.read_to_end(&mut said)).await.unwrap();
        assert_eq!(said, b"the last words");
        for _ in 0..10 {
            second.write_all(b"and another thing").await.unwrap();
            let mut heard = [0; 17];
            within(first.read_exact(&mut heard)).await.unwrap();
            assert_eq!(&heard, b"and another thing");
        }
        second.shutdown().await.unwrap();
        assert_eq!(within(first.read(&mut [0; 1])).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn silence_closes_both_sides() {
    let before = Before::a_socket(&["upstream.idle_timeout=200ms"]).await;
    let (mut caller, mut resource, _) = before.open(&[]).await;
    assert!(within(caller.next()).await.is_none_or(|message| message.is_err()));
    assert!(within(resource.next()).await.is_none_or(|message| message.is_err()));
}

#[tokio::test]
async fn words_from_one_side_are_no_silence() {
    let longest = Duration::from_secs(1);
    let before = Before::a_socket(&["upstream.idle_timeout=1s"]).await;
    for turn in 0..2 {
        let (mut caller, mut resource, _) = before.open(&[]).await;
        let (from, to) = if turn == 0 { (&mut caller, &mut resource) } else { (&mut resource, &mut caller) };
        let began = Instant::now();
        while began.elapsed() < longest * 2 {
            within(from.send(Message::text("still here"))).await.unwrap();
            assert_eq!(next(to).await, Message::text("still here"));
        }
    }
}

#[tokio::test]
async fn a_caller_who_goes_away_takes_the_resources_side_along() {
    let world = World::new().await;
    let (socket, _) = open(&world.proxy, "/v1/realtime?model=gpt-realtime", &[]).await.unwrap();
    assert_eq!(world.azure.control().state().sockets_open, 1);
    drop(socket);
    within(world.azure.control().until(|state| state.sockets_open == 0)).await;
}

#[tokio::test]
async fn a_resource_that_goes_away_takes_the_callers_side_along() {
    let World { azure, proxy, .. } = World::new().await;
    let (mut socket, _) = open(&proxy, "/v1/realtime?model=gpt-realtime", &[]).await.unwrap();
    assert!(next(&mut socket).await.is_text());
    drop(azure);
    assert!(within(socket.next()).await.is_none_or(|message| message.is_err()));
}

#[tokio::test]
async fn a_handshake_that_is_given_up_is_given_up_upstream() {
    let world = World::new().await;
    world.fault(Route::Realtime, Action::Hang, Some(1));
    let opening = open(&world.proxy, "/v1/realtime?model=gpt-realtime", &[]);
    let asked = within(world.azure.control().until(|state| state.count(Route::Realtime) == 1));
    tokio::select! {
        _ = opening => panic!("nobody answers"),
        _ = asked => {}
    }
    within(world.azure.control().until(|state| state.requests_aborted == 1)).await;
}
