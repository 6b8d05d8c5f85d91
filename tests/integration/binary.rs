//! The program itself: its exit codes, its words, its environment.

use std::process::Stdio;

use aoai_auth_proxy::emulator::{Route, world};

use crate::program::{Running, emulator, executable, outcome, program, serve};
use crate::support::within;

#[tokio::test]
async fn it_says_who_it_is() {
    let (code, output, _) = outcome(program().arg("--version")).await;
    assert_eq!((code, output.as_str()), (0, concat!("aoai-auth-proxy ", env!("CARGO_PKG_VERSION"), "\n")));
    let (code, output, _) = outcome(program().arg("--help")).await;
    assert_eq!(code, 0);
    for word in ["serve", "demo", "emulator", "--endpoint", "--set"] {
        assert!(output.contains(word), "{word}");
    }
    let (code, ..) = outcome(program().arg("--no-such-option")).await;
    assert_eq!(code, 2);
}

/// Variables, arguments, and words that the message must have.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], &'a [&'a str]);

#[tokio::test]
async fn what_is_wrong_with_a_configuration_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[upstream]\nendpont = \"https://x\"\n").unwrap();
    let broken = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(broken.path(), "[upstream\n").unwrap();
    let (path, broken) = (file.path().to_str().unwrap(), broken.path().to_str().unwrap());
    let endpoint = ("AZURE_OPENAI_ENDPOINT", "https://name.openai.azure.com");
    let cases: &[Case] = &[
        (&[], &[], &["upstream.endpoint", "AZURE_OPENAI_ENDPOINT"]),
        (
            &[("AZURE_OPENAI_ENDPOINT", "http://name.openai.azure.com")],
            &[],
            &["upstream.endpoint", "AZURE_OPENAI_ENDPOINT", "http://name", "https://"],
        ),
        (
            &[("AZURE_OPENAI_ENDPOINT", "name.openai.azure.com")],
            &[],
            &["upstream.endpoint", "AZURE_OPENAI_ENDPOINT", "name.openai"],
        ),
        (&[], &["--endpoint", "ftp://x"], &["upstream.endpoint", "--endpoint", "ftp://x"]),
        (&[endpoint], &["--config", path], &["upstream.endpont", path, "https://x", "endpoint"]),
        (&[endpoint, ("AOAI_PROXY_CONFIG", "/nonexistent.toml")], &[], &["/nonexistent.toml", "AOAI_PROXY_CONFIG"]),
        (&[endpoint], &["--config", broken], &[broken, "TOML"]),
        (
            &[endpoint, ("AOAI_PROXY__UPSTREAM__NO_SUCH", "1")],
            &[],
            &["upstream.no_such", "AOAI_PROXY__UPSTREAM__NO_SUCH"],
        ),
        (
            &[endpoint, ("AOAI_PROXY__LIMITS__MAX_CONNECTIONS", "many")],
            &[],
            &["limits.max_connections", "many", "AOAI_PROXY__LIMITS__MAX_CONNECTIONS"],
        ),
        (&[endpoint], &["--set", "limits.max_connections=0"], &["limits.max_connections", "0", "--set", "at least 1"]),
        (&[endpoint], &["--set", "limits.max_connections=-1"], &["limits.max_connections", "-1"]),
        (&[endpoint], &["--set", "upstream.idle_timeout=5"], &["upstream.idle_timeout", "5", "10s"]),
        (&[endpoint], &["--set", "upstream.idle_timeout=0s"], &["upstream.idle_timeout", "0s"]),
        (&[endpoint], &["--set", "upstream.idle_timeout=1y"], &["upstream.idle_timeout", "1y"]),
        (&[endpoint], &["--set", "nonsense"], &["--set nonsense", "section.key=value"]),
        (&[endpoint], &["--set", "nonsense=1"], &["nonsense", "--set"]),
        (&[endpoint], &["--set", "a..b=1"], &["a..b"]),
        (&[endpoint], &["--listen", "0.0.0.0:1"], &["listen.address", "0.0.0.0:1", "--listen", "loopback"]),
        (&[endpoint], &["--listen", "nowhere"], &["listen.address", "nowhere"]),
        (&[endpoint], &["--credential", "magic"], &["credential.kind", "magic", "--credential", "managed-identity"]),
        (&[endpoint], &["--credential", "client-secret"], &["credential.tenant_id", "AZURE_TENANT_ID"]),
        (
            &[endpoint],
            &["--client-id", "a", "--set", "credential.object_id=b"],
            &["credential.object_id", "credential.client_id"],
        ),
        (&[endpoint], &["--log-level", "loud"], &["telemetry.log_level", "loud", "debug"]),
        (&[endpoint], &["--log-format", "xml"], &["telemetry.log_format", "xml", "json"]),
        (&[endpoint], &["--set", "azure.cloud=moon"], &["azure.cloud", "moon", "usgovernment"]),
        (&[endpoint], &["--set", "upstream.scope=everything"], &["upstream.scope", "everything", "/.default"]),
        (&[endpoint], &["--set", "upstream.ca_file=/nonexistent.pem"], &["upstream.ca_file", "/nonexistent.pem"]),
        (&[endpoint], &["--set", "management.location=a/b"], &["management.location", "a/b"]),
    ];
    for (variables, arguments, expected) in cases {
        let (code, output, errors) = outcome(program().envs(variables.iter().copied()).args(*arguments)).await;
        assert_eq!((code, output.as_str()), (2, ""), "{arguments:?} {variables:?}: {errors}");
        for word in *expected {
            assert!(errors.contains(word), "{arguments:?} {variables:?}: {word} is not in: {errors}");
        }
        assert_eq!(errors.lines().count(), errors.lines().filter(|line| !line.contains("panicked")).count());
    }
}

#[tokio::test]
async fn a_secret_is_not_shown_even_where_it_is_wrong() {
    let mut command = program();
    command.env("AZURE_OPENAI_ENDPOINT", "https://x").args(["--set", "credential.client_secret.x=hidden-value"]);
    let (code, _, errors) = outcome(&mut command).await;
    assert_eq!(code, 2);
    assert!(errors.contains("credential.client_secret") && !errors.contains("hidden-value"), "{errors}");
}

#[tokio::test]
async fn it_serves_from_a_file_and_stops_in_order() {
    let azure = emulator().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let toml = format!(
        "[listen]\naddress = \"127.0.0.1:0\"\n[upstream]\nendpoint = \"{}\"\nca_file = \"{}\"\n[credential]\nkind = \"managed-identity\"\nimds_endpoint = \"{}\"\n",
        azure.openai(),
        azure.ca_file().display(),
        azure.imds()
    );
    std::fs::write(file.path(), toml).unwrap();
    let running = Running::start(
        program().arg("serve").arg("--config").arg(file.path()).env("AZURE_POD_IDENTITY_AUTHORITY_HOST", azure.imds()),
    )
    .await;
    assert_eq!(running.get("/v1/models").await.status(), 200);
    assert_eq!(running.get("/readyz").await.status(), 200);
    let (code, log) = running.stop().await;
    assert_eq!(code, 0, "{log}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_said_to_be() {
    let azure = emulator().await;
    let first = Running::start(&mut serve(&azure)).await;
    let address = first.url.trim_start_matches("http://").to_owned();
    let (code, output, errors) = outcome(serve(&azure).args(["--set", &format!("listen.address={address}")])).await;
    assert_eq!((code, output.as_str()), (1, ""));
    assert!(errors.contains(&address) && errors.contains("--listen"), "{errors}");
}

#[tokio::test]
async fn nothing_secret_is_logged_even_at_trace() {
    let azure = emulator().await;
    let mut command = serve(&azure);
    command.args([
        "--log-level",
        "trace,hyper=trace,h2=trace,rustls=trace,reqwest=trace",
        "--set",
        "credential.kind=client-secret",
    ]);
    command
        .args(["--tenant-id", world::TENANT_ID, "--client-id", world::SERVICE_PRINCIPAL.client_id])
        .env("AZURE_CLIENT_SECRET", world::CLIENT_SECRET);
    let running = Running::start(&mut command).await;
    assert_eq!(running.get("/v1/models?api-key=my-own-key").await.status(), 200);
    assert_eq!(running.get("/management/models").await.status(), 200);
    let (_, log) = running.stop().await;
    assert!(log.contains("token acquired"), "{log}");
    assert!(log.contains(world::SERVICE_PRINCIPAL.object_id), "who we are is said: {log}");
    assert!(!log.contains(world::CLIENT_SECRET), "the client secret");
    assert!(!log.contains("eyJ"), "a token");
    assert!(!log.contains("my-own-key"), "the caller's own key");
}

#[tokio::test]
async fn app_service_is_asked_where_it_says_it_is() {
    let azure = emulator().await;
    let mut command = serve(&azure);
    command.env("IDENTITY_ENDPOINT", azure.app_service()).env("IDENTITY_HEADER", azure.app_service_header());
    let running = Running::start(&mut command).await;
    let response = running.get("/v1/models").await;
    assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
    assert_eq!((azure.control().count(Route::AppService), azure.control().count(Route::Imds)), (1, 0));
}

#[tokio::test]
async fn a_metadata_service_is_asked_directly_whatever_forward_proxy_there_is() {
    let azure = emulator().await;
    let mut command = serve(&azure);
    // This machine under a name that no rule exempts: only the metadata client's own rule keeps the proxy out.
    let imds = azure.imds().replace("127.0.0.1", "0.0.0.0");
    command.args(["--set", &format!("credential.imds_endpoint={imds}")]);
    command
        .env("HTTP_PROXY", "http://127.0.0.1:9")
        .env("http_proxy", "http://127.0.0.1:9")
        .env("ALL_PROXY", "http://127.0.0.1:9");
    let running = Running::start(&mut command).await;
    let response = running.get("/v1/models").await;
    assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
}

#[tokio::test]
async fn az_and_azd_are_run_once_for_many_requests() {
    let azure = emulator().await;
    let token = azure.access_token(&world::SYSTEM_ASSIGNED, "https://cognitiveservices.azure.com");
    let tools = tempfile::tempdir().unwrap();
    let runs = tools.path().join("runs");
    let count = format!("echo \"$0 $*\" >> {}\n", runs.display());
    let epoch = 4_102_444_800_u64;
    executable(
        &tools.path().join("az"),
        &format!(
            "#!/bin/sh\n{count}cat <<'END'\n{{\"accessToken\":\"{token}\",\"expires_on\":{epoch},\"expiresOn\":\"2100-01-01 00:00:00.000000\",\"subscription\":\"s\",\"tenant\":\"t\",\"tokenType\":\"Bearer\"}}\nEND\n"
        ),
    );
    executable(
        &tools.path().join("azd"),
        &format!(
            "#!/bin/sh\n{count}cat <<'END'\n{{\"token\":\"{token}\",\"expiresOn\":\"2100-01-01T00:00:00Z\"}}\nEND\n"
        ),
    );
    let path = format!("{}:/usr/bin:/bin", tools.path().display());
    for kind in ["azure-cli", "azure-developer-cli"] {
        std::fs::write(&runs, "").unwrap();
        let running =
            Running::start(serve(&azure).env("PATH", &path).args(["--set", &format!("credential.kind={kind}")])).await;
        for _ in 0..5 {
            let response = running.get("/v1/models").await;
            assert_eq!(response.status(), 200, "{kind}: {}", response.text().await.unwrap());
        }
        let ran = std::fs::read_to_string(&runs).unwrap();
        assert_eq!(ran.lines().count(), 1, "{kind}: {ran}");
        assert!(ran.contains("https://cognitiveservices.azure.com/.default"), "{kind}: {ran}");
    }
}

#[tokio::test]
async fn az_that_is_not_signed_in_says_what_to_type() {
    let azure = emulator().await;
    let tools = tempfile::tempdir().unwrap();
    executable(
        &tools.path().join("az"),
        "#!/bin/sh\necho \"ERROR: Please run 'az login' to setup account.\" >&2\nexit 1\n",
    );
    let path = format!("{}:/usr/bin:/bin", tools.path().display());
    let running = Running::start(serve(&azure).env("PATH", path).args(["--set", "credential.kind=azure-cli"])).await;
    let response = running.get("/v1/models").await;
    assert_eq!(response.status(), 503);
    assert!(response.text().await.unwrap().contains("Please run 'az login'"));
}

#[tokio::test]
async fn the_demo_needs_nothing_and_says_what_to_try() {
    let mut running = Running::start(program().args(["demo", "--listen", "127.0.0.1:0"])).await;
    let mut words = String::new();
    while let Some(line) = within(running.output.next_line()).await.unwrap() {
        words.push_str(&line);
        words.push('\n');
        if line.contains("Ctrl-C") {
            break;
        }
    }
    for word in ["curl", "OPENAI_BASE_URL", "OPENAI_API_KEY", "The page", running.url.as_str()] {
        assert!(words.contains(word), "{word} is not in: {words}");
    }
    assert_eq!(running.get("/v1/models").await.status(), 200);
    assert_eq!(running.get("/management/models").await.status(), 200);
    let (code, log) = running.stop().await;
    assert_eq!(code, 0, "{log}");

    let (code, _, errors) = outcome(program().args(["demo", "--endpoint", "https://x"])).await;
    assert_eq!(code, 2);
    assert!(errors.contains("--endpoint"), "{errors}");
}

#[tokio::test]
async fn shells_are_told_what_there_is_to_complete() {
    for (shell, expected) in [
        ("bash", "complete -F _aoai__auth__proxy"),
        ("zsh", "#compdef aoai-auth-proxy"),
        ("fish", "complete -c aoai-auth-proxy"),
    ] {
        let (code, output, errors) = outcome(program().args(["completions", shell])).await;
        assert_eq!((code, &*errors), (0, ""), "{shell}");
        assert!(output.contains("health") && output.contains(expected), "{shell}: {output}");
    }
    let (code, _, errors) = outcome(program().args(["completions", "tcsh"])).await;
    assert_eq!(code, 2);
    assert!(errors.contains("tcsh") && errors.contains("zsh"), "{errors}");
}

/// A script may be well-formed and complete nothing.
#[tokio::test]
async fn bash_completes_behind_a_subcommand() {
    let completed = async |words: &[&str]| {
        let words = [&["aoai-auth-proxy"], words].concat();
        let asked = format!(
            "source <({} completions bash); COMP_WORDS=({}); COMP_CWORD={}; _aoai__auth__proxy aoai-auth-proxy '{}' x; \
             echo \"${{COMPREPLY[@]}}\"",
            env!("CARGO_BIN_EXE_aoai-auth-proxy"),
            words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
            words.len() - 1,
            words.last().unwrap(),
        );
        outcome(tokio::process::Command::new("bash").args(["--norc", "-c", &asked]).stdin(Stdio::null())).await.1
    };
    assert_eq!(completed(&["che"]).await.trim(), "check");
    let options = completed(&["check", "--"]).await;
    assert!(options.contains("--deployment") && options.contains("--endpoint"), "{options}");
    assert!(completed(&["models", "--dep"]).await.contains("--deployed"));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_could_not_be_written_is_no_success() {
    let endpoint = ["--endpoint", "https://name.openai.azure.com"];
    for subcommand in [&["config"][..], &["config", "--explain", "azure.cloud"], &["man"], &["completions", "bash"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = program();
        let output = within(command.args(endpoint).args(subcommand).stdout(full).spawn().unwrap().wait_with_output());
        let output = output.await.unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{subcommand:?}: {errors}");
        assert!(errors.contains("standard output"), "{errors}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_variable_that_is_no_text_is_not_passed_over() {
    use std::os::unix::ffi::OsStrExt;
    let bytes = std::ffi::OsStr::from_bytes(b"\xff");
    for variable in ["AOAI_PROXY__ACCESS__REQUIRE_KEY", "AOAI_PROXY_CONFIG", "AZURE_CLIENT_ID"] {
        let (code, _, errors) = outcome(program().env(variable, bytes).arg("config")).await;
        assert_eq!(code, 2);
        assert!(errors.contains(variable) && errors.contains("UTF-8"), "{errors}");
    }
    assert!(outcome(program().env("OTHER", bytes).arg("config")).await.2.contains("upstream.endpoint"));
}
