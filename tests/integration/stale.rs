//! A token that the resource calls stale is renewed once for everyone, and the request sent again; no other refusal
//! causes a renewal, and no storm of any kind reaches the identity service.

use std::time::Duration;

use aoai_auth_proxy::emulator::{Action, Fault, Route};
use futures_util::FutureExt;
use futures_util::future::join_all;
use http::header::AUTHORIZATION;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{World, azure, client, demo_settings, proxy, within};

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

/// One request, read to its end and answered with a 401.
async fn refuse_one(listener: &TcpListener) {
    let (mut socket, _) = within(listener.accept()).await.unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"the end") {
        assert!(within(socket.read_buf(&mut request)).await.unwrap() > 0);
    }
    let refusal = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
    socket.write_all(refusal).await.unwrap();
}

#[tokio::test]
async fn content_that_is_too_long_to_be_held_is_sent_once_and_the_token_renewed_for_the_next() {
    let (azure, clock) = azure(true).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = demo_settings(&azure);
    settings.push(format!("upstream.endpoint=http://{}", listener.local_addr().unwrap()));
    let proxy = proxy(&settings, &clock).await;
    let content = format!("{}the end", "x".repeat(2 << 20));
    let request = client().post(format!("http://{}/v1/files", proxy.address)).body(content);
    let (response, ()) = tokio::join!(within(request.send()), refuse_one(&listener));
    assert_eq!(response.unwrap().status(), 401);
    assert_eq!(azure.control().count(Route::Imds), 2);
    assert!(listener.accept().now_or_never().is_none(), "it was sent once");
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
    // The emulator speaks no WebSocket: it refuses the token first, and the route once the token is good.
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
