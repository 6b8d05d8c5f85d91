//! What people get wrong, and the words with which the program does not start: kept as a snapshot, to be read as a whole.

use std::fmt::Write;
use std::path::Path;

use crate::program::{outcome, program};

/// A title, what the file says, variables, arguments.
type Mistake = (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);

const ENDPOINT: (&str, &str) = ("AZURE_OPENAI_ENDPOINT", "https://name.openai.azure.com");

const MISTAKES: &[Mistake] = &[
    ("nothing is configured", "", &[], &[]),
    ("an unknown option", "", &[], &["--endpont", "https://name.openai.azure.com"]),
    ("an unknown subcommand", "", &[], &["serv"]),
    ("an option without its value", "", &[], &["--endpoint"]),
    ("a file that is not there", "", &[], &["--config", "nowhere.toml"]),
    ("a file that is no TOML", "[upstream\nendpoint = 1", &[], &[]),
    ("a text without its end", "[upstream]\nendpoint = \"https://name", &[], &[]),
    ("the same key twice", "[azure]\ncloud = \"public\"\ncloud = \"china\"", &[], &[]),
    ("a misspelt key", "[upstream]\nendpont = \"https://name.openai.azure.com\"", &[], &[]),
    ("a misspelt section", "[upstraem]\nendpoint = \"https://name.openai.azure.com\"", &[], &[]),
    ("a key without its section", "endpoint = \"https://name.openai.azure.com\"", &[], &[]),
    ("a key in another section", "[listen]\nrequire_key = true", &[ENDPOINT], &[]),
    ("a key in a variable", "", &[ENDPOINT, ("AOAI_PROXY__LIMITS__MAX_CONNECTION", "5")], &[]),
    ("--set without =", "", &[ENDPOINT], &["--set", "limits.max_body"]),
    ("a section that is a text", "upstream = \"https://name.openai.azure.com\"", &[], &[]),
    ("an endpoint without its scheme", "", &[("AZURE_OPENAI_ENDPOINT", "name.openai.azure.com")], &[]),
    ("an endpoint over http", "", &[], &["--endpoint", "http://name.openai.azure.com"]),
    ("an endpoint with a key in it", "", &[], &["--endpoint", "https://name.openai.azure.com/?api-key=hunter2"]),
    ("an endpoint with a user", "", &[], &["--endpoint", "https://me:hunter2@name.openai.azure.com"]),
    ("an endpoint with a deployment", "", &[], &["--endpoint", "https://name.openai.azure.com/openai/deployments/gpt"]),
    (
        "a proxy inside of run",
        "",
        &[("AZURE_OPENAI_ENDPOINT", "http://127.0.0.1:9"), ("AZURE_OPENAI_API_KEY", "sk-run-hunter2")],
        &[],
    ),
    ("a port alone", "", &[ENDPOINT], &["--listen", "8642"]),
    ("an address for everybody", "", &[ENDPOINT], &["--listen", "0.0.0.0:8642"]),
    ("nowhere to listen", "", &[ENDPOINT], &["--listen", ""]),
    ("a credential that there is not", "", &[ENDPOINT], &["--credential", "managed_identity"]),
    ("a secret without its application", "", &[ENDPOINT, ("AZURE_CLIENT_SECRET", "hunter2")], &[]),
    (
        "workload identity outside of AKS",
        "",
        &[ENDPOINT, ("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c")],
        &["--credential", "workload-identity"],
    ),
    ("two names for one identity", "[credential]\nobject_id = \"o\"", &[ENDPOINT, ("AZURE_CLIENT_ID", "c")], &[]),
    (
        "an SDK's credential that there is not",
        "",
        &[ENDPOINT, ("AZURE_TOKEN_CREDENTIALS", "VisualStudioCodeCredential")],
        &[],
    ),
    ("a cloud that there is not", "[azure]\ncloud = \"germany\"", &[ENDPOINT], &[]),
    ("a scope without its end", "[upstream]\nscope = \"https://cognitiveservices.azure.com\"", &[ENDPOINT], &[]),
    ("certificates that are not there", "[upstream]\nca_file = \"nowhere.pem\"", &[ENDPOINT], &[]),
    ("a duration without its unit", "[upstream]\nidle_timeout = \"300\"", &[ENDPOINT], &[]),
    ("a duration that is too long", "[limits]\nshutdown_grace = \"48h\"", &[ENDPOINT], &[]),
    ("a size that is none", "[limits]\nmax_body = \"lots\"", &[ENDPOINT], &[]),
    ("nobody may connect", "[limits]\nmax_connections = 0", &[ENDPOINT], &[]),
    ("keys for nobody", "[access]\nrequire_key = true", &[ENDPOINT], &[]),
    ("an app's misspelt key", "[apps.website]\nrequest_per_minute = 5", &[ENDPOINT], &[]),
    ("an origin with a path", "[access]\nallowed_origins = [\"https://app.example/chat\"]", &[ENDPOINT], &[]),
    ("any origin", "[access]\nallowed_origins = [\"*\"]", &[ENDPOINT], &[]),
    ("a user that there is not", "[access]\npeer_users = [\"nobody-of-that-name\"]", &[ENDPOINT], &[]),
    ("a level that there is not", "", &[ENDPOINT], &["--log-level", "verbose"]),
    ("a format that there is not", "", &[ENDPOINT], &["--log-format", "xml"]),
    (
        "a collector without its scheme",
        "",
        &[ENDPOINT, ("AOAI_PROXY__TELEMETRY__OTLP_ENDPOINT", "collector:4317")],
        &[],
    ),
    (
        "a collector's address with a key in it",
        "[telemetry]\notlp_endpoint = \"https://me:hunter2@collector:4318\"",
        &[ENDPOINT],
        &[],
    ),
    ("a collector's address of one kind", "[telemetry]\notlp_endpoint = \"http://c:4318/v1/traces\"", &[ENDPOINT], &[]),
    ("a forward proxy that cannot be used", "", &[ENDPOINT, ("HTTPS_PROXY", "socks5://user:hunter2@proxy:1080")], &[]),
];

/// Exit status and words.
async fn told(directory: &Path, (title, file, variables, arguments): &Mistake) -> String {
    let path = directory.join("aoai-auth-proxy.toml");
    if !file.is_empty() {
        std::fs::write(&path, file).unwrap();
    }
    let mut command = program();
    // Should one be no mistake after all: nobody beyond this machine is asked.
    command.env("AZURE_AUTHORITY_HOST", "https://127.0.0.1:9");
    command.current_dir(directory).envs(variables.iter().copied()).args(*arguments);
    let (code, output, errors) = outcome(&mut command).await;
    assert_eq!(output, "", "{title}");
    assert_eq!(code, 2, "{title}: {errors}");
    let _ = std::fs::remove_file(&path);
    format!("# {title}\n{errors}")
}

#[tokio::test]
async fn what_is_wrong_is_told_so_that_it_can_be_mended() {
    let directory = tempfile::tempdir().unwrap();
    let mut all = String::new();
    for mistake in MISTAKES {
        writeln!(all, "{}", told(directory.path(), mistake).await).unwrap();
    }
    assert!(!all.contains("hunter2"), "{all}");
    assert!(!all.contains("panicked") && !all.contains("backtrace"), "{all}");
    insta::assert_snapshot!(all);
}
