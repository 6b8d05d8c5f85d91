//! An application's credentials at Entra: a certificate that is checked, and a secret that expires.

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use ring::digest::{SHA256, digest};
use ring::rsa::KeyPair;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

use super::client::{Connection, Fetched, emulator, emulator_with_clock, entra, post};
use crate::clock::Clock;
use crate::emulator::Emulator;
use crate::emulator::web_tokens::{Algorithm, Header, sign};
use crate::emulator::world::{CLIENT_SECRET, SERVICE_PRINCIPAL, TENANT_ID, USER_ASSIGNED};

#[tokio::test]
async fn a_certificate_is_taken_for_the_endpoint_and_for_the_issuer() {
    let (emulator, clock) = emulator_with_clock().await;
    let now = clock.now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let base = format!("{}/{TENANT_ID}", emulator.entra());
    let (endpoint, issuer) = (format!("{base}/oauth2/v2.0/token"), format!("{base}/v2.0"));
    for audience in [&endpoint, &issuer] {
        let granted = signed_in(&emulator, SERVICE_PRINCIPAL.client_id, &assertion(&emulator, audience, now)).await;
        assert_eq!(granted.status, StatusCode::OK, "{audience}");
    }

    let elsewhere = assertion(&emulator, &base, now);
    let good = assertion(&emulator, &endpoint, now);
    assert_refused(&signed_in(&emulator, SERVICE_PRINCIPAL.client_id, &elsewhere).await, 700_023);
    assert_refused(&signed_in(&emulator, USER_ASSIGNED.client_id, &good).await, 50_027);
    clock.advance(Duration::from_secs(600));
    assert_refused(&signed_in(&emulator, SERVICE_PRINCIPAL.client_id, &good).await, 700_024);
}

#[tokio::test]
async fn a_secret_expires_and_is_made_good_again_over_http() {
    let emulator = emulator().await;
    let with = async |secret| {
        let form = [("client_id", SERVICE_PRINCIPAL.client_id), ("client_secret", secret)];
        entra(&emulator, TENANT_ID, &form).await
    };
    set_expired(&emulator, &json!(true)).await;
    assert_refused(&with(CLIENT_SECRET).await, 7_000_222);
    assert_refused(&with("wrong").await, 7_000_215);
    set_expired(&emulator, &json!(false)).await;
    assert_eq!(with(CLIENT_SECRET).await.status, StatusCode::OK);
}

/// An assertion of the application, good for ten minutes.
fn assertion(emulator: &Emulator, audience: &str, now: u64) -> String {
    let pem = emulator.client_certificate_pem().as_bytes();
    let certificate = CertificateDer::from_pem_slice(pem).unwrap();
    let mut header = Header::new(Algorithm::PS256);
    header.x5t_s256 = Some(URL_SAFE_NO_PAD.encode(digest(&SHA256, &certificate)));
    let id = SERVICE_PRINCIPAL.client_id;
    let claims = json!({ "aud": audience, "iss": id, "sub": id, "jti": "1", "nbf": now, "exp": now + 600 });
    let key = PrivatePkcs8KeyDer::from_pem_slice(pem).unwrap();
    sign(&KeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap(), &header, &claims)
}

async fn signed_in(emulator: &Emulator, client_id: &str, assertion: &str) -> Fetched {
    let form = [
        ("client_id", client_id),
        ("client_assertion", assertion),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
    ];
    entra(emulator, TENANT_ID, &form).await
}

async fn set_expired(emulator: &Emulator, expired: &Value) {
    let mut control = Connection::open(emulator, emulator.control_address(), "").await;
    let url = format!("{}/secret", emulator.control_address());
    let answer = control.fetch(post(&url, &[], json!({ "expired": expired }).to_string())).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
}

fn assert_refused(answer: &Fetched, code: u32) {
    assert_eq!(answer.json()["error_codes"], json!([code]));
    assert_eq!((answer.status, &answer.json()["error"]), (StatusCode::UNAUTHORIZED, &json!("invalid_client")));
}
