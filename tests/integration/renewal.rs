//! Whatever the identity service does, a request with a valid token at hand waits for nothing; and whoever waits for a
//! token shares one attempt.

use std::collections::BTreeMap;
use std::time::Duration;

use aoai_auth_proxy::emulator::{Action, Fault, Route};
use futures_util::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{World, within};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// A thousand callers, the proxy and Azure share this process: several thousand sockets.
fn allow_many_sockets() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}

#[tokio::test]
async fn a_thousand_callers_at_a_cold_start_cause_one_token_request() {
    allow_many_sockets();
    let slow = Action::Delay { ms: 300 };
    let world = World::with(&[], |azure| azure.control().fault(Fault::new(Route::Imds, slow))).await;
    let answers = join_all((0..1000).map(|_| world.get("/v1/models"))).await;
    assert!(answers.iter().all(|answer| answer.status() == 200));
    assert_eq!(world.azure.control().count(Route::Imds), 1);
    let everything = join_all((0..200).map(|_| async {
        world.azure.control().revoke_tokens(true);
        let _ = tokio::join!(world.get("/v1/models"), world.get("/management/models"));
    }));
    everything.await;
    assert!(world.azure.control().most_at_once() <= 2, "one for each plane");
}

fn ill(name: &str) -> Action {
    let answer = |status, body: &str, headers: &[(&str, &str)]| Action::Status {
        status,
        body: Some(body.to_owned()),
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<BTreeMap<_, _>>(),
    };
    match name {
        "hangs" => Action::Hang,
        "closes" => Action::Close,
        "breaks off" => Action::Cut { after_bytes: 20 },
        "says 200 in HTML" => answer(200, "<html>hello</html>", &[("content-type", "text/html")]),
        "says 200 and no token" => answer(200, r#"{"expires_on":"1"}"#, &[]),
        "gives an empty token" => answer(200, r#"{"access_token":"","expires_on":"99999999999"}"#, &[]),
        "gives an expired token" => answer(200, r#"{"access_token":"t","expires_on":"1000"}"#, &[]),
        "gives a token that cannot be sent" => {
            answer(200, r#"{"access_token":"a\nb","expires_on":"99999999999"}"#, &[])
        }
        "asks to be left alone" => answer(429, "{}", &[("retry-after", "30")]),
        status => Action::status(status.parse().expect("a status")),
    }
}

const ILLNESSES: [&str; 16] = [
    "hangs",
    "closes",
    "breaks off",
    "says 200 in HTML",
    "says 200 and no token",
    "gives an empty token",
    "gives an expired token",
    "gives a token that cannot be sent",
    "asks to be left alone",
    "400",
    "403",
    "404",
    "410",
    "429",
    "500",
    "503",
];

#[tokio::test]
async fn while_a_token_is_valid_no_illness_of_the_identity_service_is_noticed() {
    for name in ILLNESSES {
        let world = World::with(&[], |azure| azure.control().set_token_lifetime(24 * HOUR)).await;
        assert_eq!(world.get("/v1/models").await.status(), 200);
        world.fault(Route::Imds, ill(name), None);
        world.clock.advance(13 * HOUR);
        within(world.azure.control().until(|state| state.count(Route::Imds) == 2)).await;
        // For the one that hangs: this would never end if anything waited for it.
        for _ in 0..3 {
            assert_eq!(world.get("/v1/models").await.status(), 200, "{name}");
            assert_eq!(world.get("/readyz").await.status(), 200, "{name}");
        }
    }
}

#[tokio::test]
async fn an_identity_service_that_is_ill_from_the_start_is_told_of_in_its_own_words() {
    for (name, words) in [
        ("closes", "no answer from http://127.0.0.1"),
        ("says 200 in HTML", "not the JSON that was expected"),
        ("says 200 and no token", "there is no access_token in it"),
        ("gives an empty token", "it is empty"),
        ("gives an expired token", "expired already"),
        ("gives an expired token", "timedatectl"),
        ("gives a token that cannot be sent", "cannot be sent"),
        ("400", "answered 400: invalid_request"),
        ("410", "answered 410"),
        ("429", "answered 429: too_many_requests"),
        ("500", "answered 500"),
    ] {
        let world = World::with(&[], |azure| azure.control().fault(Fault::new(Route::Imds, ill(name)))).await;
        let response = world.get("/v1/models").await;
        assert_eq!(response.status(), 503, "{name}");
        assert!(response.headers().contains_key("retry-after"));
        let text = response.text().await.unwrap();
        assert!(text.contains(words) && !text.contains("borrowed"), "{name}: {text}");
        let ready = world.get("/readyz").await.text().await.unwrap();
        assert!(ready.contains(words), "{name}: {ready}");

        world.azure.control().clear_faults();
        world.clock.advance(Duration::from_secs(80));
        assert_eq!(world.get("/v1/models").await.status(), 200, "{name}: it heals by itself");
    }
}

#[tokio::test]
async fn retry_after_is_obeyed() {
    let world = World::with(&[], |azure| {
        azure.control().fault(Fault::new(Route::Imds, ill("asks to be left alone")));
    })
    .await;
    let response = world.get("/v1/models").await;
    assert!(response.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 30);
    world.azure.control().clear_faults();
    world.clock.advance(Duration::from_secs(29));
    assert_eq!(world.get("/v1/models").await.status(), 503);
    assert_eq!(world.azure.control().count(Route::Imds), 1);
    world.clock.advance(Duration::from_secs(8));
    assert_eq!(world.get("/v1/models").await.status(), 200);
}

#[tokio::test]
async fn what_only_a_person_can_mend_is_asked_for_once_a_minute() {
    let identity = "00000000-0000-0000-0000-00000000dead";
    let world = World::with(&[&format!("credential.client_id={identity}")], |_| ()).await;
    let text = world.get("/v1/models").await.text().await.unwrap();
    assert!(text.contains("Identity not found") && text.contains("az vm identity assign"), "{text}");
    assert!(text.contains(identity), "{text}");
    world.clock.advance(Duration::from_secs(59));
    let response = world.get("/v1/models").await;
    assert_eq!(response.status(), 503);
    // Whatever comes first is the second attempt: a premature one would be it, and be answered.
    world.azure.control().fault(Fault::new(Route::Imds, Action::Hang));
    world.clock.advance(Duration::from_secs(14));
    within(world.azure.control().until(|state| state.count(Route::Imds) == 2)).await;
    assert_eq!(world.azure.control().state().requests_open, 1, "it is the one that hangs");
}

#[tokio::test]
async fn a_slow_token_of_one_plane_does_not_delay_the_other() {
    let world = World::new().await;
    assert_eq!(world.get("/v1/models").await.status(), 200);
    world.fault(Route::Imds, Action::Hang, None);
    let management = world.get("/management/models");
    tokio::pin!(management);
    tokio::select! {
        _ = &mut management => panic!("its token never comes"),
        _ = world.azure.control().until(|state| state.count(Route::Imds) == 2) => {}
    }
    assert_eq!(world.get("/v1/models").await.status(), 200);
}
