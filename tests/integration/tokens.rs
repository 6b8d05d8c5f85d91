//! The token store: one fetch for any crowd, renewal that nobody waits for, failures that are shared and explained.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use aoai_auth_proxy::clock::{Clock, ManualClock};
use aoai_auth_proxy::config::Scope;

use aoai_auth_proxy::emulator::{Action, Fault, Route, world};
use aoai_auth_proxy::identity::tokens::TokenSlot;
use aoai_auth_proxy::identity::{AccessToken, Cause, CredentialError, Remedy, TokenSource};
use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::join_all;
use serde_json::Value;

use crate::support::{World, azure, client, code, demo_settings, last, proxy, within};

const HOUR: Duration = Duration::from_secs(60 * 60);

#[tokio::test]
async fn a_token_is_renewed_in_the_background_at_half_its_life() {
    let world = World::with(&[], |azure| azure.control().set_token_lifetime(24 * HOUR)).await;
    assert_eq!(world.chat().await.status(), 200);
    world.clock.advance(13 * HOUR);
    within(world.azure.control().until(|state| state.count(Route::Imds) == 2)).await;
    assert_eq!(world.chat().await.status(), 200);
    assert_eq!(world.azure.control().count(Route::Imds), 2);
}

#[tokio::test]
async fn while_renewal_fails_the_old_token_serves_until_it_expires() {
    let world = World::with(&[], |azure| azure.control().set_token_lifetime(HOUR)).await;
    assert_eq!(world.chat().await.status(), 200);
    world.fault(Route::Imds, Action::status(500), None);
    world.clock.advance(Duration::from_secs(55 * 60));
    within(world.azure.control().until(|state| state.count(Route::Imds) == 2)).await;
    assert_eq!(world.chat().await.status(), 200, "the old token is still good");

    world.clock.advance(Duration::from_secs(5 * 60));
    let response = world.chat().await;
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(code(response).await, "credential_unavailable");

    world.azure.control().clear_faults();
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(world.chat().await.status(), 200, "it heals by itself");
}

#[tokio::test]
async fn a_machine_that_slept_past_expiry_renews_at_the_first_request() {
    let world = World::with(&[], |azure| azure.control().set_token_lifetime(HOUR)).await;
    assert_eq!(world.chat().await.status(), 200);
    world.clock.advance(10 * HOUR);
    assert_eq!(world.chat().await.status(), 200);
    assert_eq!(world.azure.control().count(Route::Imds), 2);
}

#[tokio::test]
async fn a_failure_is_shared_by_the_crowd_and_remembered() {
    let world = World::with(&[], |azure| {
        azure.control().fault(Fault::new(Route::Imds, Action::status(400)));
    })
    .await;
    let answers = join_all((0..100).map(|_| world.chat())).await;
    for answer in answers {
        assert_eq!(answer.status(), 503);
        assert!(answer.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    }
    assert_eq!(world.azure.control().count(Route::Imds), 1, "the clock stands still, so no other attempt is due");
}

#[tokio::test]
async fn a_user_assigned_identity_is_named_each_way() {
    let (azure, clock) = azure(true).await;
    let identity = world::USER_ASSIGNED;
    for (key, value, parameter) in [
        ("client_id", identity.client_id, "client_id="),
        ("object_id", identity.object_id, "object_id="),
        ("resource_id", identity.resource_id.unwrap(), "msi_res_id="),
    ] {
        let mut settings = demo_settings(&azure);
        settings.push(format!("credential.{key}={value}"));
        let proxy = proxy(&settings, &clock).await;
        let response = within(client().get(format!("http://{}/v1/models", proxy.address)).send()).await.unwrap();
        assert_eq!(response.status(), 200, "{key}");
        assert!(last(&azure, Route::Imds).path_and_query.contains(parameter), "{key}");
    }
}

#[tokio::test]
async fn an_identity_that_is_not_assigned_is_said_to_be_so() {
    let world = World::with(&["credential.client_id=00000000-0000-0000-0000-00000000dead"], |_| ()).await;
    let response = world.chat().await;
    assert_eq!(response.status(), 503);
    let content: Value = response.json().await.unwrap();
    assert!(content["error"]["message"].as_str().unwrap().contains("Identity not found"), "{content}");
}

#[tokio::test]
async fn a_client_secret_gives_a_token_and_a_wrong_one_entras_own_words() {
    let (azure, clock) = azure(true).await;
    let principal = world::SERVICE_PRINCIPAL;
    let settings = |secret: &str| {
        let mut settings = demo_settings(&azure);
        settings.push("credential.kind=client-secret".to_owned());
        settings.push(format!("credential.tenant_id={}", world::TENANT_ID));
        settings.push(format!("credential.client_id={}", principal.client_id));
        settings.push(format!("credential.client_secret={secret}"));
        settings
    };
    let right = proxy(&settings(world::CLIENT_SECRET), &clock).await;
    let response = within(client().get(format!("http://{}/v1/models", right.address)).send()).await.unwrap();
    assert_eq!(response.status(), 200);

    let wrong = proxy(&settings("a-wrong-secret"), &clock).await;
    let response = within(client().get(format!("http://{}/v1/models", wrong.address)).send()).await.unwrap();
    assert_eq!(response.status(), 503);
    let text = response.text().await.unwrap();
    assert!(text.contains("AADSTS7000215"), "{text}");
    assert!(!text.contains("borrowed string") && !text.contains("a-wrong-secret"), "{text}");
}

#[tokio::test]
async fn a_secret_that_expired_is_said_to_have_and_heals_once_it_is_new() {
    let (azure, clock) = azure(true).await;
    azure.control().expire_client_secret(true);
    let mut settings = demo_settings(&azure);
    settings.push("credential.kind=client-secret".to_owned());
    settings.push(format!("credential.tenant_id={}", world::TENANT_ID));
    settings.push(format!("credential.client_id={}", world::SERVICE_PRINCIPAL.client_id));
    settings.push(format!("credential.client_secret={}", world::CLIENT_SECRET));
    let proxy = proxy(&settings, &clock).await;
    let url = format!("http://{}/v1/models", proxy.address);
    let text = within(client().get(&url).send()).await.unwrap().text().await.unwrap();
    assert!(text.contains("AADSTS7000222") && text.contains("az ad app credential reset --id"), "{text}");
    azure.control().expire_client_secret(false);
    clock.advance(Duration::from_secs(73));
    assert_eq!(within(client().get(&url).send()).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_certificate_signs_for_its_application_and_may_be_replaced_by_the_right_one() {
    let (azure, clock) = azure(true).await;
    let other = include_str!("../fixtures/certificates/combined.pem");
    let file = tempfile::NamedTempFile::new().unwrap();
    for send_chain in [false, true] {
        std::fs::write(file.path(), other).unwrap();
        let mut settings = demo_settings(&azure);
        settings.push("credential.kind=client-certificate".to_owned());
        settings.push(format!("credential.tenant_id={}", world::TENANT_ID));
        settings.push(format!("credential.client_id={}", world::SERVICE_PRINCIPAL.client_id));
        settings.push(format!("credential.client_certificate_path={}", file.path().display()));
        settings.push(format!("credential.send_certificate_chain={send_chain}"));
        let proxy = proxy(&settings, &clock).await;
        let url = format!("http://{}/v1/models", proxy.address);
        let response = within(client().get(&url).send()).await.unwrap();
        assert_eq!(response.status(), 503);
        let text = response.text().await.unwrap();
        assert!(text.contains("AADSTS700027") && text.contains("--cert @"), "{text}");

        std::fs::write(file.path(), azure.client_certificate_pem()).unwrap();
        clock.advance(Duration::from_secs(1));
        assert_eq!(within(client().get(&url).send()).await.unwrap().status(), 200, "as good as at once");
    }
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_not_shown_to_anyone() {
    let (azure, clock) = azure(true).await;
    // Good for a hundred years.
    clock.advance(Duration::from_secs(150 * 365 * 24 * 60 * 60));
    let certificate = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/certificates/combined.pem");
    let mut settings = demo_settings(&azure);
    settings.push("credential.kind=client-certificate".to_owned());
    settings.push(format!("credential.tenant_id={}", world::TENANT_ID));
    settings.push(format!("credential.client_id={}", world::SERVICE_PRINCIPAL.client_id));
    settings.push(format!("credential.client_certificate_path={certificate}"));
    let proxy = proxy(&settings, &clock).await;
    let response = within(client().get(format!("http://{}/v1/models", proxy.address)).send()).await.unwrap();
    assert_eq!(response.status(), 503);
    let text = response.text().await.unwrap();
    for words in [certificate, "expired on 21", "az ad app credential reset --id"] {
        assert!(text.contains(words), "{words} is not in: {text}");
    }
    assert_eq!(azure.control().count(Route::Entra), 0);
}

#[tokio::test]
async fn a_workload_identity_reads_its_file_at_every_renewal() {
    let (azure, clock) = azure(true).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "not a token\n").unwrap();
    let mut settings = demo_settings(&azure);
    settings.push("credential.kind=workload-identity".to_owned());
    settings.push(format!("credential.tenant_id={}", world::TENANT_ID));
    settings.push(format!("credential.client_id={}", world::USER_ASSIGNED.client_id));
    settings.push(format!("credential.federated_token_file={}", file.path().display()));
    let proxy = proxy(&settings, &clock).await;
    let url = format!("http://{}/v1/models", proxy.address);
    let response = within(client().get(&url).send()).await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(response.text().await.unwrap().contains("AADSTS"));

    // As people write files: with a line break at the end.
    std::fs::write(file.path(), format!("{}\n", azure.federated_token())).unwrap();
    clock.advance(Duration::from_secs(60));
    assert_eq!(within(client().get(&url).send()).await.unwrap().status(), 200);
}

/// A credential that never answers.
#[derive(Debug)]
struct Hanging(AtomicU32);

#[async_trait]
impl TokenSource for Hanging {
    async fn fetch(&self, _: &Scope) -> Result<AccessToken, CredentialError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        std::future::pending().await
    }

    fn deadline(&self) -> Duration {
        Duration::from_millis(50)
    }

    fn name(&self) -> &'static str {
        "hanging"
    }
}

#[tokio::test]
async fn a_credential_that_hangs_fails_at_its_deadline_and_then_at_once() {
    let source = Arc::new(Hanging(AtomicU32::new(0)));
    let scope = Scope::parse("https://cognitiveservices.azure.com/.default").unwrap();
    let slot = TokenSlot::new(scope, source.clone(), Arc::new(ManualClock::stopped()));
    let failure = within(slot.token()).await.unwrap_err();
    assert!(failure.error.cause == Cause::Overdue(Duration::from_millis(50)));
    let again = slot.token().now_or_never().expect("a known failure is told without waiting");
    assert!(again.is_err());
    assert_eq!(source.0.load(Ordering::Relaxed), 1, "the clock stands still, so no other attempt is due");
}

/// A credential whose code is wrong at first.
#[derive(Debug)]
struct Panicking(AtomicU32);

#[async_trait]
impl TokenSource for Panicking {
    async fn fetch(&self, _: &Scope) -> Result<AccessToken, CredentialError> {
        assert!(self.0.fetch_add(1, Ordering::Relaxed) > 0, "the first fetch panics, as this test wants");
        Ok(AccessToken { secret: "t".to_owned().into(), expires_at: SystemTime::UNIX_EPOCH + 1_000_000 * HOUR })
    }

    fn deadline(&self) -> Duration {
        Duration::from_secs(10)
    }

    fn name(&self) -> &'static str {
        "panicking"
    }
}

#[tokio::test]
async fn a_panic_in_a_credentials_code_is_one_failure() {
    let clock = Arc::new(ManualClock::stopped());
    let scope = Scope::parse("https://cognitiveservices.azure.com/.default").unwrap();
    let slot = TokenSlot::new(scope, Arc::new(Panicking(AtomicU32::new(0))), clock.clone());
    let failure = within(slot.token()).await.unwrap_err();
    assert!(failure.error.cause == Cause::Panicked);
    clock.advance(Duration::from_secs(60));
    assert!(within(slot.token()).await.is_ok());
}

/// A credential that fails so many times, and whose files may change all the time.
#[derive(Debug)]
struct Failing {
    clock: Arc<ManualClock>,
    failures: u32,
    remedy: Option<Remedy>,
    slow: Option<Duration>,
    restless: bool,
    fetches: AtomicU32,
    stamp: AtomicU32,
}

impl Failing {
    fn new(clock: &Arc<ManualClock>, failures: u32) -> Self {
        let (clock, fetches, stamp) = (clock.clone(), AtomicU32::new(0), AtomicU32::new(0));
        Self { clock, failures, remedy: None, slow: None, restless: false, fetches, stamp }
    }
}

#[async_trait]
impl TokenSource for Failing {
    async fn fetch(&self, _: &Scope) -> Result<AccessToken, CredentialError> {
        if let Some(slow) = self.slow {
            tokio::time::sleep(slow).await;
        }
        if self.fetches.fetch_add(1, Ordering::Relaxed) < self.failures {
            let cause = Cause::Tool("no".to_owned());
            return Err(CredentialError { credential: self.name(), cause, remedy: self.remedy.clone() });
        }
        Ok(AccessToken { secret: "t".to_owned().into(), expires_at: self.clock.now() + HOUR })
    }

    fn deadline(&self) -> Duration {
        Duration::from_secs(10)
    }

    fn name(&self) -> &'static str {
        "failing"
    }

    fn touched(&self) -> Option<SystemTime> {
        let stamp = if self.restless { self.stamp.fetch_add(1, Ordering::Relaxed) } else { 0 };
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(stamp.into()))
    }
}

fn slot(source: Failing) -> (TokenSlot, Arc<Failing>) {
    let (source, scope) = (Arc::new(source), Scope::parse("https://cognitiveservices.azure.com/.default").unwrap());
    (TokenSlot::new(scope, source.clone(), source.clock.clone()), source)
}

#[tokio::test]
async fn a_clock_that_is_set_back_ends_all_rest() {
    let clock = Arc::new(ManualClock::stopped());
    let (slot, _) = slot(Failing::new(&clock, 1));
    let failure = within(slot.token()).await.unwrap_err();
    clock.set_back(2 * HOUR);
    assert!(failure.retry_after(clock.now()) < 5);
    assert!(within(slot.token()).await.is_ok());
}

#[tokio::test]
async fn files_that_change_all_the_time_cause_no_storm() {
    let clock = Arc::new(ManualClock::stopped());
    let mut source = Failing::new(&clock, u32::MAX);
    source.restless = true;
    source.remedy = Some(Remedy { advice: "x".to_owned(), only: true });
    let (slot, source) = slot(source);
    assert!(within(slot.token()).await.is_err());
    // Each of these looks at the files again.
    for _ in 0..100 {
        assert!(slot.token().now_or_never().is_none_or(|token| token.is_err()));
        tokio::task::yield_now().await;
    }
    assert_eq!(source.fetches.load(Ordering::Relaxed), 1, "the clock stands still");
}

#[tokio::test]
async fn a_failure_from_before_the_machine_slept_is_not_what_the_first_request_is_told() {
    let clock = Arc::new(ManualClock::stopped());
    let mut source = Failing::new(&clock, 1);
    // Longer than requests wait after a failure.
    source.slow = Some(Duration::from_millis(1200));
    let (slot, _) = slot(source);
    assert!(within(slot.token()).await.is_err());
    clock.advance(8 * HOUR);
    assert!(within(slot.token()).await.is_ok());
}
