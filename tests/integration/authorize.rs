//! Every request to the resource carries a token of ours, and nothing of the caller's that could be mistaken for one.

use aoai_auth_proxy::emulator::Route;
use http::StatusCode;
use http::header::{AUTHORIZATION, HOST};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{World, azure, chat, demo_settings, proxy, within};

#[tokio::test]
async fn the_resource_sees_our_token_and_none_of_the_callers_credentials() {
    let world = World::over(false, &[], |_| ()).await;
    let request = world
        .client
        .post(world.url("/v1/chat/completions?api-key=mine&x=1"))
        .header("authorization", "Bearer sk-mine")
        .header("authorization", "Bearer sk-mine-too")
        .header("api-key", "mine")
        .header("x-api-key", "mine")
        .header("ocp-apim-subscription-key", "mine")
        .header("cookie", "session=mine")
        .header("x-forwarded-for", "10.0.0.1")
        .header("forwarded", "for=10.0.0.1")
        .header("x-custom", "kept")
        .json(&chat(false));
    let response = within(request.send()).await.unwrap();
    assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());

    let recorded = world.last(Route::Chat);
    let tokens: Vec<_> = recorded.headers.get_all(AUTHORIZATION).iter().collect();
    assert_eq!(tokens.len(), 1);
    assert!(tokens[0].as_bytes().starts_with(b"Bearer eyJ"), "a JWT");
    assert_eq!(recorded.headers.get_all(HOST).iter().count(), 1);
    assert_eq!(recorded.headers[HOST], world.azure.openai().trim_start_matches("https://"));
    assert_eq!(recorded.headers["x-custom"], "kept");
    assert_eq!(recorded.path_and_query, "/openai/v1/chat/completions?x=1");
    for name in
        ["api-key", "x-api-key", "ocp-apim-subscription-key", "cookie", "x-forwarded-for", "forwarded", "connection"]
    {
        assert!(!recorded.headers.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn what_connection_names_is_not_what_the_proxy_sets() {
    let world = World::over(false, &[], |_| ()).await;
    let request = world
        .client
        .post(world.url("/v1/chat/completions"))
        .header("connection", "close, authorization, host, x-drop")
        .header("x-drop", "1")
        .json(&chat(false));
    assert_eq!(within(request.send()).await.unwrap().status(), 200);
    let recorded = world.last(Route::Chat);
    assert!(recorded.headers.contains_key(AUTHORIZATION) && recorded.headers.contains_key(HOST));
    assert!(!recorded.headers.contains_key("x-drop"));
}

#[tokio::test]
async fn a_request_has_an_id_on_both_sides() {
    let world = World::new().await;
    let own = world.client.get(world.url("/v1/models")).header("x-request-id", "mine-1").send().await.unwrap();
    let resources_own = own.headers()["x-request-id"].clone();
    assert_ne!(resources_own, "mine-1", "the resource's own id wins");
    assert_eq!(world.last(Route::Models).headers["x-ms-client-request-id"], "mine-1");

    let response = world.get("/nowhere").await;
    assert_eq!(response.headers()["x-request-id"].len(), 36, "a UUID");
    let response = world.client.get(world.url("/nowhere")).header("x-request-id", "mine-2").send().await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "mine-2");

    world.client.get(world.url("/v1/models")).header("x-ms-client-request-id", "azures").send().await.unwrap();
    assert_eq!(world.last(Route::Models).headers["x-ms-client-request-id"], "azures");
}

#[tokio::test]
async fn a_caller_with_all_the_fields_that_azure_takes_gets_no_further_one() {
    let world = World::new().await;
    for (count, has_id) in [(9, true), (10, false)] {
        let mut request = world.client.get(world.url("/v1/models")).header("accept-language", "en");
        for number in 0..count {
            request = request.header(format!("x-stainless-{number}"), "1");
        }
        assert_eq!(request.send().await.unwrap().status(), StatusCode::OK, "{count}");
        assert_eq!(world.last(Route::Models).headers.contains_key("x-ms-client-request-id"), has_id, "{count}");
    }
}

#[tokio::test]
async fn an_ephemeral_key_of_the_callers_is_left_as_it_is() {
    let world = World::new().await;
    let call = |key: &'static str| {
        let request = world.client.post(world.url("/v1/realtime/calls")).header("authorization", key);
        async { within(request.body("v=0").send()).await.unwrap() }
    };
    // The emulator knows no such key: what matters is that it arrives.
    call("Bearer ek_abc").await;
    assert_eq!(world.last(Route::OpenAi).headers[AUTHORIZATION], "Bearer ek_abc");
    call("Bearer sk-abc").await;
    assert!(world.last(Route::OpenAi).headers[AUTHORIZATION].as_bytes().starts_with(b"Bearer eyJ"));
}

#[tokio::test]
async fn credentials_in_trailers_stay_here_too() {
    let (azure, clock) = azure(true).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = demo_settings(&azure);
    settings.push(format!("upstream.endpoint=http://{}", listener.local_addr().unwrap()));
    let proxy = proxy(&settings, &clock).await;
    let mut caller = TcpStream::connect(proxy.address).await.unwrap();
    let names = "x-checksum, authorization, api-key, cookie, x-forwarded-for";
    let request = format!(
        "POST /v1/x HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\ntrailer: {names}\r\n\r\n2\r\n{{}}\r\n0\r\n\
         x-checksum: 1\r\nauthorization: Bearer mine\r\napi-key: mine\r\ncookie: mine\r\nx-forwarded-for: mine\r\n\r\n"
    );
    caller.write_all(request.as_bytes()).await.unwrap();
    let (mut resource, _) = within(listener.accept()).await.unwrap();
    let mut seen = String::new();
    while !seen.contains("\r\n0\r\n") || !seen.ends_with("\r\n\r\n") {
        seen.push(char::from(within(resource.read_u8()).await.unwrap()));
    }
    assert!(seen.contains("x-checksum: 1") && !seen.contains("mine"), "{seen}");
}
