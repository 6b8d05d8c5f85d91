//! What Azure would answer, from tokens to models.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde_json::json;

use super::client::{
    COGNITIVE_SERVICES, Connection, Fetched, chat_with, emulator, emulator_with_clock, entra, get, imds, post,
};
use crate::emulator::world::{
    CLIENT_SECRET, MANAGEMENT_AUDIENCES, SERVICE_PRINCIPAL, SUBSCRIPTION_ID, SYSTEM_ASSIGNED, TENANT_ID, USER_ASSIGNED,
};
use crate::emulator::{Emulator, Options, Route};

#[tokio::test]
async fn a_token_from_imds_opens_the_data_plane() {
    let emulator = emulator().await;
    let granted = imds(&emulator, "2019-08-01", COGNITIVE_SERVICES).await.json();
    // By the machine's clock: a second may have begun since.
    let lifetime: u64 = granted["expires_in"].as_str().unwrap().parse().unwrap();
    assert!((86_300..=86_400).contains(&lifetime), "{lifetime}");
    assert_eq!(granted["client_id"], SYSTEM_ASSIGNED.client_id);
    let token = granted["access_token"].as_str().unwrap();
    for mut client in Connection::both(&emulator).await {
        let answer = client.fetch(chat_with(&emulator, token, false)).await;
        assert_eq!(answer.status, StatusCode::OK);
        let text = answer.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
        assert!(text.starts_with("You said: hello") && text.contains(SYSTEM_ASSIGNED.object_id), "{text}");
    }
}

#[tokio::test]
async fn imds_is_strict() {
    let emulator = emulator().await;
    let mut client = Connection::open(&emulator, emulator.imds(), "").await;
    let url = format!(
        "{}/metadata/identity/oauth2/token?api-version=2018-02-01&resource={COGNITIVE_SERVICES}",
        emulator.imds()
    );
    let metadata = ("metadata", "true");
    assert_eq!(client.fetch(get(&url, &[])).await.status, StatusCode::BAD_REQUEST);
    let forwarded = client.fetch(get(&url, &[metadata, ("x-forwarded-for", "10.0.0.1")])).await;
    assert_eq!(forwarded.status, StatusCode::BAD_REQUEST);
    assert_eq!(client.fetch(post(&url, &[metadata], "")).await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(imds(&emulator, "1999-01-01", COGNITIVE_SERVICES).await.json()["newest-versions"][0], "2025-04-07");
    let unknown = imds(&emulator, "2018-02-01", "https://example.invalid").await;
    assert_eq!(unknown.json()["error"], "invalid_resource");
}

#[tokio::test]
async fn app_service_wants_its_secret() {
    let emulator = emulator().await;
    let mut client = Connection::open(&emulator, emulator.app_service(), "").await;
    let url = format!(
        "{}?api-version=2019-08-01&resource={COGNITIVE_SERVICES}&client_id={}",
        emulator.app_service(),
        USER_ASSIGNED.client_id
    );
    assert_eq!(client.fetch(get(&url, &[])).await.status, StatusCode::UNAUTHORIZED);
    let granted = client.fetch(get(&url, &[("x-identity-header", emulator.app_service_header())])).await.json();
    assert_eq!(granted["client_id"], USER_ASSIGNED.client_id);
    assert_eq!(emulator.control().count(Route::AppService), 2);
    assert_eq!(emulator.control().count(Route::Imds), 0);
}

#[tokio::test]
async fn entra_takes_a_secret_or_a_federated_token() {
    let emulator = emulator().await;
    let secret = [("client_id", SERVICE_PRINCIPAL.client_id), ("client_secret", CLIENT_SECRET)];
    let granted = entra(&emulator, TENANT_ID, &secret).await.json();
    assert!((3_500..=3_599).contains(&granted["expires_in"].as_u64().unwrap()), "{granted}");
    let federated = emulator.federated_token();
    let assertion = [
        ("client_id", USER_ASSIGNED.client_id),
        ("client_assertion", federated.as_str()),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
    ];
    assert_eq!(entra(&emulator, TENANT_ID, &assertion).await.status, StatusCode::OK);
}

#[tokio::test]
async fn entra_says_what_is_wrong() {
    let (emulator, clock) = emulator_with_clock().await;
    let client = ("client_id", SERVICE_PRINCIPAL.client_id);
    let secret = ("client_secret", CLIENT_SECRET);
    let code = async |tenant, form: &[_]| {
        let body = entra(&emulator, tenant, form).await.json();
        assert!(body["error_description"].as_str().unwrap().contains("\r\nTrace ID: "), "{body}");
        body["error_codes"][0].clone()
    };
    assert_eq!(code(TENANT_ID, &[client, ("client_secret", "wrong")]).await, 7_000_215);
    assert_eq!(code(TENANT_ID, &[("client_id", "nobody"), secret]).await, 700_016);
    assert_eq!(code("another-tenant", &[client, secret]).await, 90_002);
    assert_eq!(code(TENANT_ID, &[client]).await, 7_000_216);
    let federated = emulator.federated_token();
    let assertion = [
        ("client_assertion", federated.as_str()),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
    ];
    assert_eq!(code(TENANT_ID, &[client, assertion[0], assertion[1]]).await, 70_021);
    clock.advance(Duration::from_secs(3600));
    let client = ("client_id", USER_ASSIGNED.client_id);
    assert_eq!(code(TENANT_ID, &[client, assertion[0], assertion[1]]).await, 700_024);
}

#[tokio::test]
async fn a_stale_token_and_a_missing_role_are_refused_differently() {
    let (emulator, clock) = emulator_with_clock().await;
    let [mut client, _] = Connection::both(&emulator).await;
    let token = |resource| emulator.access_token(&SYSTEM_ASSIGNED, resource);
    let good = token("https://ai.azure.com/");
    assert_eq!(client.fetch(chat_with(&emulator, &good, false)).await.status, StatusCode::OK);

    emulator.control().set_role(false);
    let denied = client.fetch(chat_with(&emulator, &good, false)).await;
    assert_eq!(denied.status, StatusCode::UNAUTHORIZED);
    assert_eq!(denied.json()["error"]["code"], "PermissionDenied");
    emulator.control().set_role(true);

    emulator.control().revoke_tokens(false);
    let other = token("https://vault.azure.net");
    let expired = token(COGNITIVE_SERVICES);
    for (token, reason) in [(good.as_str(), "revoked"), (&other, "of another audience"), ("nonsense", "no token")] {
        assert_stale(&client.fetch(chat_with(&emulator, token, false)).await, reason);
    }
    clock.advance(Duration::from_secs(3599));
    assert_stale(&client.fetch(chat_with(&emulator, &expired, false)).await, "expired");
}

#[tokio::test]
async fn a_token_of_another_emulator_is_refused() {
    let (one, other) = (emulator().await, emulator().await);
    let [mut client, _] = Connection::both(&one).await;
    let token = other.access_token(&SYSTEM_ASSIGNED, COGNITIVE_SERVICES);
    assert_stale(&client.fetch(chat_with(&one, &token, false)).await, "of another emulator");
}

#[tokio::test]
async fn files_come_back_as_they_went() {
    let emulator = emulator().await;
    let authorization = format!("Bearer {}", emulator.access_token(&SYSTEM_ASSIGNED, COGNITIVE_SERVICES));
    let authorization = ("authorization", authorization.as_str());
    let content: Vec<u8> = (0..=u8::MAX).cycle().take(3_000_000).collect();
    let mut form = b"--b\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--b\r\n\
        content-disposition: form-data; name=\"file\"; filename=\"bytes.bin\"\r\n\r\n"
        .to_vec();
    form.extend(&content);
    form.extend(b"\r\n--b--\r\n");
    let form = Bytes::from(form);
    for mut client in Connection::both(&emulator).await {
        let before = emulator.control().state();
        let url = format!("{}/openai/v1/files", emulator.openai());
        let fields = [authorization, ("content-type", "multipart/form-data; boundary=b")];
        let file = client.fetch(post(&url, &fields, form.clone())).await;
        assert_eq!(file.status, StatusCode::CREATED);
        let id = file.json()["id"].as_str().unwrap().to_owned();
        let back = client.fetch(get(&format!("{url}/{id}/content"), &[authorization])).await;
        assert!(back.body == content, "the content differs");
        let length = u64::try_from(form.len()).unwrap();
        let state = emulator.control().until(|state| state.streams_finished == before.streams_finished + 1).await;
        assert_eq!(state.bytes_received, before.bytes_received + length);
    }
}

#[tokio::test]
async fn arm_lists_models_page_by_page() {
    let emulator = emulator().await;
    let mut client = Connection::open(&emulator, emulator.management(), "h2").await;
    let authorization = format!("Bearer {}", emulator.access_token(&SYSTEM_ASSIGNED, MANAGEMENT_AUDIENCES[0]));
    let fields = [("authorization", authorization.as_str())];
    let mut link = format!(
        "{}/subscriptions/{SUBSCRIPTION_ID}/providers/Microsoft.CognitiveServices/locations/swedencentral/models\
         ?api-version=2024-10-01",
        emulator.management()
    );
    let (mut pages, mut names) = (0, Vec::new());
    loop {
        let page = client.fetch(get(&link, &fields)).await.json();
        let entries = page["value"].as_array().unwrap();
        names.extend(entries.iter().map(|entry| entry["model"]["name"].as_str().unwrap().to_owned()));
        pages += 1;
        let Some(next) = page.get("nextLink") else { break };
        next.as_str().unwrap().clone_into(&mut link);
    }
    assert!(pages > 2);
    assert_eq!(names.iter().filter(|name| *name == "gpt-4o-mini").count(), 2);
    emulator.control().set_evil_next_link(Some("https://evil.example".to_owned()));
    let deployments = format!(
        "{}/subscriptions/{SUBSCRIPTION_ID}/resourceGroups/{}/providers/Microsoft.CognitiveServices/accounts/{}\
         /deployments?api-version=2024-10-01",
        emulator.management(),
        emulator.resource_group(),
        emulator.account()
    );
    let page = client.fetch(get(&deployments, &fields)).await.json();
    assert!(page["nextLink"].as_str().unwrap().starts_with("https://evil.example/subscriptions/"));
}

#[tokio::test]
async fn arm_refuses_in_its_own_words() {
    let emulator = emulator().await;
    let mut client = Connection::open(&emulator, emulator.management(), "h2").await;
    let token = format!("Bearer {}", emulator.access_token(&SYSTEM_ASSIGNED, MANAGEMENT_AUDIENCES[1]));
    let wrong = format!("Bearer {}", emulator.access_token(&SYSTEM_ASSIGNED, COGNITIVE_SERVICES));
    let mut code = async |path: &str, token: &str| {
        let url = format!("{}/subscriptions/{path}", emulator.management());
        client.fetch(get(&url, &[("authorization", token)])).await.json()["error"]["code"].clone()
    };
    let accounts = format!("{SUBSCRIPTION_ID}/providers/Microsoft.CognitiveServices/accounts");
    let versioned = format!("{accounts}?api-version=2024-10-01");
    assert_eq!(code(&accounts, &token).await, "MissingApiVersionParameter");
    assert_eq!(code(&versioned, &wrong).await, "InvalidAuthenticationTokenAudience");
    assert_eq!(code("nobody?api-version=2024-10-01", &token).await, "SubscriptionNotFound");
    let elsewhere = format!(
        "{SUBSCRIPTION_ID}/providers/Microsoft.CognitiveServices/locations/atlantis/models?api-version=2024-10-01"
    );
    assert_eq!(code(&elsewhere, &token).await, "NoRegisteredProviderFound");
    emulator.control().set_management_role(false);
    assert_eq!(code(&versioned, &token).await, "AuthorizationFailed");
    emulator.control().set_management_role(true);
    emulator.control().revoke_tokens(true);
    assert_eq!(code(&versioned, &token).await, "ExpiredAuthenticationToken");
}

#[tokio::test]
async fn http2_can_be_switched_off() {
    let emulator = Emulator::start(Options { http2: false, ..Options::default() }).await.unwrap();
    assert!(matches!(Connection::open(&emulator, emulator.openai(), "h2").await, Connection::Http1(_)));
}

#[tokio::test]
async fn dropping_the_emulator_closes_everything() {
    let emulator = emulator().await;
    let [mut client, _] = Connection::both(&emulator).await;
    let request = chat_with(&emulator, "any", false);
    let file = emulator.ca_file().to_owned();
    drop(emulator);
    assert!(client.send(request).await.is_err());
    assert!(!file.exists());
}

fn assert_stale(answer: &Fetched, reason: &str) {
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{reason}");
    assert_eq!(answer.json()["statusCode"], json!(401), "{reason}");
}
