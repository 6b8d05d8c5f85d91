//! What `docs/status.schema.json` says of the status and of its events.

use aoai_auth_proxy::emulator::{Action, Fault, Route};
use serde_json::{Value, json};

use crate::events::Watch;
use crate::history::settled;
use crate::support::World;

fn schema() -> Value {
    serde_json::from_str(include_str!("../../docs/status.schema.json")).expect("JSON")
}

/// Fails unless `content` is what the schema says of it: the status, or what an event of this name has.
pub(crate) fn check(what: &str, content: &Value) {
    let mut schema = schema();
    if what != "status" {
        schema = json!({ "$schema": schema["$schema"], "$defs": schema["$defs"], "$ref": format!("#/$defs/{what}") });
    }
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema");
    let errors: Vec<_> =
        validator.iter_errors(content).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?} in {content:#}");
}

async fn status(world: &World) -> Value {
    let status = world.get("/status").await.json().await.unwrap();
    check("status", &status);
    status
}

/// Every name of a property, wherever it is.
fn properties(schema: &Value, names: &mut Vec<String>) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::Object(properties)) = members.get("properties") {
                names.extend(properties.keys().cloned());
                assert_eq!(members["additionalProperties"], false, "{schema}");
                let optional = ["retry_after", "to_mend_it", "tokens"];
                for name in properties.keys().filter(|name| !optional.contains(&name.as_str())) {
                    assert!(members["required"].as_array().unwrap().contains(&json!(name)), "{name} in {schema}");
                }
            }
            members.values().for_each(|member| properties(member, names));
        }
        Value::Array(all) => all.iter().for_each(|one| properties(one, names)),
        _ => {}
    }
}

#[test]
fn every_property_is_documented() {
    let mut names = Vec::new();
    properties(&schema(), &mut names);
    assert!(names.len() > 60, "{names:?}");
    let page = include_str!("../../docs/status.md");
    for name in names {
        assert!(page.contains(&format!("`{name}`")), "docs/status.md does not tell of {name}");
    }
}

#[tokio::test]
async fn the_schema_holds_before_a_token_and_when_there_is_none_to_be_had() {
    let world = World::with(&[], |azure| azure.control().fault(Fault::new(Route::Imds, Action::Hang))).await;
    let waiting = status(&world).await;
    assert_eq!((&waiting["ready"], &waiting["reasons"][0]["code"]), (&json!(false), &json!("credential_pending")));

    let failing = |azure: &aoai_auth_proxy::emulator::Emulator| {
        azure.control().fault(Fault::new(Route::Imds, Action::status(400)));
    };
    let world = World::with(&[], failing).await;
    assert_eq!(world.chat().await.status(), 503);
    let without = settled(&world, 1).await;
    check("status", &without);
    assert_eq!((&without["ready"], &without["reasons"][0]["code"]), (&json!(false), &json!("credential_unavailable")));
    assert!(without["reasons"][0]["retry_after"].is_u64(), "{without}");
    let error = &without["errors"][0];
    assert_eq!((&error["code"], &error["status"]), (&json!("credential_unavailable"), &json!(503)));
}

#[tokio::test]
async fn the_schema_holds_after_traffic_and_at_the_end() {
    let settings = ["apps.a.key=a-key", "apps.a.tokens_per_minute=1000000"];
    let mut world = World::with(&settings, |_| ()).await;
    assert_eq!(world.chat().await.status(), 200);
    world.azure.control().set_role(false);
    assert_eq!(world.chat().await.status(), 401);
    let after = settled(&world, 2).await;
    check("status", &after);
    assert_eq!(
        (&after["ready"], &after["reasons"], &after["lists_deployments"]),
        (&json!(true), &json!([]), &json!(true))
    );
    assert!(after["apps"][0]["tokens"].is_u64() && after["identity"].is_object(), "{after}");

    let mut watch = Watch::begin(&world).await;
    world.proxy.lifecycle.end();
    let last = watch.last_status().await;
    check("status", &last);
    assert_eq!((&last["ready"], &last["reasons"][0]["code"]), (&json!(false), &json!("shutting_down")));
    drop((watch, world.client));
    let drained = crate::support::within(&mut world.proxy.serving).await.unwrap().unwrap();
    assert_eq!(drained, aoai_auth_proxy::server::Drained::Completely);
}
