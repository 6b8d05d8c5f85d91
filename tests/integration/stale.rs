//! A token that the resource calls stale is renewed once for everyone, and the request sent again; no other refusal
//! causes a renewal, and no storm of any kind reaches the identity service.

use std::time::Duration;

use aoai_auth_proxy::emulator::{Action, Emulator, Fault, Route};
use futures_util::FutureExt;
use futures_util::future::join_all;
use http::header::AUTHORIZATION;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Proxy, World, azure, client, demo_settings, proxy, within};

/// A world whose proxy holds a token that the resource has taken once.
async fn settled() -> World {
    let world = World::new().await;
    assert_eq!(world.chat().await.status(), 200);
    world
}

fn tokens_asked_for(world: &World) -> u64 {
    world.azure.control().count(Route::Imds)
}

#[tokio::test]
async fn a_stale_token_is_renewed_and_the_request_sent_again() {
    let world = settled().await;
    world.azure.control().revoke_tokens(true);
    let response = world.chat().await;
    assert_eq!(response.status(), 200);
    let content: Value = response.json().await.unwrap();
    let said = content["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(said.contains("one two three four five"), "the whole request came: {said}");
    assert_eq!(tokens_asked_for(&world), 2);
    let sent: Vec<_> = world.azure.control().requests().into_iter().filter(|sent| sent.route == Route::Chat).collect();
    assert_eq!(sent.len(), 3);
    assert_ne!(sent[1].headers[AUTHORIZATION], sent[2].headers[AUTHORIZATION]);
    assert_eq!(sent[1].headers["x-ms-client-request-id"], sent[2].headers["x-ms-client-request-id"]);
}

#[tokio::test]
async fn a_crowd_with_a_stale_token_causes_one_renewal_and_is_answered() {
    let world = settled().await;
    world.fault(Route::Imds, Action::Delay { ms: 50 }, None);
    world.azure.control().revoke_tokens(true);
    let answers = join_all((0..100).map(|_| world.chat())).await;
    assert!(answers.iter().all(|answer| answer.status() == 200));
    assert_eq!(tokens_asked_for(&world), 2);
}

#[tokio::test]
async fn the_same_token_again_is_not_sent_again() {
    let world = settled().await;
    // Without flushing, the metadata service goes on handing out the token that it keeps.
    world.azure.control().revoke_tokens(false);
    let before = world.azure.control().count(Route::Chat);
    let answers = join_all((0..50).map(|_| world.chat())).await;
    assert!(answers.iter().all(|answer| answer.status() == 401));
    assert_eq!(world.azure.control().count(Route::Chat), before + 50, "each was sent once");
    assert_eq!(tokens_asked_for(&world), 2);
}

#[tokio::test]
async fn answers_that_come_late_cause_no_further_renewal() {
    let world = settled().await;
    world.azure.control().revoke_tokens(false);
    // Three are asked for before the renewal and answered after it: the resource holds them until everything else is over.
    for _ in 0..3 {
        world.fault(Route::Chat, Action::Delay { ms: 400 }, Some(1));
    }
    let late = async { tokio::join!(world.chat(), world.chat(), world.chat()) };
    let soon = async {
        within(world.azure.control().until(|state| state.count(Route::Chat) == 4)).await;
        world.chat().await
    };
    let ((first, second, third), fourth) = tokio::join!(late, soon);
    assert!([first, second, third, fourth].iter().all(|answer| answer.status() == 401));
    assert_eq!(tokens_asked_for(&world), 2);
}

#[tokio::test]
async fn a_missing_role_causes_no_renewal() {
    let world = settled().await;
    world.azure.control().set_role(false);
    let before = world.azure.control().count(Route::Chat);
    let answers = join_all((0..50).map(|_| world.chat())).await;
    assert!(answers.iter().all(|answer| answer.status() == 401));
    assert_eq!(world.azure.control().count(Route::Chat), before + 50);
    assert_eq!(tokens_asked_for(&world), 1);
}

#[tokio::test]
async fn a_resource_that_refuses_every_token_gets_few() {
    let world = settled().await;
    world.azure.control().set_metadata_cache(false);
    world.fault(Route::Chat, Action::status(401), None);
    for _ in 0..20 {
        assert_eq!(world.chat().await.status(), 401);
    }
    assert_eq!(tokens_asked_for(&world), 2, "the renewed one was refused too");
    world.clock.advance(Duration::from_secs(61));
    for _ in 0..20 {
        assert_eq!(world.chat().await.status(), 401);
    }
    assert_eq!(tokens_asked_for(&world), 3, "one more a minute later");
}

#[tokio::test]
async fn a_resource_that_takes_and_refuses_in_turn_gets_few() {
    let world = settled().await;
    world.azure.control().set_metadata_cache(false);
    for _ in 0..20 {
        world.fault(Route::Chat, Action::status(401), Some(1));
        world.chat().await;
        world.azure.control().clear_faults();
        assert_eq!(world.chat().await.status(), 200);
    }
    assert_eq!(tokens_asked_for(&world), 4, "three in three minutes");
}

/// A proxy in front of a resource that the test plays itself, and an Azure that gives another token each time.
async fn before_a_socket(more: &[&str]) -> (Emulator, Proxy, TcpListener) {
    let (azure, clock) = azure(true).await;
    azure.control().set_metadata_cache(false);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = demo_settings(&azure);
    settings.push(format!("upstream.endpoint=http://{}", listener.local_addr().unwrap()));
    settings.extend(more.iter().map(|setting| (*setting).to_owned()));
    let proxy = proxy(&settings, &clock).await;
    (azure, proxy, listener)
}

async fn read_until(socket: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut request = Vec::new();
    while !request.ends_with(end) {
        assert!(within(socket.read_buf(&mut request)).await.unwrap() > 0);
    }
    request
}

/// One request, read to its end and answered with a 401.
async fn refuse_one(listener: &TcpListener) {
    let (mut socket, _) = within(listener.accept()).await.unwrap();
    read_until(&mut socket, b"the end").await;
    socket.write_all(STALE).await.unwrap();
}

const STALE: &[u8] = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";

#[tokio::test]
async fn content_that_is_too_long_to_be_held_is_sent_once_and_the_token_renewed_for_the_next() {
    let (azure, proxy, listener) = before_a_socket(&[]).await;
    let content = format!("{}the end", "x".repeat(2 << 20));
    let request = client().post(format!("http://{}/v1/files", proxy.address)).body(content);
    let (response, ()) = tokio::join!(within(request.send()), refuse_one(&listener));
    assert_eq!(response.unwrap().status(), 401);
    within(azure.control().until(|state| state.count(Route::Imds) == 2)).await;
    assert!(listener.accept().now_or_never().is_none(), "it was sent once");
}

#[tokio::test]
async fn content_that_is_too_long_to_be_held_does_not_wait_for_a_renewal_either() {
    let (azure, proxy, listener) = before_a_socket(&[]).await;
    let content = format!("{}the end", "x".repeat(2 << 20));
    let request = client().post(format!("http://{}/v1/files", proxy.address)).body(content);
    let (response, ()) = tokio::join!(within(request.send()), async {
        let (mut socket, _) = within(listener.accept()).await.unwrap();
        read_until(&mut socket, b"the end").await;
        azure.control().fault(Fault::new(Route::Imds, Action::Hang));
        socket.write_all(STALE).await.unwrap();
    });
    assert_eq!(response.unwrap().status(), 401);
}

/// The caller sends slowly; the resource refuses before it has read everything, and closes.
#[tokio::test]
async fn a_request_that_is_still_being_sent_is_sent_again_as_a_whole() {
    let (_azure, proxy, listener) = before_a_socket(&["upstream.response_timeout=1s"]).await;
    let mut caller = TcpStream::connect(proxy.address).await.unwrap();
    let head = b"POST /v1/x HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n";
    caller.write_all(head).await.unwrap();
    let (mut first, _) = within(listener.accept()).await.unwrap();
    read_until(&mut first, b"3\r\none\r\n").await;
    first.write_all(STALE).await.unwrap();
    drop(first);
    let (mut second, _) = within(listener.accept()).await.unwrap();
    read_until(&mut second, b"3\r\none\r\n").await;
    // Longer than the resource may take to answer what it has: the caller has not sent everything.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    caller.write_all(b"3\r\ntwo\r\n0\r\n\r\n").await.unwrap();
    read_until(&mut second, b"3\r\ntwo\r\n0\r\n\r\n").await;
    second.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    let answer = read_until(&mut caller, b"\r\n\r\nok").await;
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn if_sending_again_fails_the_resources_own_answer_stands() {
    let (_azure, proxy, listener) = before_a_socket(&[]).await;
    let request = client().get(format!("http://{}/v1/x", proxy.address));
    let (response, ()) = tokio::join!(within(request.send()), async {
        let (mut socket, _) = within(listener.accept()).await.unwrap();
        read_until(&mut socket, b"\r\n\r\n").await;
        drop(listener);
        socket.write_all(STALE).await.unwrap();
    });
    assert_eq!(response.unwrap().status(), 401);
}

#[tokio::test]
async fn a_renewal_that_fails_leaves_the_resources_own_answer() {
    let world = settled().await;
    world.azure.control().revoke_tokens(true);
    world.fault(Route::Imds, Action::status(500), None);
    for _ in 0..5 {
        let response = world.chat().await;
        assert_eq!(response.status(), 401);
        assert!(response.text().await.unwrap().contains("Access token is missing"));
    }
    assert_eq!(tokens_asked_for(&world), 2, "the failed attempt rests");
    world.azure.control().clear_faults();
    world.clock.advance(Duration::from_secs(90));
    assert_eq!(world.chat().await.status(), 200);
}

#[tokio::test]
async fn a_key_of_the_callers_own_is_no_token_of_ours() {
    let world = settled().await;
    let request = world.client.post(world.url("/v1/realtime/calls")).header(AUTHORIZATION, "Bearer ek_stale");
    assert_eq!(within(request.send()).await.unwrap().status(), 401);
    assert_eq!(tokens_asked_for(&world), 1);
}

#[tokio::test]
async fn a_request_to_switch_protocols_is_sent_again_too() {
    let world = settled().await;
    world.azure.control().revoke_tokens(true);
    let request = world.client.get(world.url("/v1/realtime?model=gpt-4o-mini"));
    let request = request.header("connection", "upgrade").header("upgrade", "websocket");
    // This is no WebSocket's handshake: the emulator refuses the token first, and the rest once the token is good.
    assert_eq!(within(request.send()).await.unwrap().status(), 404);
    assert_eq!(tokens_asked_for(&world), 2);
}

#[tokio::test]
async fn the_management_planes_token_is_renewed_likewise() {
    let world = settled().await;
    assert_eq!(world.get("/management/models").await.status(), 200);
    world.azure.control().revoke_tokens(true);
    assert_eq!(world.get("/management/models").await.status(), 200);
    assert_eq!(tokens_asked_for(&world), 3, "one for the resource, two for the management plane");
}

#[tokio::test]
async fn streams_that_run_do_not_notice() {
    let world = World::with(&[], |azure| {
        azure.control().fault(Fault::new(Route::Chat, Action::Hold { after_events: 2 }).times(1));
    })
    .await;
    let mut held = world.chat_stream().await;
    assert!(within(held.chunk()).await.unwrap().is_some());
    world.azure.control().revoke_tokens(true);
    assert_eq!(world.chat().await.status(), 200);
    world.azure.control().release();
    let rest = within(held.text()).await.unwrap();
    assert!(rest.contains("[DONE]"), "{rest}");
}
