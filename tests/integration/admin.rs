//! The listener for probes: what it answers, whom, and that neither callers nor the end keep it from that.

use aoai_auth_proxy::emulator::{Emulator, Route};
use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use rustix::process::Signal;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::caller::Caller;
use crate::program::{Running, emulator, held_stream, outcome, serve};
use crate::support::{client, code, within};

/// The program with a listener for probes, and where that is.
async fn with(azure: &Emulator, settings: &[&str]) -> (Running, String) {
    let mut command = serve(azure);
    for setting in [&["admin.address=127.0.0.1:0"], settings].concat() {
        command.args(["--set", setting]);
    }
    let mut running = Running::start(&mut command).await;
    let admin = running.admin().await;
    (running, admin)
}

async fn ask(method: Method, url: &str, fields: &[(&str, &str)]) -> reqwest::Response {
    let request = client().request(method, url);
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    within(request.send()).await.unwrap()
}

async fn get(url: &str) -> reqwest::Response {
    ask(Method::GET, url, &[]).await
}

/// Waits until callers are refused.
async fn refuses_callers(running: &Running) {
    within(async {
        while TcpStream::connect(running.address()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Lets a stream that was held finish.
async fn finishes(azure: &Emulator, content: Incoming) {
    azure.control().release();
    assert!(within(content.collect()).await.expect("no break").to_bytes().ends_with(b"data: [DONE]\n\n"));
}

#[tokio::test]
async fn it_answers_probes_and_lends_nothing() {
    let azure = emulator().await;
    let (running, admin) = with(&azure, &[]).await;
    assert_eq!(running.get("/v1/models").await.status(), 200, "the first token has come");
    let asked = azure.control().state().count(Route::OpenAi);
    for path in ["/healthz", "/readyz", "/metrics", "/status"] {
        assert_eq!(get(&format!("{admin}{path}")).await.status(), 200, "{path}");
        let refused = ask(Method::POST, &format!("{admin}{path}"), &[]).await;
        assert_eq!(
            (refused.status(), &refused.headers()["allow"]),
            (StatusCode::METHOD_NOT_ALLOWED, &"GET, HEAD".parse().unwrap())
        );
        assert_eq!(code(refused).await, "method_not_allowed");
    }
    for path in [
        "/",
        "/status/events",
        "/v1/models",
        "/v1/chat/completions",
        "/openai/v1/models",
        "/openai/deployments/gpt-4o/chat/completions",
        "/management/models",
        "/management/deployments",
        "/quitquitquit",
        "/healthz/",
    ] {
        for method in [Method::GET, Method::POST] {
            let answer = ask(method, &format!("{admin}{path}"), &[("authorization", "Bearer unused")]).await;
            assert_eq!(answer.status(), 404, "{path}");
            assert!(answer.headers().contains_key("x-request-id"));
            assert_eq!(code(answer).await, "not_found", "{path}");
        }
    }
    assert_eq!(azure.control().state().count(Route::OpenAi), asked, "nothing was lent");
    let metrics = get(&format!("{admin}/metrics")).await.text().await.unwrap();
    assert!(metrics.contains(r#"route="/healthz""#), "{metrics}");
}

#[tokio::test]
async fn it_is_asked_by_its_address_and_by_no_web_page() {
    let azure = emulator().await;
    let (running, admin) = with(&azure, &["admin.quitquitquit=true"]).await;
    let (probe, quit) = (format!("{admin}/healthz"), format!("{admin}/quitquitquit"));
    for host in ["10.1.2.3:8643", "[fd00::1]:8643", "localhost"] {
        assert_eq!(ask(Method::GET, &probe, &[("host", host)]).await.status(), 200, "{host}");
    }
    for (fields, problem) in [
        (("host", "rebound.example"), "host_denied"),
        (("origin", "http://localhost:3000"), "origin_denied"),
        (("sec-fetch-site", "cross-site"), "origin_denied"),
    ] {
        for (method, url) in [(Method::GET, &probe), (Method::POST, &quit)] {
            assert_eq!(code(ask(method, url, &[fields]).await).await, problem, "{url}");
        }
    }
    assert_eq!(running.get("/healthz").await.status(), 200, "no page has ended it");
}

#[tokio::test]
async fn callers_that_take_all_places_leave_it_its_own() {
    let azure = emulator().await;
    let (running, admin) = with(&azure, &["limits.max_connections=1", "limits.max_in_flight=1"]).await;
    let (_caller, content) = held_stream(&running, &azure).await;
    for _ in 0..3 {
        assert_eq!(get(&format!("{admin}/healthz")).await.status(), 200);
    }
    let status: Value = get(&format!("{admin}/status")).await.json().await.unwrap();
    assert_eq!(status["requests"]["open_connections"], 1, "probes are no callers");
    finishes(&azure, content).await;
}

/// Its places are few, and nobody has one for long.
#[tokio::test]
async fn whoever_keeps_all_places_does_not_keep_them() {
    let azure = emulator().await;
    let (_running, admin) = with(&azure, &[]).await;
    let address = admin.trim_start_matches("http://").parse().unwrap();
    let mut callers = Vec::new();
    for number in 0..64 {
        let mut caller = Caller::connect(address, number % 2 == 0).await;
        let request = Request::get("/healthz").body(Body::empty()).unwrap();
        assert_eq!(within(caller.send(request)).await.unwrap().status(), 200);
        callers.push(caller);
    }
    assert_eq!(get(&format!("{admin}/healthz")).await.status(), 200);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn whoever_may_not_call_may_probe() {
    let azure = emulator().await;
    let (running, admin) =
        with(&azure, &["access.peer_users=4242", "access.require_key=true", "apps.a.key=hunter2"]).await;
    assert_eq!(code(running.get("/healthz").await).await, "peer_denied");
    assert_eq!(get(&format!("{admin}/healthz")).await.status(), 200);
}

#[tokio::test]
async fn it_tells_that_the_end_has_begun_until_there_are_no_callers_left() {
    let azure = emulator().await;
    let (running, admin) = with(&azure, &[]).await;
    let (caller, content) = held_stream(&running, &azure).await;
    running.process().signal(Signal::TERM);
    refuses_callers(&running).await;
    let answer = get(&format!("{admin}/readyz")).await;
    assert_eq!(answer.status(), 503);
    let told: Value = answer.json().await.unwrap();
    assert_eq!(told["reasons"][0]["code"], "shutting_down", "{told}");
    assert_eq!(get(&format!("{admin}/healthz")).await.status(), 200, "there is no reason to kill it");
    assert_eq!(get(&format!("{admin}/quitquitquit")).await.status(), 404, "it was not allowed");
    finishes(&azure, content).await;
    drop(caller);
    let (code, log) = running.end().await;
    assert_eq!(code, 0, "{log}");
    assert!(TcpStream::connect(admin.trim_start_matches("http://")).await.is_err());
}

#[tokio::test]
async fn whoever_may_ask_it_to_end_gets_an_orderly_end() {
    let azure = emulator().await;
    let (running, admin) = with(&azure, &["admin.quitquitquit=true"]).await;
    let quit = format!("{admin}/quitquitquit");
    let (caller, content) = held_stream(&running, &azure).await;
    for method in [Method::GET, Method::PUT, Method::HEAD] {
        let refused = ask(method, &quit, &[]).await;
        assert_eq!(
            (refused.status(), &refused.headers()["allow"]),
            (StatusCode::METHOD_NOT_ALLOWED, &"POST".parse().unwrap())
        );
    }
    assert_eq!(running.get("/quitquitquit").await.status(), 404, "callers may not");
    for _ in 0..2 {
        let answer = ask(Method::POST, &quit, &[]).await;
        assert_eq!(
            (answer.status(), answer.text().await.unwrap()),
            (StatusCode::OK, r#"{"status":"shutting down"}"#.to_owned())
        );
    }
    refuses_callers(&running).await;
    assert_eq!(get(&format!("{admin}/readyz")).await.status(), 503);
    // What a platform sends to whoever it takes for running: one signal asks for nothing new.
    running.process().signal(Signal::TERM);
    finishes(&azure, content).await;
    drop(caller);
    let (code, log) = running.end().await;
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("quitquitquit") && !log.contains("cut off"), "{log}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_said_to_be() {
    let azure = emulator().await;
    let (_running, admin) = with(&azure, &[]).await;
    let setting = admin.replace("http://", "admin.address=");
    let (code, output, errors) = outcome(serve(&azure).args(["--set", &setting])).await;
    assert_eq!((code, output.as_str()), (1, ""));
    assert!(errors.contains("another program does") && errors.contains("admin.address"), "{errors}");
}
