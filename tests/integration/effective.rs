//! `config`: what is in force, who says so, and no secret.

use std::path::Path;

use crate::program::{outcome, program};

const FILE: &str = r#"
[upstream]
endpoint = "https://name.openai.azure.com/openai/v1/"

[access]
allowed_origins = ["https://app.example"]

[apps."my.app"]
key = "hunter2"
models = ["gpt-4o", "gpt-4o-mini"]

[apps.website]
requests_per_minute = 60

[prices."gpt-4.1"]
input = 2.5
output = 10.0
"#;

/// Something of every layer, with secrets in two of them.
async fn config(file: &Path, more: &[&str]) -> (i32, String, String) {
    let mut command = program();
    command.env("AZURE_TENANT_ID", "tenant-1").env("AZURE_CLIENT_ID", "client-1").env("AZURE_CLIENT_SECRET", "hunter2");
    command.env("AOAI_PROXY__LISTEN__ALLOW_REMOTE", "1").env("AOAI_PROXY__ACCESS__ALLOWED_HOSTS", "localhost, box");
    command.env("AOAI_PROXY__CREDENTIAL__CLIENT_CERTIFICATE_PASSWORD", "hunter2");
    command.env("HTTPS_PROXY", "http://user:hunter2@proxy:3128");
    command.arg("config").arg("--config").arg(file).args(["--set", "limits.max_connections=7", "--listen", "[::1]:0"]);
    outcome(command.args(more)).await
}

fn written(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

/// Keys and values without where they come from.
fn values(toml: &str) -> Vec<&str> {
    let lines = toml.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split("  # ").next().unwrap().trim_end()).collect()
}

#[tokio::test]
async fn every_value_has_a_source_and_no_secret_is_shown() {
    let file = written(FILE);
    let (code, toml, errors) = config(file.path(), &[]).await;
    assert_eq!((code, &*errors), (0, ""), "{toml}");
    for (value, source) in [
        ("address = \"[::1]:0\"", "command line --listen"),
        ("allow_remote = true", "environment variable AOAI_PROXY__LISTEN__ALLOW_REMOTE"),
        ("endpoint = \"https://name.openai.azure.com/openai/v1/\"", file.path().to_str().unwrap()),
        ("scope = \"https://cognitiveservices.azure.com/.default\"", "by cloud and endpoint"),
        ("tenant_id = \"tenant-1\"", "environment variable AZURE_TENANT_ID"),
        ("allowed_hosts = [\"localhost\", \"box\"]", "environment variable AOAI_PROXY__ACCESS__ALLOWED_HOSTS"),
        ("max_connections = 7", "command line --set"),
        ("max_in_flight = 1024", "the defaults"),
        ("models = [\"gpt-4o\", \"gpt-4o-mini\"]", file.path().to_str().unwrap()),
    ] {
        let line = toml.lines().find(|line| line.starts_with(value)).unwrap_or_else(|| panic!("{value}: {toml}"));
        assert!(line.ends_with(&format!("# {source}")), "{line}");
    }
    assert!(toml.contains("# client_secret = (secret)  # environment variable AZURE_CLIENT_SECRET"), "{toml}");
    assert!(toml.contains("[apps.\"my.app\"]\n# key = (secret)"), "{toml}");
    assert!(toml.contains("#   HTTPS_PROXY = http://proxy:3128"), "{toml}");
    assert!(!toml.contains("hunter2"), "{toml}");
}

#[tokio::test]
async fn what_is_shown_can_be_fed_back() {
    let (_, shown, _) = config(written(FILE).path(), &[]).await;
    let back = written(&shown);
    let (code, again, errors) = outcome(program().arg("config").arg("--config").arg(back.path())).await;
    // Nothing but secrets and the metadata service, which a variable sets here, is other than it was.
    assert_eq!((code, &*errors), (0, ""), "{again}");
    assert_eq!(values(&again), values(&shown));
    assert!(values(&again).len() > 30, "{again}");
}

#[tokio::test]
async fn one_key_is_explained() {
    let file = written(FILE);
    let (code, text, _) = config(file.path(), &["--explain", "limits.max_connections"]).await;
    assert_eq!(code, 0);
    for line in [
        "  value     7",
        "  from      command line --set",
        "  over      4096 from the defaults",
        "            environment variable AOAI_PROXY__LIMITS__MAX_CONNECTIONS",
    ] {
        assert!(text.lines().any(|told| told == line), "{line:?} is not in: {text}");
    }
    let (code, text, _) = config(file.path(), &["--explain", "credential.client_secret"]).await;
    assert!(code == 0 && text.contains("(secret)") && !text.contains("hunter2"), "{text}");
    let (code, text, _) = config(file.path(), &["--explain", "azure"]).await;
    assert_eq!((code, &*text), (0, "azure is a section; its keys are\n  azure.cloud\n"));
    let (code, _, errors) = config(file.path(), &["--explain", "upstream.endpont"]).await;
    assert_eq!(code, 2);
    assert!(errors.contains("did you mean `upstream.endpoint`?"), "{errors}");
}

#[tokio::test]
async fn what_is_wrong_is_shown_and_said() {
    let file = written("[limits]\nmax_body = \"much\"\n");
    let (code, toml, errors) = outcome(program().arg("config").arg("--config").arg(file.path())).await;
    assert_eq!(code, 2);
    assert!(toml.contains("max_body = \"much\""), "{toml}");
    assert!(errors.contains("limits.max_body") && errors.contains("512MiB"), "{errors}");
}

#[tokio::test]
async fn the_manual_has_every_command_and_option() {
    let (code, page, _) = outcome(program().arg("man")).await;
    assert_eq!(code, 0);
    let (_, help, _) = outcome(program().arg("--help")).await;
    let commands = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let lines = commands.lines().filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    let names: Vec<_> = lines.filter_map(|line| line.split(' ').next()).filter(|name| *name != "help").collect();
    assert!(names.len() >= 6, "{help}");
    for name in names {
        assert!(page.contains(&format!("\\fB{}\\fR", name.replace('-', "\\-"))), "{name}: {page}");
    }
    for word in ["\\-\\-explain", "\\-\\-tenant\\-id", "AZURE_CLIENT_SECRET", "EXIT STATUS"] {
        assert!(page.contains(word), "{word}: {page}");
    }
}

#[tokio::test]
async fn config_shows_no_password_and_no_key_of_a_url() {
    for (variable, value) in [
        ("AZURE_OPENAI_ENDPOINT", "https://user:hunter2@name.openai.azure.com"),
        ("AZURE_OPENAI_ENDPOINT", "https://name.openai.azure.com/?api-key=hunter2"),
        ("AZURE_AUTHORITY_HOST", "https://user:hunter2@login.microsoftonline.com"),
        ("AOAI_PROXY__MANAGEMENT__ENDPOINT", "https://user:hunter2@management.azure.com"),
        ("AOAI_PROXY__CREDENTIAL__IMDS_ENDPOINT", "http://user:hunter2@127.0.0.1:9"),
    ] {
        for more in [&[][..], &["--explain", "upstream.endpoint"]] {
            let (_, output, errors) = outcome(program().env(variable, value).arg("config").args(more)).await;
            assert!(!errors.contains("hunter2"), "{errors}");
            assert!(!output.contains("hunter2"), "{variable}, {more:?}: {output}");
        }
    }
}

#[tokio::test]
async fn a_suggestion_repeats_nothing_that_may_be_a_secret() {
    // A colon in place of the equals sign, and a key that is padded.
    for slip in ["apps.mine.key:hunter2hunter2.abc==", "apps.mine.key hunter2hunter2.abc=="] {
        let (code, _, errors) = outcome(program().args(["config", "--set", slip])).await;
        assert_eq!(code, 2);
        assert!(!errors.contains("hunter2"), "{errors}");
    }
}

#[tokio::test]
async fn an_apps_name_from_outside_leaves_toml_and_terminal_whole() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[apps.\"a\\nb\\u001b[31m\"]\nmodels = [\"x\"]\n").unwrap();
    let (code, output, errors) =
        outcome(program().args(["config", "--endpoint", "https://name.openai.azure.com", "--config"]).arg(file.path()))
            .await;
    assert_eq!(code, 2);
    assert!(!errors.trim_end().contains(char::is_control), "{errors:?}");
    assert!(!output.lines().any(|line| line.starts_with('b')), "a name on two lines is no TOML: {output}");
}
