//! The management plane's list of models: all pages, its own token, and no URL that a caller or a page could bend.

use aoai_auth_proxy::emulator::{Action, Route};
use http::header::AUTHORIZATION;
use serde_json::Value;

use crate::support::{World, code, within};

#[tokio::test]
async fn all_pages_are_joined() {
    let world = World::new().await;
    let response = world.get("/management/models").await;
    assert_eq!(response.status(), 200);
    let content: Value = response.json().await.unwrap();
    let entries = content["value"].as_array().unwrap();
    let pages = world.azure.control().count(Route::Management);
    assert!(pages > 1, "the emulator's list has several pages");
    assert!(entries.len() as u64 > pages && entries.iter().all(|entry| entry["model"]["name"].is_string()));
    assert!(content.get("nextLink").is_none());
}

#[tokio::test]
async fn each_plane_has_a_token_of_its_own() {
    let world = World::new().await;
    world.get("/v1/models").await;
    world.get("/management/models").await;
    let data = world.last(Route::Models).headers[AUTHORIZATION].clone();
    let management = world.last(Route::Management).headers[AUTHORIZATION].clone();
    assert_ne!(data, management);
}

#[tokio::test]
async fn parameters_are_checked_before_they_enter_a_url() {
    let world = World::new().await;
    for query in [
        "location=..%2f..",
        "location=..",
        "location=a%2Fb",
        "location=%00",
        "location=a%3Fb",
        "subscription_id=..%2F..%2Fother",
        "api-version=1%26x%3D2",
        "location=",
        "location=a&location=b",
        "subscription_id=.",
    ] {
        let response = world.get(&format!("/management/models?{query}")).await;
        assert_eq!(response.status(), 400, "{query}");
        assert_eq!(code(response).await, "invalid_request", "{query}");
    }
    assert_eq!(world.azure.control().count(Route::Management), 0);

    let response = world.get("/management/models?location=swedencentral&api-version=2024-10-01").await;
    assert_eq!(response.status(), 200);
    assert!(world.last(Route::Management).path_and_query.contains("api-version=2024-10-01"));
}

#[tokio::test]
async fn a_next_page_on_another_host_is_not_followed() {
    let world =
        World::with(&[], |azure| azure.control().set_evil_next_link(Some("https://127.0.0.1:1/x".to_owned()))).await;
    let response = world.get("/management/models").await;
    assert_eq!(response.status(), 502);
    assert_eq!(code(response).await, "upstream_protocol");
}

#[tokio::test]
async fn the_management_planes_own_errors_pass_unchanged() {
    let world = World::with(&[], |azure| azure.control().set_management_role(false)).await;
    let response = world.get("/management/models").await;
    assert_eq!(response.status(), 403);
    let content: Value = within(response.json()).await.unwrap();
    assert_eq!(content["error"]["code"], "AuthorizationFailed");
}

#[tokio::test]
async fn without_a_region_the_route_says_what_is_missing() {
    let (azure, clock) = crate::support::azure(true).await;
    let mut settings = crate::support::demo_settings(&azure);
    settings.retain(|setting| {
        !setting.starts_with("management.location") && !setting.starts_with("management.subscription_id")
    });
    let proxy = crate::support::proxy(&settings, &clock).await;
    let client = crate::support::client();
    let url = format!("http://{}/management/models", proxy.address);
    let response = client.get(&url).send().await.unwrap();
    assert_eq!(response.status(), 404);
    assert_eq!(code(response).await, "management_not_configured");
    let asked = format!("{url}?subscription_id={}&location={}", azure.subscription_id(), azure.location());
    assert_eq!(client.get(asked).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_said_to_be_one() {
    let (azure, clock) = crate::support::azure(true).await;
    let mut settings = crate::support::demo_settings(&azure);
    settings.retain(|setting| !setting.starts_with("upstream.ca_file"));
    let proxy = crate::support::proxy(&settings, &clock).await;
    let url = format!("http://{}/management/models", proxy.address);
    let response = within(crate::support::client().get(url).send()).await.unwrap();
    assert_eq!(response.headers()["proxy-status"], "aoai-auth-proxy; error=tls_certificate_error");
    assert_eq!(code(response).await, "upstream_tls");
}

#[tokio::test]
async fn throttling_keeps_its_own_fields() {
    let world = World::new().await;
    world.fault(Route::Management, Action::status(429), Some(1));
    let response = world.get("/management/models").await;
    assert_eq!(response.status(), 429);
    assert!(response.headers().contains_key("retry-after"));
}

#[tokio::test]
async fn only_get_is_answered() {
    let world = World::new().await;
    let response = world.client.post(world.url("/management/models")).send().await.unwrap();
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers()["allow"], "GET, HEAD");
    assert_eq!(code(response).await, "method_not_allowed");
}

#[tokio::test]
async fn a_management_plane_that_does_not_answer_is_named() {
    let world = World::with(&[], |_| ()).await;
    world.fault(Route::Management, Action::Close, None);
    let response = world.get("/management/models").await;
    assert_eq!(response.status(), 502);
    assert_eq!(code(response).await, "upstream_protocol");
}
