//! `az` and `azd`: run once a renewal, with nothing to read, and whatever they say reaches whoever asked.

use std::path::Path;

use aoai_auth_proxy::emulator::{Emulator, Route, world};
use serde_json::Value;
use tempfile::TempDir;

use crate::program::{Running, emulator, executable, serve};
use crate::support::{client, within};

/// A home with a `bin`, where `name` does what the script says and counts how often it was run.
fn tool(name: &str, script: &str) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(home.path().join(".azure")).unwrap();
    let script = format!("#!/bin/sh\necho run >> {}/runs\n{script}\n", home.path().display());
    executable(&home.path().join(name), &script);
    home
}

fn runs(home: &Path) -> usize {
    std::fs::read_to_string(home.join("runs")).map_or(0, |runs| runs.lines().count())
}

async fn start(azure: &Emulator, home: &TempDir, kind: &str, settings: &[&str]) -> Running {
    let mut command = serve(azure);
    command.args(["--set", &format!("credential.kind={kind}")]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    let path = format!("{}:/usr/bin:/bin", home.path().display());
    Running::start(command.env("PATH", path).env("HOME", home.path())).await
}

fn token(azure: &Emulator) -> String {
    azure.access_token(&world::SERVICE_PRINCIPAL, "https://cognitiveservices.azure.com")
}

fn az_prints(token: &str) -> String {
    format!(r#"echo '{{"accessToken":"{token}","expires_on":4102444800,"tokenType":"Bearer"}}'"#)
}

#[tokio::test]
async fn az_is_run_once_for_any_number_of_requests() {
    let azure = emulator().await;
    // What reads from its standard input gets nothing, at once.
    let home = tool("az", &format!("cat; {}", az_prints(&token(&azure))));
    let proxy = start(&azure, &home, "azure-cli", &["credential.tenant_id=the-tenant"]).await;
    for _ in 0..10 {
        assert_eq!(proxy.get("/v1/models").await.status(), 200);
    }
    assert_eq!(runs(home.path()), 1);
}

#[tokio::test]
async fn az_is_told_scope_and_tenant() {
    let azure = emulator().await;
    let home = tool("az", &format!("echo \"$@\" > \"$HOME/arguments\"; {}", az_prints(&token(&azure))));
    let proxy = start(&azure, &home, "azure-cli", &["credential.tenant_id=the-tenant"]).await;
    assert_eq!(proxy.get("/v1/models").await.status(), 200);
    let arguments = std::fs::read_to_string(home.path().join("arguments")).unwrap();
    for words in
        ["account get-access-token", "--scope https://cognitiveservices.azure.com/.default", "--tenant the-tenant"]
    {
        assert!(arguments.contains(words), "{arguments}");
    }
}

#[tokio::test]
async fn azd_gives_tokens_too() {
    let azure = emulator().await;
    let printed = format!(r#"echo '{{"token":"{}","expiresOn":"2100-01-01T00:00:00Z"}}'"#, token(&azure));
    let home = tool("azd", &printed);
    let proxy = start(&azure, &home, "azure-developer-cli", &[]).await;
    assert_eq!(proxy.get("/v1/models").await.status(), 200);
}

#[tokio::test]
async fn whoever_is_not_signed_in_is_told_what_to_type_and_is_served_once_it_was_typed() {
    let azure = emulator().await;
    let script = format!(
        "if [ -e \"$HOME/.azure/azureProfile.json\" ] && [ ! -e \"$HOME/signed-in-as-somebody-else\" ]; then {}; else echo \"ERROR: Please run 'az login' to setup account.\" \
         >&2; exit 1; fi",
        az_prints(&token(&azure))
    );
    let home = tool("az", &script);
    let proxy = start(&azure, &home, "azure-cli", &["credential.tenant_id=the-tenant"]).await;
    for path in ["/v1/models", "/readyz"] {
        let response = proxy.get(path).await;
        assert_eq!(response.status(), 503);
        let text = response.text().await.unwrap();
        assert!(text.contains("Please run 'az login'") && text.contains("`az login --tenant the-tenant`"), "{text}");
    }
    for _ in 0..5 {
        assert_eq!(proxy.get("/v1/models").await.status(), 503);
    }
    assert_eq!(runs(home.path()), 1, "nothing has changed since");
    // A cache changes with every use of the tool, by whomever.
    std::fs::write(home.path().join(".azure/msal_token_cache.json"), "{}").unwrap();
    assert_eq!(proxy.get("/v1/models").await.status(), 503);
    assert_eq!(runs(home.path()), 1);
    std::fs::write(home.path().join(".azure/azureProfile.json"), "").unwrap();
    std::fs::write(home.path().join("signed-in-as-somebody-else"), "").unwrap();
    assert_eq!(proxy.get("/v1/models").await.status(), 503);
    assert_eq!(runs(home.path()), 2, "something has changed, and was no help");
    std::fs::remove_file(home.path().join("signed-in-as-somebody-else")).unwrap();
    std::fs::write(home.path().join(".azure/azureProfile.json"), "{}").unwrap();
    assert_eq!(proxy.get("/v1/models").await.status(), 200, "at once, without a restart");
    assert_eq!(runs(home.path()), 3);
    let (_, log) = proxy.stop().await;
    assert_eq!(log.matches("az login --tenant").count(), 1, "told once: {log}");
}

#[tokio::test]
async fn what_a_tool_says_reaches_whoever_asked() {
    let azure = emulator().await;
    let secret = token(&azure);
    for (script, words) in [
        ("echo 'ERROR: AADSTS70043: The refresh token has expired' >&2; exit 1", "AADSTS70043"),
        ("echo 'ERROR: AADSTS70043: The refresh token has expired' >&2; exit 1", "`az login`"),
        ("echo 'ERROR: AADSTS50076: you must use multi-factor' >&2; exit 1", "`az login --scope https://cognitive"),
        ("exit 127", "az not found on PATH"),
        ("echo 'ERROR: AADSTS90033: A transient error has occurred' >&2; exit 1", "AADSTS90033"),
        ("echo 'Traceback: something broke' >&2; exit 3", "something broke"),
        ("echo '{\"accessToken\":\"SECRET\",\"tokenType\":\"Bearer\"}'", "az upgrade"),
        ("echo 'SECRET'", "what it printed is no token"),
        ("echo '{\"accessToken\":\"x\",\"expires_on\":\"an-opaque-secret\"}'", "what it printed is no token"),
        ("echo 'debug: SECRET' >&2; exit 1", "(token)"),
        ("exit 0", "what it printed is no token"),
    ] {
        let home = tool("az", &script.replace("SECRET", &secret));
        let proxy = start(&azure, &home, "azure-cli", &[]).await;
        let response = proxy.get("/v1/models").await;
        assert_eq!(response.status(), 503, "{script}");
        let text = response.text().await.unwrap();
        assert!(text.contains(words), "{script}: {words} is not in: {text}");
        let (_, log) = proxy.stop().await;
        for secret in [&secret, "an-opaque-secret"] {
            assert!(!text.contains(secret) && !log.contains(secret), "{script}");
        }
    }
}

#[tokio::test]
async fn the_metadata_service_does_not_see_the_secret_of_another() {
    let azure = emulator().await;
    let proxy = Running::start(serve(&azure).env("IDENTITY_HEADER", "the-secret-of-another-service")).await;
    assert_eq!(proxy.get("/v1/models").await.status(), 200);
    let requests = azure.control().requests();
    let asked = requests.iter().find(|request| request.route == Route::Imds).unwrap();
    assert!(!asked.headers.contains_key("x-identity-header"), "{asked:?}");
}

/// Entra numbers each of its refusals, and the emulator does so too.
#[tokio::test]
async fn a_failure_that_lasts_is_told_once() {
    let azure = emulator().await;
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("token");
    std::fs::write(&file, "no token").unwrap();
    let settings = [
        format!("credential.tenant_id={}", world::TENANT_ID),
        format!("credential.client_id={}", world::USER_ASSIGNED.client_id),
        format!("credential.federated_token_file={}", file.display()),
    ];
    let settings = settings.each_ref().map(String::as_str);
    let proxy = start(&azure, &home, "workload-identity", &settings).await;
    within(azure.control().until(|state| state.count(Route::Entra) >= 3)).await;
    let (_, log) = proxy.stop().await;
    assert_eq!(log.matches("AADSTS50027").count(), 1, "{log}");
}

#[tokio::test]
async fn whoever_asks_for_many_deployments_does_not_flood_the_log() {
    let azure = emulator().await;
    let home = tool("az", &az_prints(&token(&azure)));
    let proxy = start(&azure, &home, "azure-cli", &[]).await;
    for n in 0..10 {
        let request = client().post(format!("{}/v1/chat/completions", proxy.url));
        let request = request.json(&serde_json::json!({ "model": format!("no-such-{n}"), "messages": [] }));
        assert_eq!(within(request.send()).await.unwrap().status(), 404);
    }
    let (_, log) = proxy.stop().await;
    assert_eq!(log.matches("the resource refuses requests").count(), 1, "{log}");
}

#[tokio::test]
async fn a_refusal_is_told_in_the_log_once() {
    let azure = emulator().await;
    let home = tool("az", &az_prints(&token(&azure)));
    let proxy = start(&azure, &home, "azure-cli", &[]).await;
    azure.control().set_role(false);
    for _ in 0..5 {
        assert_eq!(proxy.get("/v1/models").await.status(), 401);
    }
    let status: Value = within(proxy.get("/status").await.json()).await.unwrap();
    assert_eq!((&status["refusals"][0]["cause"], &status["refusals"][0]["count"]), (&"role_missing".into(), &5.into()));
    assert!(status["refusals"][0]["hint"].as_str().unwrap().contains("az role assignment create"));
    let (_, log) = proxy.stop().await;
    assert_eq!(log.matches("az role assignment create").count(), 1, "{log}");
}

#[tokio::test]
async fn a_token_is_expected_when_the_tool_said_that_it_ends() {
    let azure = emulator().await;
    let home = tool("az", &az_prints(&token(&azure)));
    let proxy = start(&azure, &home, "azure-cli", &[]).await;
    assert_eq!(proxy.get("/v1/models").await.status(), 200);
    let status: Value = within(proxy.get("/status").await.json()).await.unwrap();
    assert_eq!(status["tokens"][0]["expires_at"], "2100-01-01T00:00:00Z");
    assert_eq!(status["tokens"][0]["renewals"], 1);
    assert_eq!(status["tokens"][1]["state"], "pending", "nobody has asked for the management plane's");
}
