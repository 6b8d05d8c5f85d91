//! `models`: the region's models beside the account's deployments, for people and for programs.

use std::collections::BTreeMap;

use aoai_auth_proxy::emulator::{Action, Emulator, Fault, Route, world};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::program::{emulator, outcome, program};
use crate::support::{demo_settings, within};

/// The program with the emulator's settings but those that begin like one of `without`.
fn models(azure: &Emulator, without: &[&str], arguments: &[&str]) -> Command {
    let mut command = program();
    command.arg("models").args(arguments);
    for setting in demo_settings(azure) {
        if !without.iter().any(|prefix| setting.starts_with(prefix)) {
            command.args(["--set", &setting]);
        }
    }
    command
}

async fn output(azure: &Emulator, arguments: &[&str]) -> String {
    let (code, output, errors) = outcome(&mut models(azure, &[], arguments)).await;
    assert_eq!((code, &*errors), (0, ""), "{arguments:?}");
    output
}

async fn json_output(azure: &Emulator, arguments: &[&str]) -> Vec<Value> {
    let output = output(azure, &[arguments, &["--json"]].concat()).await;
    serde_json::from_str::<Value>(&output).unwrap().as_array().unwrap().clone()
}

fn names(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["name"].as_str().unwrap()).collect()
}

/// The program's failure, which must be one, with all these words.
async fn fails(command: &mut Command, status: i32, words: &[&str]) {
    let (code, output, errors) = outcome(command).await;
    assert_eq!((code, &*output), (status, ""), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    for word in words {
        assert!(errors.contains(word), "{word} is not in: {errors}");
    }
}

#[tokio::test]
async fn a_table_has_a_line_for_each_model() {
    let azure = emulator().await;
    let output = output(&azure, &[]).await;
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines.len(), 21, "a heading and each model once: {output}");
    assert!(!output.contains('\u{1b}'), "nobody sees colours in a pipe");
    let column = |name| lines[0].find(name).unwrap();
    let mini = lines.iter().find(|line| line.starts_with("gpt-4o-mini ")).unwrap();
    assert!(mini[column("VERSION")..].starts_with("2024-07-18 "));
    assert!(mini[column("CAPABILITIES")..].starts_with("chat, responses "));
    assert!(mini[column("DEPRECATION")..].starts_with("2029-07-17"));
    assert_eq!(&mini[column("DEPLOYMENTS")..], "gpt-4o-mini (GlobalStandard 10)");
    let whisper = lines.iter().find(|line| line.starts_with("whisper ")).unwrap();
    assert_eq!(&whisper[column("DEPLOYMENTS")..], "-");
    assert!(lines.iter().all(|line| !line.ends_with(' ')), "{output}");
}

#[tokio::test]
async fn json_has_an_object_for_each_model() {
    let azure = emulator().await;
    let rows = json_output(&azure, &[]).await;
    assert_eq!(rows.len(), 20);
    let mini = rows.iter().find(|row| row["name"] == "gpt-4o-mini").unwrap();
    assert_eq!(
        *mini,
        json!({
            "name": "gpt-4o-mini", "version": "2024-07-18", "format": "OpenAI", "kinds": ["AIServices", "OpenAI"],
            "default_version": true, "lifecycle": "GenerallyAvailable", "capabilities": ["chat", "responses"],
            "deprecation": "2029-07-17", "skus": ["GlobalStandard"],
            "deployments": [
                { "name": "gpt-4o-mini", "sku": "GlobalStandard", "capacity": 10, "state": "Succeeded" }
            ],
        })
    );
}

#[tokio::test]
async fn filters_leave_what_fits_all_of_them() {
    let azure = emulator().await;
    let rows = json_output(&azure, &["--name", "EMBEDDING"]).await;
    assert_eq!(names(&rows), ["text-embedding-3-large", "text-embedding-3-small", "text-embedding-ada-002"]);
    let rows = json_output(&azure, &["--capability", "realtime", "--capability", "audio"]).await;
    assert_eq!(names(&rows), ["gpt-realtime"]);
    let rows = json_output(&azure, &["--deployed", "--name", "gpt-4o"]).await;
    assert_eq!(rows.iter().map(|row| &row["version"]).collect::<Vec<_>>(), ["2024-11-20", "2024-07-18"]);
    assert_eq!(json_output(&azure, &["--name", "no such"]).await, [] as [Value; 0]);
    let (code, output, errors) = outcome(&mut models(&azure, &[], &["--name", "no such"])).await;
    assert_eq!((code, &*output), (0, ""));
    assert!(errors.contains("no such model"), "{errors}");
    let (code, _, errors) = outcome(&mut models(&azure, &[], &["--capability", "dance"])).await;
    assert_eq!(code, 2);
    assert!(errors.contains("dance") && errors.contains("fine-tune"), "{errors}");
}

#[tokio::test]
async fn the_region_is_the_one_asked_for_or_the_accounts_own() {
    let azure = emulator().await;
    let without = ["management.location"];
    let (code, output, errors) = outcome(&mut models(&azure, &without, &["--name", "gpt-4o-mini"])).await;
    assert_eq!((code, &*errors), (0, ""));
    assert!(output.contains("GlobalStandard 10"), "{output}");
    // One page of accounts serves both questions.
    let accounts = |path: &str| path.contains("/accounts?");
    let asked = azure.control().requests();
    assert_eq!(asked.iter().filter(|request| accounts(&request.path_and_query)).count(), 1);

    let mut elsewhere = models(&azure, &[], &["--location", "atlantis"]);
    fails(&mut elsewhere, 1, &["cannot list the models", "atlantis", "az account list-locations"]).await;
    let (code, _, errors) = outcome(&mut models(&azure, &[], &["--location", "a/b"])).await;
    assert_eq!(code, 2);
    assert!(errors.contains("--location") && errors.contains("letters, digits"), "{errors}");
}

#[tokio::test]
async fn what_is_missing_is_said() {
    let azure = emulator().await;
    let mut command = models(&azure, &["management.subscription_id"], &[]);
    fails(&mut command, 2, &["management.subscription_id", "AZURE_SUBSCRIPTION_ID"]).await;

    azure.control().set_management_role(false);
    let words = [
        "AuthorizationFailed",
        "az role assignment create --role Reader",
        world::SYSTEM_ASSIGNED.object_id,
        &format!("--scope /subscriptions/{}", world::SUBSCRIPTION_ID),
    ];
    fails(&mut models(&azure, &[], &[]), 1, &words).await;
    fails(&mut models(&azure, &["management.location"], &[]), 1, &words).await;
    azure.control().set_management_role(true);

    azure.control().fault(Fault::new(Route::Imds, Action::status(400)));
    fails(&mut models(&azure, &[], &[]), 1, &["no token for Azure", "managed-identity"]).await;
}

#[tokio::test]
async fn an_account_that_does_not_say_its_region_is_a_failure_of_the_moment() {
    let azure = emulator().await;
    let id = format!(
        "/subscriptions/{}/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/a",
        world::SUBSCRIPTION_ID
    );
    let content = json!({ "value": [{ "id": id, "properties": { "endpoint": azure.openai() } }] });
    let says = Action::Status { status: 200, body: Some(content.to_string()), headers: BTreeMap::default() };
    azure.control().fault(Fault::new(Route::Management, says));
    let words = ["cannot list the models", "which region", "--location", "management.location"];
    fails(&mut models(&azure, &["management.location"], &[]), 1, &words).await;
}

#[tokio::test]
async fn no_core_is_dumped_with_a_token_in_it() {
    let azure = emulator().await;
    azure.control().fault(Fault::new(Route::Management, Action::Hang));
    let child = models(&azure, &[], &[]).spawn().unwrap();
    within(azure.control().until(|state| state.count(Route::Management) > 0)).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id().unwrap())).unwrap();
    let cores = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).expect("Linux says so");
    assert_eq!(cores.split_whitespace().take(2).collect::<Vec<_>>(), ["0", "0"]);
}

#[tokio::test]
async fn models_are_listed_though_deployments_are_not() {
    let azure = emulator().await;
    let elsewhere = ["--endpoint", "https://nowhere.openai.azure.com"];
    let without = ["upstream.endpoint"];
    let (code, output, errors) = outcome(&mut models(&azure, &without, &elsewhere)).await;
    assert_eq!((code, output.lines().count()), (0, 21), "{errors}");
    for word in ["cannot list the deployments", "nowhere.openai.azure.com", "1 account", "management.account"] {
        assert!(errors.contains(word), "{word} is not in: {errors}");
    }
    let (code, output, _) = outcome(&mut models(&azure, &without, &[&elsewhere[..], &["--json"]].concat())).await;
    let rows: Value = serde_json::from_str(&output).unwrap();
    assert_eq!((code, &rows[0]["deployments"]), (0, &Value::Null), "not known is not none");
    let mut command = models(&azure, &without, &[&elsewhere[..], &["--deployed"]].concat());
    fails(&mut command, 1, &["cannot list the deployments"]).await;
}

#[tokio::test]
async fn what_has_ended_is_marked_and_what_is_not_ready_says_so() {
    let azure = emulator().await;
    let entry = |name: &str, ends: &str| {
        let model = json!({ "name": name, "version": "1", "format": "OpenAI", "deprecation": { "inference": ends } });
        let properties = json!({ "model": model, "provisioningState": "Creating" });
        json!({ "kind": "OpenAI", "name": format!("my-{name}"), "model": model, "properties": properties })
    };
    // Good as an entry of either list, whichever is asked for first.
    let list = json!({ "value": [entry("over", "2020-01-01T00:00:00Z"), entry("far", "2999-01-01T00:00:00Z")] });
    let body = Some(list.to_string());
    azure
        .control()
        .fault(Fault::new(Route::Management, Action::Status { status: 200, body, headers: BTreeMap::new() }));
    let account = ["--set", "management.account=a", "--set", "management.resource_group=b"];
    let output = output(&azure, &account).await;
    let rows: Vec<Vec<_>> = output.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1], ["far", "1", "-", "2999-01-01", "my-far", "(Creating)"]);
    assert_eq!(rows[2], ["over", "1", "-", "2020-01-01", "!", "past", "my-over", "(Creating)"]);
}
