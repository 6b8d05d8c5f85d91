//! Who may call.

use aoai_auth_proxy::emulator::Route;

use crate::support::{World, code};

#[tokio::test]
async fn another_hosts_name_is_not_answered() {
    let world = World::new().await;
    for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8642"] {
        let response = world.client.get(world.url("/v1/models")).header("host", host).send().await.unwrap();
        assert_eq!(response.status(), 421, "{host}");
        assert_eq!(code(response).await, "host_denied");
    }
    assert_eq!(world.azure.control().count(Route::OpenAi), 0);
}

#[tokio::test]
async fn web_pages_are_turned_away() {
    let world = World::new().await;
    for (field, value) in [("origin", "https://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")] {
        let response = world.client.get(world.url("/v1/models")).header(field, value).send().await.unwrap();
        assert_eq!(response.status(), 403, "{field}: {value}");
        assert!(response.headers().get("access-control-allow-origin").is_none());
        assert_eq!(code(response).await, "origin_denied");
    }
    assert_eq!(world.azure.control().count(Route::OpenAi), 0);
}
