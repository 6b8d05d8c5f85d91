//! Nothing that the program prints or answers holds a secret: not at the loudest level, not from any library in it, not on
//! any route, not in any error.

use std::collections::BTreeSet;
use std::fmt::Write;

use aoai_auth_proxy::emulator::{Action, Emulator, Fault, Route, world};
use http::header::AUTHORIZATION;

use crate::program::{Running, emulator, serve};
use crate::support::{chat, client, within};

const CALLERS_KEY: &str = "sk-the-callers-own-key";

/// Everything, of every library.
const LOUDEST: [&str; 2] = ["--log-level", "trace,aoai_auth_proxy=trace"];

async fn start(azure: &Emulator, settings: &[String]) -> Running {
    let mut command = serve(azure);
    command.args(LOUDEST);
    for setting in settings {
        command.args(["--set", setting]);
    }
    Running::start(&mut command).await
}

/// Asks all routes; status lines, fields and content of the answers.
async fn answers(proxy: &Running) -> String {
    let mut text = String::new();
    let client = client();
    for path in [
        "/",
        "/healthz",
        "/readyz",
        "/status",
        "/metrics",
        "/metrics",
        "/v1/models",
        "/openai/deployments/x/y?api-version=1&api-key=sk-the-callers-own-key",
        "/v1/../x",
        "/v1/realtime?model=m&x=what-the-query-says",
        "/v1/files?purpose=what-the-query-says",
        "/nowhere?x=what-the-query-says",
        "/management/models",
        "/management/models?location=..",
        "/nowhere",
    ] {
        let request =
            client.get(format!("{}{path}", proxy.url)).bearer_auth(CALLERS_KEY).header("api-key", CALLERS_KEY);
        let response = within(request.send()).await.unwrap();
        writeln!(text, "{} {:?}", response.status(), response.headers()).unwrap();
        text += &within(response.text()).await.unwrap();
    }
    for stream in [false, true] {
        let request = client.post(format!("{}/v1/chat/completions", proxy.url)).bearer_auth(CALLERS_KEY);
        let response = within(request.json(&chat(stream)).send()).await.unwrap();
        writeln!(text, "chat: {} {:?}", response.status(), response.headers()).unwrap();
        text += &within(response.text()).await.unwrap();
    }
    text
}

/// The tokens that have reached the resource and the management plane.
fn tokens_seen(azure: &Emulator) -> BTreeSet<String> {
    let requests = azure.control().requests();
    let fields = requests.iter().filter_map(|request| request.headers.get(AUTHORIZATION));
    fields.filter_map(|field| field.to_str().ok()?.strip_prefix("Bearer ")).map(str::to_owned).collect()
}

fn holds_none(text: &str, secrets: impl IntoIterator<Item = impl AsRef<str>>, what: &str) {
    for secret in secrets {
        // A token is as good as its parts.
        for part in secret.as_ref().split('.').filter(|part| part.len() > 12 && !is_common(part)) {
            let place = text.find(part);
            let around = place.map(|place| &text[place.saturating_sub(300)..place]);
            assert!(place.is_none(), "{what} holds a secret, behind: {around:?}");
        }
    }
}

/// The first part of every token says how it was signed: no secret.
fn is_common(part: &str) -> bool {
    part.starts_with("eyJ0eXAi") || part.starts_with("eyJhbGci")
}

#[tokio::test]
async fn a_proxy_that_works_tells_no_secret() {
    let azure = emulator().await;
    let proxy = start(&azure, &[]).await;
    let mut text = answers(&proxy).await;
    azure.control().revoke_tokens(true);
    text += &answers(&proxy).await;
    azure.control().set_role(false);
    text += &answers(&proxy).await;
    // Names that would write a line of their own, or all over the screen.
    for name in ["m\nINFO what-the-model-says", "\u{1b}[2Jwhat-the-model-says", &"what-the-model-says".repeat(4)] {
        let mut asked = chat(false);
        asked["model"] = name.into();
        within(client().post(format!("{}/v1/chat/completions", proxy.url)).json(&asked).send()).await.unwrap();
    }
    let tokens = tokens_seen(&azure);
    assert!(tokens.len() >= 3, "both planes, and the renewed ones");
    let (_, log) = proxy.stop().await;
    assert!(log.contains("TRACE") && log.contains("==> Request"), "libraries talk too: {log}");
    assert!(log.contains("model=gpt-4o-mini"), "a name is told");
    holds_none(&log, ["what-the-query-says", "what-the-model-says", "one two three four five"], "the log");
    for (what, text) in [("an answer", &text), ("the log", &log)] {
        holds_none(text, &tokens, what);
        holds_none(text, [CALLERS_KEY], what);
    }
}

#[tokio::test]
async fn a_credential_that_fails_tells_no_secret() {
    let azure = emulator().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let federated = azure.federated_token();
    std::fs::write(file.path(), &federated).unwrap();
    let common = |kind: &str, client: &str| {
        vec![
            format!("credential.kind={kind}"),
            format!("credential.tenant_id={}", world::TENANT_ID),
            format!("credential.client_id={client}"),
        ]
    };
    let with = |kind: &str, client: &str, setting: String| [common(kind, client), vec![setting]].concat();
    let (application, identity) = (world::SERVICE_PRINCIPAL.client_id, world::USER_ASSIGNED.client_id);
    let secret_setting = |secret: &str| format!("credential.client_secret={secret}");
    let file_setting = format!("credential.federated_token_file={}", file.path().display());
    // Entra gives a token, refuses, answers with the secret in it, and is broken.
    let wrong = "a-wrong-secret-of-ours";
    let page = format!("<html>Blocked: client_secret={} or client_secret={wrong}</html>", world::CLIENT_SECRET);
    let blocked = Action::Status { status: 403, body: Some(page), headers: std::collections::BTreeMap::default() };
    for action in [None, Some(Action::status(401)), Some(echoing(&federated)), Some(blocked), Some(Action::Close)] {
        azure.control().clear_faults();
        if let Some(action) = action {
            azure.control().fault(Fault::new(Route::Entra, action));
        }
        for (settings, secret) in [
            (with("client-secret", application, secret_setting(world::CLIENT_SECRET)), world::CLIENT_SECRET),
            (with("client-secret", application, secret_setting(wrong)), wrong),
            (with("workload-identity", identity, file_setting.clone()), &federated),
            (with("workload-identity", application, file_setting.clone()), &federated),
        ] {
            let proxy = start(&azure, &settings).await;
            let text = answers(&proxy).await;
            let (_, log) = proxy.stop().await;
            for (what, text) in [("an answer", &text), ("the log", &log)] {
                holds_none(text, tokens_seen(&azure), what);
                holds_none(text, [secret, CALLERS_KEY], what);
            }
        }
    }
}

/// An identity service that repeats what it was given.
fn echoing(token: &str) -> Action {
    let description = format!("AADSTS50027: JWT token is invalid: '{token}'\r\nTrace ID: 1");
    let body = serde_json::json!({ "error": "invalid_client", "error_description": description });
    Action::Status { status: 401, body: Some(body.to_string()), headers: std::collections::BTreeMap::default() }
}
