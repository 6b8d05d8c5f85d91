//! A handshake that is refused gets a plain response: the resource's own words, with a hint where there is one to give.

use std::time::Duration;

use aoai_auth_proxy::emulator::{Action, Route, world};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Error;

use super::{HANDSHAKE, head, hear, open};
use crate::support::{World, code, within};

const PATHS: [&str; 4] = [
    "/v1/realtime?model=gpt-realtime",
    "/openai/v1/realtime?model=gpt-realtime",
    "/openai/realtime?api-version=2025-04-01-preview&deployment=gpt-realtime",
    "/v1/responses",
];

/// The answer to a handshake, as a plain response.
async fn refused(world: &World, path: &str, fields: &[(&str, &str)]) -> reqwest::Response {
    let request = world.client.get(world.url(path)).header("connection", "Upgrade").header("upgrade", "websocket");
    let request = request.header("sec-websocket-version", "13").header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    within(request.send()).await.unwrap()
}

/// An error of the resource's, and the hint in it.
async fn explained(response: reqwest::Response) -> (Value, String) {
    assert!(response.headers().get("proxy-status").is_none(), "it is the resource's answer");
    assert!(response.headers().get("upgrade").is_none());
    let content: Value = within(response.json()).await.unwrap();
    let hint = content["error"]["hint"].as_str().unwrap_or_default().to_owned();
    (content, hint)
}

#[tokio::test]
async fn a_missing_role_is_explained() {
    let world = World::new().await;
    world.azure.control().set_role(false);
    for path in PATHS {
        let response = refused(&world, path, &[]).await;
        assert_eq!(response.status(), 401, "{path}");
        let (content, hint) = explained(response).await;
        assert_eq!(content["error"]["code"], "PermissionDenied");
        assert!(
            hint.contains(world::SYSTEM_ASSIGNED.object_id) && hint.contains("az role assignment create"),
            "{hint}"
        );
    }
}

#[tokio::test]
async fn a_clients_library_is_told_the_status() {
    let world = World::new().await;
    world.azure.control().set_role(false);
    for path in PATHS {
        let Err(Error::Http(response)) = open(&world.proxy, path, &[]).await else { panic!("{path} is no refusal") };
        assert_eq!(response.status(), 401, "{path}");
    }
}

#[tokio::test]
async fn a_closed_network_is_explained() {
    let world = World::new().await;
    world.fault(Route::Realtime, Action::status(403), Some(1));
    let response = refused(&world, PATHS[0], &[]).await;
    assert_eq!(response.status(), 403);
    assert!(explained(response).await.1.contains("network-rule"));
}

#[tokio::test]
async fn a_missing_deployment_is_explained() {
    let world = World::new().await;
    for path in [
        "/v1/realtime?model=no-such",
        "/openai/v1/realtime?model=no-such",
        "/openai/realtime?api-version=2025-04-01-preview&deployment=no-such",
    ] {
        let response = refused(&world, path, &[]).await;
        assert_eq!(response.status(), 404, "{path}");
        let (content, hint) = explained(response).await;
        assert_eq!(content["error"]["code"], "DeploymentNotFound");
        assert!(hint.contains("no-such"), "{hint}");
    }
}

#[tokio::test]
async fn a_connection_is_good_for_more_after_a_refusal() {
    let world = World::new().await;
    let mut caller = TcpStream::connect(world.proxy.address).await.unwrap();
    for _ in 0..3 {
        caller.write_all(HANDSHAKE.as_bytes()).await.unwrap();
        let head = head(&mut caller).await;
        assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
        let (_, length) = head.split_once("content-length: ").unwrap();
        let length = length.split("\r\n").next().unwrap().parse().unwrap();
        within(caller.read_exact(&mut vec![0; length])).await.unwrap();
    }
}

#[tokio::test]
async fn a_limit_says_when_to_come_back() {
    let world = World::new().await;
    for path in PATHS {
        world.fault(Route::OpenAi, Action::status(429), Some(1));
        let response = refused(&world, path, &[]).await;
        assert_eq!(response.status(), 429, "{path}");
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(response.headers()["retry-after-ms"], "1000");
        assert_eq!(explained(response).await.1, "");
    }
}

#[tokio::test]
async fn a_stale_token_is_renewed_and_the_handshake_made_again() {
    let world = World::new().await;
    for (path, route) in PATHS.into_iter().zip([Route::Realtime, Route::Realtime, Route::Realtime, Route::Responses]) {
        assert_eq!(world.chat().await.status(), 200);
        let (tokens, handshakes) = (world.azure.control().count(Route::Imds), world.azure.control().count(route));
        world.azure.control().revoke_tokens(true);
        // The proxy does not renew often: each of these is another minute's.
        world.clock.advance(Duration::from_secs(61));
        let (mut socket, _) = open(&world.proxy, path, &[]).await.unwrap();
        if route == Route::Realtime {
            assert_eq!(hear(&mut socket).await["type"], "session.created");
        }
        assert_eq!(world.azure.control().count(Route::Imds), tokens + 1, "{path}");
        assert_eq!(world.azure.control().count(route), handshakes + 2, "{path}");
    }
}

#[tokio::test]
async fn web_pages_are_turned_away() {
    let world = World::new().await;
    for path in PATHS {
        for field in [("origin", "https://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")] {
            let response = refused(&world, path, &[field]).await;
            assert_eq!(response.status(), 403, "{path}");
            assert_eq!(code(response).await, "origin_denied");
        }
    }
    assert_eq!(world.azure.control().count(Route::OpenAi), 0);
}
