//! IMDS lets in what it lets in, and whoever is too many is told.

use http::StatusCode;
use tokio::task::JoinSet;

use super::client::{COGNITIVE_SERVICES, Connection, emulator, get, imds};
use crate::emulator::{Action, Emulator, Fault, Route};

#[tokio::test]
async fn a_sixth_request_at_once_is_refused_by_imds_alone() {
    let emulator = emulator().await;
    let control = emulator.control();
    control.fault(Fault::new(Route::Imds, Action::Hang).times(5));
    let mut waiting = JoinSet::new();
    for _ in 0..5 {
        let mut client = Connection::open(&emulator, emulator.imds(), "").await;
        let request = get(&token_url(&emulator), &[]);
        waiting.spawn(async move { client.send(request).await.map(|_| ()) });
    }
    control.until(|state| state.imds_most_at_once == 5).await;

    let refused = imds(&emulator, "2019-08-01", COGNITIVE_SERVICES).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(refused.json()["error"], "too_many_requests");
    assert!(refused.json()["error_description"].is_string());
    assert_eq!(control.count(Route::Imds), 6, "refused requests count");
    assert_eq!(control.most_at_once(), 5, "refused requests were not let in");
    assert_eq!(app_service(&emulator).await, StatusCode::OK);

    control.clear_requests();
    assert_eq!(control.most_at_once(), 5, "they are under way still");
    waiting.abort_all();
    control.until(|state| state.requests_open == 0).await;
    control.clear_requests();
    assert_eq!(control.most_at_once(), 0);
    assert_eq!(imds(&emulator, "2019-08-01", COGNITIVE_SERVICES).await.status, StatusCode::OK);
    assert_eq!(state(&emulator).await["imds_most_at_once"], 1);
}

fn token_url(emulator: &Emulator) -> String {
    format!("{}/metadata/identity/oauth2/token", emulator.imds())
}

async fn app_service(emulator: &Emulator) -> StatusCode {
    let mut client = Connection::open(emulator, emulator.app_service(), "").await;
    let url = format!("{}?api-version=2019-08-01&resource={COGNITIVE_SERVICES}", emulator.app_service());
    client.fetch(get(&url, &[("x-identity-header", emulator.app_service_header())])).await.status
}

async fn state(emulator: &Emulator) -> serde_json::Value {
    let mut client = Connection::open(emulator, emulator.control_address(), "").await;
    client.fetch(get(&format!("{}/state", emulator.control_address()), &[])).await.json()
}
