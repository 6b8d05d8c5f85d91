//! `auto`: which credential it takes, which it passes over and why, and when it looks again.

use aoai_auth_proxy::emulator::{Action, Emulator, Fault, Route, world};
use serde_json::Value;
use tokio::process::Command;

use crate::program::{Running, emulator, executable, serve};
use crate::support::{client, demo_settings, within};

/// `serve` with `auto`, and no program but a shell on its `PATH`.
fn auto(azure: &Emulator, tools: &tempfile::TempDir) -> Command {
    let mut command = serve(azure);
    command.args(["--set", "credential.kind=auto"]);
    command.env("PATH", tools.path()).env("HOME", tools.path());
    command
}

/// An `az` that gives this token.
fn az(tools: &tempfile::TempDir, token: &str) {
    let answer = format!(r#"{{"accessToken":"{token}","expires_on":4102444800,"tokenType":"Bearer"}}"#);
    executable(&tools.path().join("az"), &format!("#!/bin/sh\necho '{answer}'\n"));
}

async fn status(proxy: &Running) -> Value {
    proxy.get("/status").await.json().await.unwrap()
}

#[tokio::test]
async fn the_metadata_service_comes_before_the_tools() {
    let (azure, tools) = (emulator().await, tempfile::tempdir().unwrap());
    az(&tools, &azure.access_token(&world::SERVICE_PRINCIPAL, "https://cognitiveservices.azure.com"));
    let proxy = Running::start(&mut auto(&azure, &tools)).await;
    assert_eq!(proxy.get("/v1/models").await.status(), 200);
    let status = status(&proxy).await;
    assert_eq!(status["credential"]["kind"], "auto");
    assert_eq!(status["credential"]["source"], "managed-identity");
    assert_eq!(status["credential"]["passed_over"], Value::Array(Vec::new()));
    assert_eq!(status["identity"]["object_id"], world::SYSTEM_ASSIGNED.object_id);
}

#[tokio::test]
async fn without_a_metadata_service_the_tool_is_asked_and_both_are_told() {
    let (azure, tools) = (emulator().await, tempfile::tempdir().unwrap());
    az(&tools, &azure.access_token(&world::SERVICE_PRINCIPAL, "https://cognitiveservices.azure.com"));
    let nowhere = "http://127.0.0.1:9";
    let proxy =
        Running::start(auto(&azure, &tools).args(["--set", &format!("credential.imds_endpoint={nowhere}")])).await;
    assert_eq!(proxy.get("/v1/models").await.status(), 200);
    let status = status(&proxy).await;
    assert_eq!(status["credential"]["source"], "azure-cli");
    assert_eq!(status["credential"]["passed_over"][0]["credential"], "managed-identity");
    assert!(status["credential"]["passed_over"][0]["reason"].as_str().unwrap().contains(nowhere), "{status}");
    assert_eq!(status["identity"]["app_id"], world::SERVICE_PRINCIPAL.client_id);
    let page = proxy.get("/").await.text().await.unwrap();
    assert!(page.contains("auto: azure-cli"), "{page}");
}

/// Whatever listens there, it is not Azure's metadata service.
#[tokio::test]
async fn other_things_at_the_metadata_services_address_are_passed_over() {
    for (name, route, action) in [
        ("nothing that answers", Route::Metadata, Action::Hang),
        ("Docker Desktop", Route::Metadata, Action::status(403)),
        ("a forward proxy", Route::Metadata, Action::status(502)),
        ("another cloud's", Route::Imds, Action::status(404)),
        ("another cloud's that wants a session", Route::Imds, Action::status(401)),
        ("one without this identity", Route::Imds, Action::status(400)),
    ] {
        let (azure, tools) = (emulator().await, tempfile::tempdir().unwrap());
        az(&tools, &azure.access_token(&world::SERVICE_PRINCIPAL, "https://cognitiveservices.azure.com"));
        azure.control().fault(Fault::new(route, action));
        let proxy = Running::start(&mut auto(&azure, &tools)).await;
        assert_eq!(proxy.get("/v1/models").await.status(), 200, "{name}");
        assert_eq!(status(&proxy).await["credential"]["source"], "azure-cli", "{name}");
    }
}

#[tokio::test]
async fn an_identity_service_that_is_ill_is_waited_for() {
    let (azure, tools) = (emulator().await, tempfile::tempdir().unwrap());
    az(&tools, &azure.access_token(&world::SERVICE_PRINCIPAL, "https://cognitiveservices.azure.com"));
    azure.control().fault(Fault::new(Route::Imds, Action::status(500)).times(1));
    let proxy = Running::start(&mut auto(&azure, &tools)).await;
    let response = proxy.get("/v1/models").await;
    assert_eq!(response.status(), 503);
    assert!(response.text().await.unwrap().contains("answered 500"));
    within(azure.control().until(|state| state.count(Route::Imds) == 2)).await;
    assert_eq!(proxy.get("/v1/models").await.status(), 200);
    assert_eq!(status(&proxy).await["credential"]["source"], "managed-identity");
}

#[tokio::test]
async fn a_secret_that_was_given_is_used_or_said_to_be_wrong() {
    let (azure, tools) = (emulator().await, tempfile::tempdir().unwrap());
    let given = [
        format!("credential.tenant_id={}", world::TENANT_ID),
        format!("credential.client_id={}", world::SERVICE_PRINCIPAL.client_id),
    ];
    let mut right = auto(&azure, &tools);
    let mut wrong = auto(&azure, &tools);
    for setting in &given {
        right.args(["--set", setting]);
        wrong.args(["--set", setting]);
    }
    let right = Running::start(right.env("AZURE_CLIENT_SECRET", world::CLIENT_SECRET)).await;
    assert_eq!(right.get("/v1/models").await.status(), 200);
    assert_eq!(status(&right).await["credential"]["source"], "client-secret");

    let wrong = Running::start(wrong.env("AZURE_CLIENT_SECRET", "not-the-secret")).await;
    let response = wrong.get("/v1/models").await;
    assert_eq!(response.status(), 503);
    let text = response.text().await.unwrap();
    assert!(text.contains("AADSTS7000215") && text.contains("az ad app credential reset"), "{text}");
    assert_eq!(azure.control().count(Route::Imds), 0, "nobody else is asked to speak for it");
}

#[tokio::test]
async fn nothing_at_all_names_everything_that_was_tried() {
    let (azure, tools) = (emulator().await, tempfile::tempdir().unwrap());
    let proxy =
        Running::start(auto(&azure, &tools).args(["--set", "credential.imds_endpoint=http://127.0.0.1:9"])).await;
    let response = proxy.get("/v1/models").await;
    assert_eq!(response.status(), 503);
    let text = response.text().await.unwrap();
    for words in
        ["managed-identity: no answer", "azure-cli: az not found", "azure-developer-cli: azd not found", "az login"]
    {
        assert!(text.contains(words), "{words} is not in: {text}");
    }
    let status = status(&proxy).await;
    assert_eq!(status["credential"]["source"], Value::Null);
    assert_eq!(status["tokens"][0]["state"], "unavailable");
}

/// The first link is one that no machine has a say in.
#[tokio::test]
async fn a_token_file_that_is_not_there_is_waited_for() {
    let (azure, clock) = crate::support::azure(true).await;
    let mut settings = demo_settings(&azure);
    settings.push("credential.kind=auto".to_owned());
    settings.push("credential.federated_token_file=/nonexistent".to_owned());
    settings.push(format!("credential.tenant_id={}", world::TENANT_ID));
    settings.push(format!("credential.client_id={}", world::USER_ASSIGNED.client_id));
    let proxy = crate::support::proxy(&settings, &clock).await;
    let response = within(client().get(format!("http://{}/v1/models", proxy.address)).send()).await.unwrap();
    assert_eq!(response.status(), 503);
    let text = response.text().await.unwrap();
    assert!(text.contains("/nonexistent") && text.contains("azure.workload.identity/use"), "{text}");
    assert_eq!(azure.control().count(Route::Imds), 0);
}

#[tokio::test]
async fn what_was_chosen_and_then_needs_a_person_is_one_of_several_again() {
    let (azure, tools) = (emulator().await, tempfile::tempdir().unwrap());
    std::fs::create_dir(tools.path().join(".azure")).unwrap();
    az(&tools, &azure.access_token(&world::SERVICE_PRINCIPAL, "https://cognitiveservices.azure.com"));
    azure.control().fault(Fault::new(Route::Metadata, Action::status(502)));
    let proxy = Running::start(&mut auto(&azure, &tools)).await;
    assert_eq!(proxy.get("/v1/models").await.status(), 200);
    assert_eq!(status(&proxy).await["credential"]["source"], "azure-cli");

    // Signed out, and the token is no good any more; the metadata service has come up meanwhile.
    executable(&tools.path().join("az"), "#!/bin/sh\necho \"ERROR: Please run 'az login'\" >&2; exit 1\n");
    azure.control().clear_faults();
    azure.control().revoke_tokens(true);
    assert_eq!(proxy.get("/v1/models").await.status(), 401, "az was chosen, and is asked first");
    assert_eq!(azure.control().count(Route::Imds), 0);
    std::fs::write(tools.path().join(".azure/azureProfile.json"), "{}").unwrap();
    assert_eq!(proxy.get("/v1/models").await.status(), 200);
    assert_eq!(status(&proxy).await["credential"]["source"], "managed-identity");
}

/// After how many seconds it is worth asking again.
fn retry_after(response: &reqwest::Response) -> u64 {
    response.headers()["retry-after"].to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_machine_whose_network_comes_up_late_does_not_wait_for_a_person() {
    let (azure, tools) = (emulator().await, tempfile::tempdir().unwrap());
    executable(&tools.path().join("az"), "#!/bin/sh\necho \"ERROR: Please run 'az login'\" >&2; exit 1\n");
    azure.control().fault(Fault::new(Route::Metadata, Action::Close).times(1));
    let proxy = Running::start(&mut auto(&azure, &tools)).await;
    let response = proxy.get("/v1/models").await;
    if response.status() == 503 {
        assert!(retry_after(&response) < 5, "{response:?}");
    }
    within(azure.control().until(|state| state.count(Route::Imds) == 1)).await;
}

#[tokio::test]
async fn a_tool_that_is_ill_is_waited_for_too() {
    let (azure, tools) = (emulator().await, tempfile::tempdir().unwrap());
    executable(&tools.path().join("az"), "#!/bin/sh\necho 'ERROR: connection aborted' >&2; exit 1\n");
    let token = azure.access_token(&world::SERVICE_PRINCIPAL, "https://cognitiveservices.azure.com");
    let answer = format!(r#"{{"token":"{token}","expiresOn":"2100-01-01T00:00:00Z"}}"#);
    executable(&tools.path().join("azd"), &format!("#!/bin/sh\necho '{answer}'\n"));
    let mut command = auto(&azure, &tools);
    let proxy = Running::start(command.args(["--set", "credential.imds_endpoint=http://127.0.0.1:9"])).await;
    let text = proxy.get("/v1/models").await.text().await.unwrap();
    assert!(text.contains("azure-cli: ERROR: connection aborted"), "{text}");
    assert_eq!(status(&proxy).await["credential"]["source"], Value::Null);
}

/// Whoever runs as a machine's identity does not become the person who is signed in there.
#[tokio::test]
async fn a_deployed_identity_is_never_exchanged_for_a_persons() {
    let (azure, tools) = (emulator().await, tempfile::tempdir().unwrap());
    az(&tools, &azure.access_token(&world::SERVICE_PRINCIPAL, "https://cognitiveservices.azure.com"));
    std::fs::create_dir(tools.path().join(".azure")).unwrap();
    let proxy = Running::start(&mut auto(&azure, &tools)).await;
    assert_eq!(proxy.get("/v1/models").await.status(), 200);
    azure.control().revoke_tokens(true);
    azure.control().fault(Fault::new(Route::Imds, Action::status(400)));
    assert_eq!(proxy.get("/v1/models").await.status(), 401, "the identity was taken away");
    std::fs::write(tools.path().join(".azure/azureProfile.json"), "{}").unwrap();
    assert_eq!(proxy.get("/v1/models").await.status(), 401, "az is not asked");
    azure.control().clear_faults();
    std::fs::write(tools.path().join(".azure/azureProfile.json"), "{} ").unwrap();
    within(async {
        while proxy.get("/v1/models").await.status() != 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(status(&proxy).await["credential"]["source"], "managed-identity");
}
