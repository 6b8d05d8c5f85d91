//! The account's deployments: the management plane's own list, and the list of models that they make.

use std::collections::BTreeMap;
use std::time::Duration;

use aoai_auth_proxy::config::{Config, Overrides};
use aoai_auth_proxy::emulator::{Action, Route, world};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::program::{Running, emulator, serve};
use crate::support::{World, code, within};

const LISTED: &str = "upstream.models=deployments";

/// An account, as the management plane has it.
fn account(group: &str, name: &str, properties: &Value) -> Value {
    let subscription = world::SUBSCRIPTION_ID;
    let id = format!(
        "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.CognitiveServices/accounts/{name}"
    );
    json!({ "id": id, "name": name, "location": "Sweden Central", "properties": properties })
}

/// A deployment in this state.
fn deployment(name: &str, state: &str) -> Value {
    json!({
        "name": name,
        "sku": { "name": "Standard", "capacity": 7 },
        "systemData": { "createdAt": "2024-05-01T12:34:56.789Z" },
        "properties": {
            "model": { "format": "OpenAI", "name": "gpt-4o", "version": "2024-11-20" },
            "provisioningState": state,
        },
    })
}

/// The management plane answers so, so many times.
fn management_says(world: &World, status: u16, content: &Value, count: Option<u32>) {
    let body = Some(content.to_string());
    world.fault(Route::Management, Action::Status { status, body, headers: BTreeMap::default() }, count);
}

async fn json_of(response: reqwest::Response) -> Value {
    assert_eq!(response.status(), 200);
    within(response.json()).await.unwrap()
}

async fn names(world: &World, path: &str) -> Vec<String> {
    let list = json_of(world.get(path).await).await;
    let (entries, member) = match list.get("data") {
        Some(data) => (data, "id"),
        None => (&list["value"], "name"),
    };
    entries.as_array().unwrap().iter().map(|entry| entry[member].as_str().unwrap().to_owned()).collect()
}

fn asked_for(world: &World) -> u64 {
    world.azure.control().count(Route::Management)
}

async fn message(response: reqwest::Response, status: u16, code: &str) -> String {
    assert_eq!(response.status(), status);
    let content: Value = within(response.json()).await.unwrap();
    assert_eq!(
        (&content["error"]["type"], &content["error"]["code"]),
        (&json!("proxy_error"), &json!(code)),
        "{content}"
    );
    content["error"]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_account_is_found_by_its_endpoint_once() {
    let world = World::new().await;
    let first = names(&world, "/management/deployments").await;
    assert!(first.len() > 6 && first.contains(&"gpt-4o-mini".to_owned()), "more than a page: {first:?}");
    // One page of accounts, two of deployments.
    assert_eq!(asked_for(&world), 3);
    assert_eq!(names(&world, "/management/deployments").await, first);
    assert_eq!(asked_for(&world), 5, "where it is, is known now");
    assert!(world.last(Route::Management).path_and_query.contains("/resourceGroups/emulated-rg/"));
}

#[tokio::test]
async fn keys_name_the_account_where_nobody_could_find_it() {
    let account = ["management.resource_group=Emulated-RG", "management.account=emulated-openai"];
    let settings = [&account[..], &["upstream.endpoint=http://127.0.0.1:9"]].concat();
    let world = World::with(&settings, |_| ()).await;
    assert!(!names(&world, "/management/deployments").await.is_empty());
    assert_eq!(asked_for(&world), 2, "nothing was looked up");
    let world = World::with(&["management.resource_group=größe_(1)", "management.account=a_b"], |_| ()).await;
    let response = world.get("/management/deployments").await;
    assert_eq!(response.status(), 404);
    let content: Value = within(response.json()).await.unwrap();
    assert_eq!(content["error"]["code"], "ResourceGroupNotFound", "the management plane's own answer");
    let asked = world.last(Route::Management).path_and_query;
    assert!(asked.contains("/resourceGroups/gr%C3%B6%C3%9Fe_(1)/"), "{asked}");
}

#[tokio::test]
async fn an_account_that_is_not_found_is_described() {
    let world = World::with(&["upstream.endpoint=http://127.0.0.1:9"], |_| ()).await;
    let told = message(world.get("/management/deployments").await, 404, "management_not_configured").await;
    for word in
        ["127.0.0.1:9", "1 account in", world::SUBSCRIPTION_ID, "management.resource_group", "management.account"]
    {
        assert!(told.contains(word), "{word} is not in: {told}");
    }
    management_says(&world, 200, &json!({ "value": [] }), Some(1));
    let told = message(world.get("/management/deployments").await, 404, "management_not_configured").await;
    assert!(told.contains("no account in") && told.contains("Reader"), "{told}");
    let shared = json!({ "endpoint": "http://127.0.0.1:9/" });
    let both = json!({ "value": [account("a", "one", &shared), account("b", "two", &shared)] });
    management_says(&world, 200, &both, Some(1));
    let told = message(world.get("/management/deployments").await, 404, "management_not_configured").await;
    assert!(told.contains("2 of") && told.contains("management.account"), "{told}");
}

#[tokio::test]
async fn an_account_that_was_moved_is_found_again() {
    let world = World::new().await;
    names(&world, "/management/deployments").await;
    let gone = json!({ "error": { "code": "ResourceNotFound", "message": "gone" } });
    let moved = json!({ "value": [account("new_group", "moved", &json!({ "endpoint": world.azure.openai() }))] });
    management_says(&world, 404, &gone, Some(1));
    management_says(&world, 200, &moved, Some(1));
    management_says(&world, 200, &json!({ "value": [deployment("d", "Succeeded")] }), Some(1));
    assert_eq!(names(&world, "/management/deployments").await, ["d"]);
    let asked = world.last(Route::Management).path_and_query;
    assert!(asked.contains("/resourceGroups/new_group/") && asked.contains("/accounts/moved/deployments"), "{asked}");
    // What the management plane says of an account that was found just now, it says.
    management_says(&world, 404, &gone, Some(1));
    management_says(&world, 200, &moved, Some(1));
    management_says(&world, 404, &gone, Some(1));
    let response = world.get("/management/deployments").await;
    assert_eq!(response.status(), 404);
    assert_eq!(within(response.text()).await.unwrap(), gone.to_string());
}

#[tokio::test]
async fn accounts_come_in_pages_too() {
    let world = World::new().await;
    let next = format!(
        "{}/subscriptions/{}/providers/Microsoft.CognitiveServices/accounts?api-version=2023-05-01",
        world.azure.management(),
        world::SUBSCRIPTION_ID
    );
    let others = json!({ "value": [account("g", "a", &json!({}))], "nextLink": next });
    management_says(&world, 200, &others, Some(1));
    assert!(!names(&world, "/management/deployments").await.is_empty());
    assert_eq!(asked_for(&world), 4);
}

#[tokio::test]
async fn parameters_and_refusals_are_those_of_the_other_list() {
    let world = World::new().await;
    for query in
        ["subscription_id=..%2Fother", "api-version=1%26x%3D2", "subscription_id=a&subscription_id=b", "location=.."]
    {
        let response = world.get(&format!("/management/deployments?{query}")).await;
        assert_eq!(code(response).await, "invalid_request", "{query}");
    }
    let response = world.client.post(world.url("/management/deployments")).send().await.unwrap();
    assert_eq!(code(response).await, "method_not_allowed");
    assert_eq!(asked_for(&world), 0);
    names(&world, "/management/deployments?api-version=2024-10-01").await;
    assert!(world.last(Route::Management).path_and_query.contains("api-version=2024-10-01"));
    let response = world.get("/management/deployments?subscription_id=another").await;
    let content: Value = within(response.json()).await.unwrap();
    assert_eq!(content["error"]["code"], "SubscriptionNotFound", "what was found is of another subscription");

    world.azure.control().set_management_role(false);
    let response = world.get("/management/deployments").await;
    assert_eq!(response.status(), 403);
    let content: Value = within(response.json()).await.unwrap();
    assert_eq!(content["error"]["code"], "AuthorizationFailed");
}

#[tokio::test]
async fn without_a_subscription_the_route_says_what_is_missing() {
    let (azure, clock) = crate::support::azure(true).await;
    let mut settings = crate::support::demo_settings(&azure);
    settings.retain(|setting| !setting.starts_with("management.subscription_id"));
    let proxy = crate::support::proxy(&settings, &clock).await;
    let url = format!("http://{}/management/deployments", proxy.address);
    let client = crate::support::client();
    let told = message(client.get(&url).send().await.unwrap(), 404, "management_not_configured").await;
    assert!(told.contains("AZURE_SUBSCRIPTION_ID"), "{told}");
    let asked = format!("{url}?subscription_id={}", azure.subscription_id());
    assert_eq!(client.get(asked).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn models_are_listed_as_they_can_be_called() {
    let world = World::with(&[LISTED], |_| ()).await;
    let list = json_of(world.get("/v1/models").await).await;
    assert_eq!(list["object"], "list");
    let data = list["data"].as_array().unwrap();
    let mini = data.iter().find(|model| model["id"] == "gpt-4o-mini").unwrap();
    assert_eq!(
        *mini,
        json!({
            "id": "gpt-4o-mini", "object": "model", "created": 1_721_260_800, "owned_by": "OpenAI",
            "model": "gpt-4o-mini", "version": "2024-07-18",
        })
    );
    let ids: Vec<_> = data.iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    assert_eq!(names(&world, "/openai/v1/models?limit=1").await, ids);
    assert_eq!(json_of(world.get("/v1/models/GPT-4o-mini").await).await, *mini);
    assert_eq!(json_of(world.get("/openai/v1/models/gpt%2D4o-mini").await).await, *mini);
    assert_eq!(world.azure.control().count(Route::OpenAi), 0, "the resource was not asked");

    for path in ["/v1/models/gpt-4o-2024-11-20", "/v1/models/a%2Fb", "/v1/models/a/b", "/openai/v1/models/%0A"] {
        let response = world.get(path).await;
        if path.ends_with("%0A") {
            assert_eq!(code(response).await, "invalid_path");
            continue;
        }
        let told = message(response, 404, "not_found").await;
        assert!(told.contains("gpt-4o-mini"), "what there is: {told}");
    }
    for path in ["/v1/models", "/v1/models/gpt-4o"] {
        let response = within(world.client.head(world.url(path)).send()).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(within(response.bytes()).await.unwrap().len(), 0);
    }
}

#[tokio::test]
async fn what_is_no_question_for_models_goes_to_the_resource() {
    let world = World::with(&[LISTED], |_| ()).await;
    for (method, path) in
        [("DELETE", "/v1/models/ft"), ("POST", "/v1/models"), ("GET", "/openai/models?api-version=2024-10-21")]
    {
        let request = world.client.request(method.parse().unwrap(), world.url(path));
        within(request.send()).await.unwrap();
        assert_eq!(world.last(Route::OpenAi).method, method, "{path}");
    }
    assert_eq!(asked_for(&world), 0);
}

#[tokio::test]
async fn by_default_the_list_is_the_resources_own() {
    let world = World::new().await;
    assert!(names(&world, "/v1/models").await.contains(&"gpt-4o-mini-2024-07-18".to_owned()));
    assert_eq!(asked_for(&world), 0);
}

#[tokio::test]
async fn what_cannot_be_called_yet_is_not_listed() {
    let world = World::with(&[LISTED], |_| ()).await;
    let account = json!({ "value": [account("g", "a", &json!({ "endpoint": world.azure.openai() }))] });
    let states = ["Succeeded", "Creating", "Failed", "Deleting", "Disabled"];
    let deployments: Vec<_> = states.iter().map(|state| deployment(&state.to_lowercase(), state)).collect();
    management_says(&world, 200, &account, Some(1));
    management_says(&world, 200, &json!({ "value": deployments }), Some(1));
    assert_eq!(names(&world, "/v1/models").await, ["succeeded"]);
    let told = message(world.get("/v1/models/creating").await, 404, "not_found").await;
    assert!(told.ends_with("there are succeeded"), "{told}");
}

/// Callers who all come before the first answer of the management plane has. One may be counted and not yet wait for it; but
/// the clock stands still, so that it meets the outcome, good or bad, and begins no second question.
async fn crowd(world: &World) -> Vec<reqwest::Response> {
    world.fault(Route::Management, Action::Hold { after_events: 0 }, Some(1));
    let all_wait = async {
        world.azure.control().until(|state| state.streams_held == 1).await;
        loop {
            let status: Value = world.get("/status").await.json().await.unwrap();
            if status["apps"][0]["requests"] == 20 {
                break world.azure.control().release();
            }
        }
    };
    let (answers, ()) =
        within(async { tokio::join!(join_all((0..20).map(|_| world.get("/v1/models"))), all_wait) }).await;
    answers
}

#[tokio::test]
async fn a_crowd_asks_once() {
    let world = World::with(&[LISTED], |_| ()).await;
    for response in crowd(&world).await {
        let list = json_of(response).await;
        assert!(list["data"].as_array().unwrap().len() > 6, "{list}");
    }
    assert_eq!(asked_for(&world), 3, "a page of accounts and two of deployments");
    world.clock.advance(Duration::from_secs(299));
    names(&world, "/v1/models").await;
    assert_eq!(asked_for(&world), 3, "still fresh");
}

#[tokio::test]
async fn a_crowd_shares_a_failure_too() {
    let world = World::with(&[LISTED], |_| ()).await;
    world.azure.control().set_management_role(false);
    assert!(crowd(&world).await.iter().all(|response| response.status() == 403));
    assert_eq!(asked_for(&world), 1);
    let refusal: Value = within(world.get("/v1/models").await.json()).await.unwrap();
    assert_eq!(refusal["error"]["code"], "AuthorizationFailed", "the management plane's own words");
    let hint = refusal["error"]["hint"].as_str().expect("what mends it");
    assert!(hint.contains("az role assignment create --role Reader --assignee"), "{hint}");
    assert_eq!(asked_for(&world), 1, "it is left alone for a moment");
    world.azure.control().set_management_role(true);
    world.clock.advance(Duration::from_secs(2));
    assert!(!names(&world, "/v1/models").await.is_empty(), "and nobody waits for longer");
}

#[tokio::test]
async fn the_management_plane_rests_as_long_as_it_asks_for() {
    for (wait, rest) in [("60", 60), ("0", 2), ("soon", 2), ("100000", 300)] {
        let world = World::with(&[LISTED], |_| ()).await;
        let headers = BTreeMap::from([("retry-after".to_owned(), wait.to_owned())]);
        world.fault(Route::Management, Action::Status { status: 429, body: None, headers }, Some(1));
        for _ in 0..3 {
            assert_eq!(world.get("/v1/models").await.status(), 429, "{wait}");
        }
        world.clock.advance(Duration::from_secs(rest - 1));
        assert_eq!(world.get("/v1/models").await.status(), 429, "{wait}");
        assert_eq!(asked_for(&world), 1, "{wait}");
        world.clock.advance(Duration::from_secs(1));
        assert!(!names(&world, "/v1/models").await.is_empty(), "{wait}");
    }
}

#[tokio::test]
async fn an_old_list_does_not_outlive_the_right_to_see_it() {
    for status in [401, 403, 404] {
        let world = World::with(&[LISTED], |_| ()).await;
        let first = names(&world, "/v1/models").await;
        world.clock.advance(Duration::from_secs(301));
        let no = json!({ "error": { "code": "No", "message": "no" } });
        // Where there is no account, it is looked for, and found nowhere.
        management_says(&world, status, &no, (status != 401).then_some(1));
        management_says(&world, 200, &json!({ "value": [] }), Some(1));
        // On a busy machine an answer may come too late for whoever asked first.
        let refused = within(async {
            loop {
                let answer = world.get("/v1/models").await;
                if answer.status() != 200 {
                    break answer;
                }
            }
        });
        assert_eq!(refused.await.status(), status);
        // And no failure of later brings it back.
        world.azure.control().clear_faults();
        world.clock.advance(Duration::from_secs(2));
        management_says(&world, 503, &json!({}), Some(1));
        assert_eq!(world.get("/v1/models").await.status(), 503);
        world.clock.advance(Duration::from_secs(2));
        assert_eq!(names(&world, "/v1/models").await, first);
    }
}

/// One odd entry is passed over, in whichever list it is.
#[tokio::test]
async fn one_odd_entry_costs_no_list() {
    let account = |world: &World| account("g", "a", &json!({ "endpoint": world.azure.openai() }));
    for odd in [
        json!(null),
        json!({ "name": null }),
        json!({ "name": "odd", "properties": { "model": { "name": null } } }),
        json!({ "name": "odd", "properties": { "model": { "version": "1" }, "provisioningState": "Succeeded" } }),
        json!({ "name": "odd", "sku": { "name": 7 } }),
    ] {
        let world = World::with(&[LISTED], |_| ()).await;
        for list in [json!([{ "id": null }, account(&world)]), json!([odd, deployment("usual", "Succeeded")])] {
            management_says(&world, 200, &json!({ "value": list }), Some(1));
        }
        let listed = names(&world, "/v1/models").await;
        assert!(listed.contains(&"usual".to_owned()), "{odd}: {listed:?}");
    }
}

/// `docs/logs.md`: never logged are queries and paths of requests.
#[tokio::test]
async fn the_path_of_a_model_that_was_looked_up_is_not_logged() {
    let azure = emulator().await;
    let proxy = Running::start(serve(&azure).args(["--set", LISTED])).await;
    let answer = proxy.get("/v1/models/what-the-path-says").await;
    let told = message(answer, 404, "not_found").await;
    assert!(told.contains("what-the-path-says") && told.contains("gpt-4o-mini"), "the caller is told: {told}");
    let (_, log) = proxy.stop().await;
    assert!(log.contains("no such deployment"), "{log}");
    assert!(!log.contains("what-the-path-says") && !log.contains("gpt-4o-mini"), "{log}");
}

/// Asks until the list is this one: on a busy machine a new one may come too late for whoever asked first.
async fn until_listed(world: &World, expected: &[String]) {
    within(async { while names(world, "/v1/models").await != expected {} }).await;
}

#[tokio::test]
async fn an_old_list_is_better_than_none() {
    let world = World::with(&[LISTED], |_| ()).await;
    let first = names(&world, "/v1/models").await;
    world.clock.advance(Duration::from_secs(301));
    management_says(&world, 503, &json!({}), Some(1));
    assert_eq!(names(&world, "/v1/models").await, first);
    world.azure.control().until(|state| state.count(Route::Management) == 4).await;
    assert_eq!(names(&world, "/v1/models").await, first);
    assert_eq!(asked_for(&world), 4, "after a failure it is left alone for a while");
    management_says(&world, 200, &json!({ "value": [deployment("new", "Succeeded")] }), Some(1));
    world.clock.advance(Duration::from_secs(31));
    until_listed(&world, &["new".to_owned()]).await;
    // A clock that is set back keeps no list fresh for longer.
    world.clock.set_back(Duration::from_secs(60));
    until_listed(&world, &first).await;
}

#[tokio::test]
async fn nobody_waits_long_for_a_new_list_where_there_is_an_old_one() {
    let world = World::with(&[LISTED], |_| ()).await;
    let first = names(&world, "/v1/models").await;
    world.clock.advance(Duration::from_secs(301));
    world.fault(Route::Management, Action::Hang, None);
    // Were they to wait for the answer, the test would run out of patience.
    for _ in 0..3 {
        assert_eq!(names(&world, "/v1/models").await, first);
    }
    assert_eq!(asked_for(&world), 4, "one question is under way");
}

#[tokio::test]
async fn an_app_sees_its_own_models() {
    let settings = [
        LISTED,
        "access.require_key=true",
        "apps.a.key=a",
        "apps.a.models=GPT-4o-mini,o3,text-embedding-3-small",
        "apps.b.key=b",
    ];
    let world = World::with(&settings, |_| ()).await;
    let get = async |path: &str, key: &'static str| {
        within(world.client.get(world.url(path)).bearer_auth(key).send()).await.unwrap()
    };
    let ids =
        |list: Value| list["data"].as_array().unwrap().iter().map(|model| model["id"].clone()).collect::<Vec<_>>();
    let of_a = ids(json_of(get("/v1/models", "a").await).await);
    assert_eq!(of_a, ["gpt-4o-mini", "text-embedding-3-small"], "what there is of them");
    assert!(ids(json_of(get("/v1/models", "b").await).await).len() > 2);
    assert_eq!(get("/v1/models/gpt-5", "b").await.status(), 200);
    let told = message(get("/v1/models/gpt-5", "a").await, 404, "not_found").await;
    assert!(told.contains("gpt-4o-mini, text-embedding-3-small") && !told.contains("o4"), "{told}");
    for path in ["/v1/models", "/v1/models/gpt-4o", "/management/deployments"] {
        assert_eq!(code(world.get(path).await).await, "invalid_key", "{path}");
    }
    let status: Value = world.get("/status").await.json().await.unwrap();
    assert_eq!(status["apps"][0]["requests"], 2, "each counts like any other request");
}

#[tokio::test]
async fn what_cannot_be_configured_is_said() {
    let told = |settings: &[&str]| {
        let all = [&["upstream.endpoint=https://name.openai.azure.com"], settings].concat();
        let assignments = all.into_iter().map(str::to_owned).collect();
        Config::isolated(&Overrides { assignments, ..Overrides::default() }).unwrap_err().to_string()
    };
    for (settings, words) in [
        (&[LISTED][..], &["upstream.models", "management.subscription_id", "AZURE_SUBSCRIPTION_ID"][..]),
        (&["upstream.models=all"], &["upstream.models", "all", "upstream, deployments"]),
        (&["management.account=a"], &["management.account", "management.resource_group", "both or neither"]),
        (&["management.resource_group=a"], &["management.resource_group", "management.account", "both or neither"]),
        (&["management.resource_group=a/b", "management.account=a"], &["management.resource_group", "a/b", "letters"]),
    ] {
        let told = told(settings);
        for word in words {
            assert!(told.contains(word), "{word} is not in: {told}");
        }
    }
}
