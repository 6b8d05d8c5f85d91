//! The fields Azure puts on every answer of the data plane.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use crate::emulator::world::REGION;

/// The name under which a client may number its requests; the answer repeats it.
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");

/// Fields with the same value on every answer.
const FIXED: [(HeaderName, &str); 6] = [
    (HeaderName::from_static("strict-transport-security"), "max-age=31536000; includeSubDomains; preload"),
    (HeaderName::from_static("x-content-type-options"), "nosniff"),
    (HeaderName::from_static("azureml-model-session"), "emulator-1"),
    (HeaderName::from_static("x-accel-buffering"), "no"),
    (HeaderName::from_static("x-ms-rai-invoked"), "true"),
    (HeaderName::from_static("x-ms-region"), REGION),
];

/// What is left of the deployment's rate limits. The emulator never runs out; ask for a fault instead.
const LIMITS: [(HeaderName, &str); 4] = [
    (HeaderName::from_static("x-ratelimit-limit-requests"), "1000"),
    (HeaderName::from_static("x-ratelimit-limit-tokens"), "1000000"),
    (HeaderName::from_static("x-ratelimit-remaining-requests"), "999"),
    (HeaderName::from_static("x-ratelimit-remaining-tokens"), "999985"),
];

/// The middleware.
pub(super) async fn add(request: Request, next: Next) -> Response {
    let client_request_id = request.headers().get(&CLIENT_REQUEST_ID).cloned();
    let mut response = next.run(request).await;
    let succeeded = response.status().is_success();
    let fields = response.headers_mut();
    add_new_id(fields, "apim-request-id");
    add_new_id(fields, "x-request-id");
    if let Some(id) = client_request_id {
        fields.insert(CLIENT_REQUEST_ID, id);
    }
    let limits = LIMITS.into_iter().filter(|_| succeeded);
    for (name, value) in FIXED.into_iter().chain(limits) {
        fields.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn add_new_id(fields: &mut HeaderMap, name: &'static str) {
    if let Ok(id) = HeaderValue::try_from(Uuid::new_v4().to_string()) {
        fields.insert(name, id);
    }
}
