//! What each hint must say, and what none may.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;

use super::{command, hint};
use crate::config::{Endpoint, Scope};
use crate::explain::{Cause, Facts, Words};
use crate::identity::claims::Claims;

const OBJECT_ID: &str = "0b1f6471-1bf0-4dda-aec3-cb9272f09590";
const TENANT: &str = "11111111-1111-1111-1111-111111111111";
const OTHER: &str = "22222222-2222-2222-2222-222222222222";

const CAUSES: [Cause; 10] = [
    Cause::RoleMissing,
    Cause::StaleToken,
    Cause::ClaimsChallenge,
    Cause::TenantMismatch,
    Cause::CustomSubdomain,
    Cause::KeysOnly,
    Cause::NetworkRules,
    Cause::VirtualNetworkEndpoint,
    Cause::PublicAccessDisabled,
    Cause::DeploymentNotFound,
];

/// What the hints are about, each fact to be changed by a test.
struct World {
    claims: serde_json::Value,
    endpoint: &'static str,
    scope: &'static str,
    deployment: Option<&'static str>,
    message: String,
}

impl World {
    fn new() -> Self {
        Self {
            claims: serde_json::json!({
                "oid": OBJECT_ID, "appid": "app-1", "tid": TENANT, "idtyp": "app",
                "aud": "https://cognitiveservices.azure.com/",
            }),
            endpoint: "https://name.openai.azure.com",
            scope: "https://cognitiveservices.azure.com/.default",
            deployment: None,
            message: String::new(),
        }
    }

    fn hint(&self, cause: Cause) -> String {
        let claims = Claims::read(&format!("h.{}.s", URL_SAFE_NO_PAD.encode(self.claims.to_string())));
        let content = serde_json::json!({ "message": self.message }).to_string();
        let facts = Facts {
            claims: Some(&claims),
            endpoint: &Endpoint::parse(self.endpoint).expect("an endpoint"),
            scope: &Scope::parse(self.scope).expect("a scope"),
            deployment: self.deployment,
            words: &Words::read(&HeaderMap::new(), content.as_bytes()),
        };
        hint(cause, &facts)
    }

    #[track_caller]
    fn says(&self, cause: Cause, parts: &[&str]) {
        let hint = self.hint(cause);
        for part in parts {
            assert!(hint.contains(part), "{part}\n{hint}");
        }
    }
}

#[test]
fn a_missing_role_comes_with_the_command_that_assigns_it() {
    World::new().says(
        Cause::RoleMissing,
        &[
            OBJECT_ID,
            "app-1",
            TENANT,
            "not verified",
            "on the resource name.",
            "Owner and Contributor do not count",
            "five minutes",
            "no restart",
            ": az role assignment create --assignee-object-id 0b1f6471-1bf0-4dda-aec3-cb9272f09590 \
             --assignee-principal-type ServicePrincipal --role 'Cognitive Services OpenAI User' --scope $(az \
             cognitiveservices account list --query '[?starts_with(not_null(properties.endpoint, name), \
             `https://name.`)].id | [0]' --output tsv)",
        ],
    );
}

#[test]
fn the_command_assigns_to_the_kind_of_principal_that_it_is() {
    let mut world = World::new();
    world.claims = serde_json::json!({ "oid": OBJECT_ID, "upn": "someone" });
    world.says(Cause::RoleMissing, &[&format!("--assignee-object-id {OBJECT_ID} --assignee-principal-type User ")]);
    world.claims = serde_json::json!({ "oid": OBJECT_ID });
    world.says(Cause::RoleMissing, &[&format!("create --assignee {OBJECT_ID} --role")]);
    world.claims = serde_json::json!({});
    world.endpoint = "https://gateway.example.com";
    world.says(Cause::RoleMissing, &["--assignee OBJECT_ID", "--scope RESOURCE_ID", "its principal lacks"]);
}

#[test]
fn a_foundry_project_wants_another_role() {
    let mut world = World::new();
    world.endpoint = "https://name.services.ai.azure.com/api/projects/p";
    world.says(
        Cause::RoleMissing,
        &["--role '53ca6127-db72-4b80-b1b0-d745d6d5456d' ", "Foundry User", "`https://name.`"],
    );
    assert!(!world.hint(Cause::RoleMissing).contains("OpenAI User"));
}

#[test]
fn a_wrong_audience_comes_with_the_right_scope() {
    let mut world = World::new();
    world.claims["aud"] = "https://ai.azure.com".into();
    world.message = "audience is incorrect (https://cognitiveservices.azure.com), or have expired.".to_owned();
    world.says(
        Cause::StaleToken,
        &[
            "audience https://ai.azure.com, and the resource takes https://cognitiveservices.azure.com.",
            "upstream.scope = 'https://cognitiveservices.azure.com/.default'",
            "AOAI_PROXY__UPSTREAM__SCOPE=https://cognitiveservices.azure.com/.default",
        ],
    );
    world.message = String::new();
    world.claims["aud"] = "https://management.azure.com".into();
    world.says(Cause::StaleToken, &["audience https://management.azure.com", "UPSTREAM__SCOPE=https://cognitive"]);
    // A token that does not say so is for what it was asked for.
    world.claims["aud"] = "7d312290-28c8-473c-a0ed-8e53749b6d6d".into();
    world.scope = "https://ml.azure.com/.default";
    world.says(Cause::StaleToken, &["audience https://ml.azure.com,", "UPSTREAM__SCOPE=https://cognitive"]);
}

#[test]
fn a_right_audience_is_not_to_blame() {
    let mut world = World::new();
    for message in ["", "audience is incorrect (https://cognitiveservices.azure.com/), or have expired."] {
        world.message = message.to_owned();
        world.says(Cause::StaleToken, &[OBJECT_ID, "clock", "name.openai.azure.com", "once more"]);
        assert!(!world.hint(Cause::StaleToken).contains("UPSTREAM__SCOPE"));
    }
    // Nobody knows what a gateway wants.
    world.endpoint = "https://gateway.example.com";
    world.message = "audience is incorrect (https://management.azure.com)".to_owned();
    world.claims["aud"] = "api://gateway".into();
    world.says(Cause::StaleToken, &["clock", "api://gateway"]);
    assert!(!world.hint(Cause::StaleToken).contains("management.azure.com"));
}

#[test]
fn tenants_are_named() {
    let mut world = World::new();
    world.says(
        Cause::TenantMismatch,
        &[&format!("of tenant {TENANT}"), "credential.tenant_id", "AZURE_TENANT_ID", ": az login --tenant TENANT_ID"],
    );
    world.message = format!("It must match the tenant 'https://sts.windows.net/{OTHER}/'");
    world.says(Cause::TenantMismatch, &[&format!("to tenant {OTHER}"), &format!(": az login --tenant {OTHER}")]);
    world.message = format!("It must match the tenant 'https://sts.windows.net/{TENANT}/'");
    world.says(Cause::TenantMismatch, &["another one", "--tenant TENANT_ID"]);
}

#[test]
fn a_region_leads_to_a_subdomain() {
    let mut world = World::new();
    world.endpoint = "https://usgovvirginia.api.cognitive.microsoft.us";
    world.says(
        Cause::CustomSubdomain,
        &[
            "usgovvirginia.api.cognitive.microsoft.us is the endpoint of a region",
            "https://NAME.openai.azure.us",
            "cannot be changed",
            ": az cognitiveservices account update --name ACCOUNT --resource-group GROUP --custom-domain NAME",
        ],
    );
    world.endpoint = "https://name.openai.azure.com";
    world.says(Cause::CustomSubdomain, &["for want of a subdomain"]);
}

#[test]
fn the_others_say_what_to_look_at() {
    let mut world = World::new();
    world.deployment = Some("gpt-4o");
    for (cause, parts) in [
        (Cause::KeysOnly, &["name.openai.azure.com asks for an API key", "gateway", "upstream.endpoint"][..]),
        (Cause::NetworkRules, &["network-rule add --name name --resource-group GROUP --ip-address ADDRESS", "virtual"]),
        (Cause::VirtualNetworkEndpoint, &["https://NAME.openai.azure.com", ": nslookup name.openai.azure.com"]),
        (Cause::PublicAccessDisabled, &["private endpoint only", "NO_PROXY", ": nslookup name.openai.azure.com"]),
        (Cause::DeploymentNotFound, &["no deployment 'gpt-4o'", "deployment list --name name --resource-group GROUP"]),
        (
            Cause::ClaimsChallenge,
            &[OBJECT_ID, "conditional access", "--scope https://cognitiveservices.azure.com/.default"],
        ),
    ] {
        world.says(cause, parts);
    }
}

#[test]
fn a_hint_can_be_copied_from_wherever_it_is_quoted() {
    for endpoint in ["https://name.openai.azure.com", "https://eastus.api.cognitive.microsoft.com", "http://[::1]:1"] {
        for cause in CAUSES {
            let hint = World { endpoint, ..World::new() }.hint(cause);
            assert!(!hint.contains(['"', '\\']) && !hint.contains(char::is_control), "{hint}");
            assert_eq!(serde_json::Value::from(hint.as_str()).to_string(), format!("\"{hint}\""));
        }
    }
}

#[test]
fn what_others_wrote_cannot_reach_a_shell() {
    for evil in ["$(id)", "`id`", "a;id", "a'b", "a\nb", "é"] {
        let mut world = World::new();
        world.claims = serde_json::json!({ "oid": evil, "tid": evil, "appid": evil, "aud": format!("https://{evil}") });
        world.message = format!("must match the tenant '{evil}'; audience is incorrect (https://{evil})");
        for cause in CAUSES {
            let hint = world.hint(cause);
            let without = World { claims: serde_json::json!({}), ..World::new() }.hint(cause);
            assert_eq!(hint, without, "{cause:?}");
        }
    }
    let mut world = World::new();
    world.deployment = Some("a' $(id)");
    world.says(Cause::DeploymentNotFound, &["has no deployment."]);
}

#[test]
fn names_are_for_logs() {
    let mut names: Vec<_> = CAUSES.into_iter().map(Cause::name).collect();
    assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), CAUSES.len());
}

#[test]
fn the_command_is_the_end_of_a_hint() {
    let expected = [
        (Cause::RoleMissing, Some("az role assignment create ")),
        (Cause::StaleToken, Some("AOAI_PROXY__UPSTREAM__SCOPE=")),
        (Cause::ClaimsChallenge, Some("az login ")),
        (Cause::TenantMismatch, Some("az login ")),
        (Cause::CustomSubdomain, Some("az cognitiveservices account update ")),
        (Cause::KeysOnly, None),
        (Cause::NetworkRules, Some("az cognitiveservices account network-rule add ")),
        (Cause::VirtualNetworkEndpoint, Some("nslookup name.openai.azure.com")),
        (Cause::PublicAccessDisabled, Some("nslookup name.openai.azure.com")),
        (Cause::DeploymentNotFound, Some("az cognitiveservices account deployment list ")),
    ];
    assert_eq!(expected.len(), CAUSES.len());
    for (cause, begin) in expected {
        let world = World { message: "audience is incorrect (https://ai.azure.com)".to_owned(), ..World::new() };
        let hint = world.hint(cause);
        let (words, command) = command(&hint);
        assert_eq!(command.map(|command| command.starts_with(begin.unwrap_or("?"))), begin.map(|_| true), "{hint}");
        assert!(!words.is_empty() && hint.starts_with(words), "{hint}");
    }
}
