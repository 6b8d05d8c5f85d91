//! `/healthz` says that the process lives, `/readyz` that requests would be passed on.

use aoai_auth_proxy::emulator::{Action, Fault, Route, world};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::World;

#[tokio::test]
async fn ready_means_that_a_token_is_held() {
    let world = World::new().await;
    // A request waits for the token, so after it there is one.
    assert_eq!(world.get("/v1/models").await.status(), 200);
    assert_eq!(world.get("/readyz").await.status(), 200);
    assert_eq!(world.get("/healthz").await.status(), 200);
}

#[tokio::test]
async fn not_ready_says_why_and_alive_stays_alive() {
    let world = World::with(&[], |azure| {
        azure.control().fault(Fault::new(Route::Imds, Action::status(400)));
    })
    .await;
    assert_eq!(world.get("/v1/models").await.status(), 503);
    let response = world.get("/readyz").await;
    assert_eq!(response.status(), 503);
    let content: Value = response.json().await.unwrap();
    assert_eq!(content["reasons"][0]["code"], "credential_unavailable");
    assert!(content["reasons"][0]["message"].as_str().unwrap().contains("400"), "{content}");
    assert_eq!(world.get("/healthz").await.status(), 200);
}

#[tokio::test]
async fn the_page_says_who_we_are_and_takes_nothing_from_elsewhere() {
    let world = World::new().await;
    assert_eq!(world.get("/v1/models").await.status(), 200);
    let response = world.client.get(world.url("/")).header("sec-fetch-site", "none").send().await.unwrap();
    assert_eq!(response.status(), 200);
    let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    let page = response.text().await.unwrap();
    let base = format!("http://{}/v1", world.proxy.address);
    for word in [
        r#"data-state="ready""#,
        world.azure.openai(),
        "managed-identity",
        world::SYSTEM_ASSIGNED.object_id,
        world::TENANT_ID,
        &base,
    ] {
        assert!(page.contains(word), "{word} is not in: {page}");
    }
    assert!(!page.contains("eyJ"));
    let blocks: Vec<_> = ["<style>", "<script>", r#"<script type="module">"#]
        .iter()
        .flat_map(|begin| page.split(begin).skip(1).map(|rest| rest.split("</s").next().unwrap()))
        .collect();
    assert_eq!(blocks.len(), 4);
    for block in blocks {
        let digest = STANDARD.encode(Sha256::digest(block));
        assert!(policy.contains(&format!("'sha256-{digest}'")), "not allowed: {block:.80}");
    }
}

#[tokio::test]
async fn other_methods_are_refused_and_unknown_routes_named() {
    let world = World::new().await;
    let response = world.client.delete(world.url("/healthz")).send().await.unwrap();
    assert_eq!(response.status(), 405);
    for path in ["/v1", "/v2/models", "/healthz/", "/metricsx"] {
        let response = world.get(path).await;
        assert_eq!(response.status(), 404, "{path}");
        assert!(response.headers()["proxy-status"].to_str().unwrap().starts_with("aoai-auth-proxy; error="));
        assert_eq!(crate::support::code(response).await, "not_found", "{path}");
    }
}
