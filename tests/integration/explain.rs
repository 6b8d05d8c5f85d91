//! Refusals whose cause lies in what the proxy added or was told get a hint, and stay as they are otherwise.

use std::collections::BTreeMap;
use std::io::Write;

use aoai_auth_proxy::emulator::{Action, Route, world};
use aoai_auth_proxy::tls;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{World, azure, demo_settings, proxy, within};

fn answer(status: u16, body: &Value) -> Action {
    let headers = BTreeMap::from([("content-type".to_owned(), "application/json".to_owned())]);
    Action::Status { status, body: Some(body.to_string()), headers }
}

fn failure(code: &str, message: &str) -> Value {
    json!({ "error": { "code": code, "message": message, "innererror": { "more": [1, 2.50, "ü"] } } })
}

#[tokio::test]
async fn a_missing_role_is_explained_with_the_command_that_mends_it() {
    let world = World::new().await;
    world.azure.control().set_role(false);
    let response = world.chat().await;
    assert_eq!(response.status(), 401);
    assert!(response.headers().get("proxy-status").is_none(), "it is the resource's answer");
    let length: usize = response.headers()["content-length"].to_str().unwrap().parse().unwrap();
    let text = response.text().await.unwrap();
    assert_eq!(text.len(), length);
    let content: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(content["error"]["code"], "PermissionDenied");
    let hint = content["error"]["hint"].as_str().unwrap();
    let principal = world::SYSTEM_ASSIGNED;
    for words in [
        principal.object_id,
        principal.client_id,
        world::TENANT_ID,
        "Cognitive Services OpenAI User",
        "Owner and Contributor",
        "az role assignment create",
        "five minutes",
    ] {
        assert!(hint.contains(words), "{words} is not in: {hint}");
    }
}

#[tokio::test]
async fn each_cause_has_a_hint_of_its_own() {
    let stale = "Unauthorized. Access token is missing, invalid, audience is incorrect \
                 (https://cognitiveservices.azure.com), or have expired.";
    let keys = "Access denied due to invalid subscription key or wrong API endpoint.";
    let subdomain = "Please provide a custom subdomain for token authentication, otherwise API key is required.";
    let tenant = "Token tenant 1 does not match resource tenant.";
    for (status, body, words) in [
        (401, json!({ "statusCode": 401, "message": stale }), "clock"),
        (401, failure("401", keys), "key"),
        (400, failure("BadRequest", subdomain), "--custom-domain"),
        (401, failure("401", tenant), "credential.tenant_id"),
        (403, failure("403", "Access denied due to Virtual Network/Firewall rules."), "network-rule"),
        (403, failure("403", "Public access is disabled. Please configure private endpoint."), "private endpoint"),
        (404, failure("DeploymentNotFound", "The API deployment for this resource does not exist."), "gpt-4o-mini"),
    ] {
        let world = World::new().await;
        world.fault(Route::Chat, answer(status, &body), None);
        let response = world.chat().await;
        assert_eq!(response.status(), status);
        let mut content: Value = response.json().await.unwrap();
        let hint = content["error"]["hint"].take();
        assert!(hint.as_str().unwrap().contains(words), "{words} is not in: {hint}");
        // All else is as it was.
        if body.get("error").is_some() {
            content["error"].as_object_mut().unwrap().remove("hint");
            assert_eq!(content, body);
        } else {
            assert_eq!(content["message"], body["message"]);
        }
    }
}

#[tokio::test]
async fn a_token_for_something_else_is_told_from_one_that_is_too_old() {
    let world = World::with(&["upstream.scope=https://management.azure.com/.default"], |_| ()).await;
    let response = world.chat().await;
    assert_eq!(response.status(), 401);
    let content: Value = response.json().await.unwrap();
    assert!(content["message"].as_str().unwrap().starts_with("Unauthorized. Access token"), "{content}");
    let hint = content["error"]["hint"].as_str().unwrap();
    for words in ["https://management.azure.com", "upstream.scope", "https://cognitiveservices.azure.com/.default"] {
        assert!(hint.contains(words), "{words} is not in: {hint}");
    }
}

#[tokio::test]
async fn without_explanations_and_for_other_causes_nothing_is_touched() {
    let role = failure("PermissionDenied", "The principal `x` lacks the required data action `y`.");
    let filtered = failure("content_filter", "The response was filtered");
    for (settings, status, body) in [
        (["upstream.explain_errors=false"].as_slice(), 401, &role),
        (&[], 400, &filtered),
        (&[], 404, &failure("404", "Resource not found")),
        (&[], 403, &failure("403", "Your resource has been temporarily blocked")),
        (&[], 429, &failure("429", "rate limit")),
    ] {
        let world = World::with(settings, |_| ()).await;
        world.fault(Route::Chat, answer(status, body), None);
        let response = world.chat().await;
        assert_eq!(response.status(), status);
        assert_eq!(response.text().await.unwrap(), body.to_string());
    }
}

/// What a proxy in front of a resource that always gives `answer` passes on, byte for byte.
async fn passed_on(answer: Vec<u8>) -> (http::HeaderMap, Result<Vec<u8>, reqwest::Error>) {
    let (azure, clock) = azure(true).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = demo_settings(&azure);
    settings.push(format!("upstream.endpoint=http://{}", listener.local_addr().unwrap()));
    let proxy = proxy(&settings, &clock).await;
    let resource = tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                assert!(socket.read_buf(&mut request).await.unwrap() > 0);
            }
            socket.write_all(&answer).await.unwrap();
        }
    });
    let caller = reqwest::Client::builder().tls_backend_preconfigured(tls::client(&[]).unwrap()).no_proxy().no_gzip();
    let caller = caller.build().unwrap();
    let response = within(caller.get(format!("http://{}/v1/x", proxy.address)).send()).await.unwrap();
    let fields = response.headers().clone();
    let content = within(response.bytes()).await.map(|content| content.to_vec());
    resource.abort();
    (fields, content)
}

fn role_missing() -> String {
    failure("PermissionDenied", "The principal `x` lacks the required data action `y`.").to_string()
}

#[tokio::test]
async fn a_compressed_refusal_is_explained_too() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(role_missing().as_bytes()).unwrap();
    let mut deflate = ZlibEncoder::new(Vec::new(), Compression::default());
    deflate.write_all(role_missing().as_bytes()).unwrap();
    for (coding, content) in [("gzip", gzip.finish().unwrap()), ("deflate", deflate.finish().unwrap())] {
        let head = format!(
            "HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\ncontent-encoding: {coding}\r\ncontent-length: \
             {}\r\nconnection: close\r\n\r\n",
            content.len()
        );
        let (fields, content) = passed_on([head.into_bytes(), content].concat()).await;
        assert!(!fields.contains_key("content-encoding"), "{coding}");
        let content: Value = serde_json::from_slice(&content.unwrap()).unwrap();
        assert!(content["error"]["hint"].is_string(), "{coding}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_as_a_whole_passes_as_it_is() {
    let long = format!("{}{}", role_missing(), " ".repeat(100 * 1024));
    for (kind, encoding, content) in [
        ("text/plain", "identity", role_missing()),
        ("application/json", "br", role_missing()),
        ("application/json", "gzip", "no gzip".to_owned()),
        ("application/json", "identity", long),
        ("application/json", "identity", "not JSON: PermissionDenied".to_owned()),
    ] {
        let head = format!(
            "HTTP/1.1 403 Forbidden\r\ncontent-type: {kind}\r\ncontent-encoding: {encoding}\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n",
            content.len()
        );
        let (fields, passed) = passed_on([head.as_bytes(), content.as_bytes()].concat()).await;
        assert_eq!(fields["content-encoding"], encoding);
        assert_eq!(passed.unwrap(), content.as_bytes());
    }
}

#[tokio::test]
async fn a_refusal_that_breaks_off_is_broken_off() {
    let content = role_missing();
    for status in ["401 Unauthorized", "403 Forbidden"] {
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            content.len() + 1
        );
        let (_, passed) = passed_on([head.as_bytes(), content.as_bytes()].concat()).await;
        assert!(passed.is_err(), "{status}");
    }
}

#[tokio::test]
async fn trailers_behind_a_refusal_come_too() {
    let content = role_missing();
    let answer = format!(
        "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
         {:x}\r\n{content}\r\n0\r\nx-sum: 1\r\n\r\n",
        content.len()
    );
    let (fields, passed) = passed_on(answer.into_bytes()).await;
    assert!(!fields.contains_key("content-length"));
    let content: Value = serde_json::from_slice(&passed.unwrap()).unwrap();
    assert!(content["error"]["hint"].is_string());
}
