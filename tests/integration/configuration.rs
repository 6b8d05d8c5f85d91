//! What was configured is what is meant: whatever else it could be is refused, by name, with secrets left out.

use std::net::SocketAddr;
use std::process::Stdio;

use aoai_auth_proxy::config::{
    Admin, App, Config, CredentialSource, Environment, HostName, IdentityName, KeyDigest, ManagedIdentity, Overrides,
    PeerUsers,
};
use aoai_auth_proxy::tls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::support::{client, within};

const ENDPOINT: (&str, &str) = ("AZURE_OPENAI_ENDPOINT", "https://name.openai.azure.com");

/// The configuration that `variables` and `--set` make, without any file of this machine.
fn load(variables: &[(&str, &str)], assignments: &[&str]) -> Result<Config, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let environment: Environment = [ENDPOINT].iter().chain(variables).copied().collect();
    let overrides = Overrides {
        file: Some(file.path().to_owned()),
        assignments: assignments.iter().map(|text| (*text).to_owned()).collect(),
        ..Overrides::default()
    };
    Config::load(&environment, &overrides).map_err(|error| error.to_string())
}

/// What the program says about a configuration that it does not start with.
async fn refusal(variables: &[(&str, &str)], arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aoai-auth-proxy"));
    command.env_clear().env("HOME", "/nonexistent").env("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9");
    command.envs([ENDPOINT]).envs(variables.iter().copied()).args(arguments);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = within(command.output()).await.unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{variables:?} {arguments:?}: {errors}");
    errors
}

/// Variables, arguments, and words that the message must have. None may have `hunter2`.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], &'a [&'a str]);

async fn each_is_refused(cases: &[Case<'_>]) {
    for (variables, arguments, expected) in cases {
        let errors = refusal(variables, arguments).await;
        for word in *expected {
            assert!(errors.contains(word), "{variables:?} {arguments:?}: {word} is not in: {errors}");
        }
        assert!(!errors.contains("hunter2"), "{variables:?} {arguments:?}: {errors}");
    }
}

#[tokio::test]
async fn a_secret_stays_one_wherever_it_was_put() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let quote = file("quote.toml", "[credential]\nclient_secret = \"hunter2\nkind = \"auto\"\n");
    let section = file("section.toml", "[crednetial]\nclient_secret = \"hunter2\"\n");
    let scalar = file("scalar.toml", "credential = \"hunter2\"\n");
    each_is_refused(&[
        (&[], &["--config", &quote], &[&quote, "not valid TOML", "line 2, column "]),
        (&[], &["--config", &section], &["`crednetial`", &section]),
        (&[], &["--config", &scalar], &["`credential` = (secret)", &scalar, "section"]),
        (
            &[],
            &["--set", "credential.client_secret:hunter2"],
            &["--set credential.client_secret…: ", "section.key=value"],
        ),
        (&[], &["--set", "credential.client_secret:hunter2=="], &["`credential.client_secret…` = (secret)", "--set"]),
        (
            &[],
            &["--set", "credential.client-secret=hunter2"],
            &["credential.client-secret", "(secret)", "client_secret"],
        ),
        (&[], &["--set", "apps.mine.ky=hunter2"], &["`apps.mine.ky` = (secret)", "`key_file`, "]),
        (&[], &["--set", "apps.mine.key=hunter2 two"], &["`apps.mine.key` = (secret)", "without spaces"]),
        (&[], &["--set", "apps.mine.key=sha256:hunter2"], &["`apps.mine.key` = (secret)", "64 hexadecimal digits"]),
        (&[], &["--set", "apps=hunter2"], &["`apps` = (secret)"]),
        (&[], &["--set", "apps.mine=hunter2"], &["`apps.mine` = (secret)"]),
        (&[], &["--set", "upstream.api_key=hunter2"], &["`upstream.api_key` = (secret)"]),
        (&[("AOAI_PROXY__CREDENTIAL__SECRET", "hunter2")], &[], &["`credential.secret` = (secret)"]),
        (&[("AOAI_PROXY__CREDENTIAL", "hunter2")], &[], &["`credential` = (secret)"]),
        (&[("HTTPS_PROXY", "https://me:hunter2@proxy:8443")], &[], &["`HTTPS_PROXY` = https://proxy:8443 "]),
        (
            &[],
            &["--set", "upstream.endpont=x"],
            &["`upstream.endpont` = \"x\" (from command line --set)", "`endpoint`"],
        ),
        (&[], &["--set", "upstream.m=x"], &["`upstream.m` = \"x\" (from command line --set)"]),
    ])
    .await;
}

#[tokio::test]
async fn a_key_is_a_name_and_never_a_program() {
    each_is_refused(&[
        (&[], &["--set", "a[99999999999999]=1"], &["unknown key `a…`", "--set"]),
        (&[], &["--set", "upstream[0]=1"], &["unknown key `upstream…`"]),
        (&[], &["--set", "a..b=1"], &["unknown key `a..b`"]),
        (&[], &["--set", "=1"], &["unknown key ``"]),
        (&[], &["--set", "Upstream.endpoint=https://x"], &["unknown key `Upstream.endpoint`"]),
        (&[("AOAI_PROXY__A[99999999999999]", "1")], &[], &["unknown key `a…`", "AOAI_PROXY__A[99999999999999]"]),
        (&[("AOAI_PROXY__", "1")], &[], &["unknown key ``", "environment variable AOAI_PROXY__"]),
    ])
    .await;
}

#[tokio::test]
async fn a_value_is_what_it_says_or_an_error() {
    each_is_refused(&[
        (&[], &["--endpoint", "https://$NAME.openai.azure.com"], &["upstream.endpoint", "https://$NAME", "--endpoint"]),
        (
            &[("AZURE_OPENAI_ENDPOINT", "https://name..openai.azure.com")],
            &[],
            &["upstream.endpoint", "https://name..openai", "AZURE_OPENAI_ENDPOINT"],
        ),
        (&[], &["--set", "limits.max_connections=yes"], &["limits.max_connections", "yes", "whole number"]),
        (&[], &["--set", "limits.max_connections=true"], &["limits.max_connections", "true", "whole number"]),
        (&[], &["--set", "limits.max_connections=10.7"], &["limits.max_connections", "10.7", "whole number"]),
        (&[], &["--set", "limits.max_connections=18446744073709551615"], &["limits.max_connections", "at most"]),
        (&[], &["--set", "limits.max_in_flight=0"], &["limits.max_in_flight", "at least 1"]),
        (&[], &["--set", "limits.max_body=much"], &["limits.max_body", "much", "512MiB"]),
        (&[], &["--set", "limits.max_body=-5"], &["limits.max_body", "-5", "512MiB"]),
        (&[], &["--set", "limits.max_body=0"], &["limits.max_body", "at least 1 byte"]),
        (&[], &["--set", "limits.max_body=99999999EB"], &["limits.max_body", "at most 1TiB"]),
        (&[], &["--tenant-id", ""], &["credential.tenant_id", "\"\"", "--tenant-id"]),
        (&[], &["--tenant-id", "a/../b"], &["credential.tenant_id", "a/../b", "letters"]),
        (&[], &["--client-id", "a&b"], &["credential.client_id", "a&b", "letters"]),
        (&[], &["--set", "credential.object_id=a b"], &["credential.object_id", "a b", "letters"]),
        (&[], &["--set", "credential.resource_id=name"], &["credential.resource_id", "name", "/subscriptions/"]),
        (&[], &["--set", "credential.client_secret="], &["credential.client_secret", "must not be empty"]),
        (
            &[("AZURE_AUTHORITY_HOST", "http://127.0.0.1:1")],
            &[],
            &["credential.authority_host", "http://127.0.0.1:1", "AZURE_AUTHORITY_HOST", "https://"],
        ),
        (&[], &["--set", "credential.authority_host=https://h/tenant"], &["credential.authority_host", "path"]),
    ])
    .await;
}

#[tokio::test]
async fn what_would_lend_the_identity_to_everybody_is_refused() {
    let remote = [
        "`listen.address` = \"0.0.0.0:8642\" (from command line --listen)",
        "listen.allow_remote",
        "access.require_key",
        "listen.unix_socket",
        "sidecar",
        "network policy",
    ];
    let everywhere = ["--listen", "0.0.0.0:8642"];
    let allowed = ["--set", "listen.allow_remote=true"];
    let keys = ["--set", "access.require_key=true"];
    let app = ["--set", "apps.a.key=hunter2"];
    each_is_refused(&[
        (&[], &everywhere, &remote),
        (&[], &[everywhere, allowed].concat(), &remote),
        (&[], &[everywhere, keys, app].concat(), &remote),
        (&[], &["--listen", "[::]:8642"], &["listen.address", "sidecar"]),
        (&[], &["--listen", "192.0.2.1:8642"], &["listen.address", "sidecar"]),
        (&[], &["--listen", "[::ffff:127.0.0.1]:8642"], &["listen.address", "sidecar"]),
        (
            &[],
            &[everywhere, allowed, keys].concat(),
            &["`access.require_key` = \"true\"", "nobody could call", "[apps."],
        ),
        (
            &[],
            &[everywhere, allowed, keys, app, ["--set", "access.peer_users=same"]].concat(),
            &["access.peer_users", "other machines"],
        ),
        (&[], &["--listen", ""], &["listen.address", "listen.unix_socket"]),
        (&[], &["--listen", "localhost"], &["listen.address", "127.0.0.1:8642"]),
        (
            &[("AOAI_PROXY__LISTEN__ADDRESS", "")],
            &[],
            &["`listen.address` = \"\" (from environment variable AOAI_PROXY__LISTEN__ADDRESS)", "listen.unix_socket"],
        ),
        (&[], &["--set", "listen.allow_remote=maybe"], &["listen.allow_remote", "true or false"]),
    ])
    .await;
}

#[tokio::test]
async fn the_listener_for_probes_has_a_place_of_its_own() {
    each_is_refused(&[
        (
            &[],
            &["--set", "admin.address=0.0.0.0:8642"],
            &["`admin.address` = \"0.0.0.0:8642\" (from command line --set)", "port of listen.address"],
        ),
        (&[], &["--set", "admin.address=localhost"], &["admin.address", "an address and a port"]),
        (
            &[("AOAI_PROXY__ADMIN__QUITQUITQUIT", "true")],
            &[],
            &["`admin.quitquitquit` = \"true\"", "set admin.address", "127.0.0.1:8643"],
        ),
        (&[], &["--set", "admin.quitquitquit=yes"], &["admin.quitquitquit", "true or false"]),
    ])
    .await;
    let admin = |variables: &[_], settings: &[_]| load(variables, settings).unwrap().admin;
    assert_eq!(admin(&[], &[]), None);
    assert_eq!(admin(&[("AOAI_PROXY__ADMIN__ADDRESS", "")], &[]), None);
    let address = "0.0.0.0:8643".parse().unwrap();
    assert_eq!(admin(&[], &["admin.address=0.0.0.0:8643"]), Some(Admin { address, quits: false }));
    let quits = [("AOAI_PROXY__ADMIN__QUITQUITQUIT", "true")];
    assert_eq!(admin(&quits, &["admin.address=0.0.0.0:8643"]), Some(Admin { address, quits: true }));
    // Any free port is another one.
    assert!(admin(&[], &["listen.address=127.0.0.1:0", "admin.address=127.0.0.1:0"]).is_some());
}

/// Of the keys that can be nothing at all, an empty variable says that, like an empty text in a file; of others it says nothing.
#[test]
fn an_empty_variable_says_none_where_there_can_be_none() {
    let variables = [
        ("AOAI_PROXY__LISTEN__ADDRESS", ""),
        ("AOAI_PROXY__LISTEN__UNIX_SOCKET", "/run/proxy.sock"),
        ("AOAI_PROXY__TELEMETRY__OTLP_ENDPOINT", ""),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318"),
        ("AOAI_PROXY__UPSTREAM__SCOPE", ""),
        ("AOAI_PROXY__LIMITS__MAX_BODY", ""),
    ];
    let config = load(&variables, &[]).unwrap();
    assert_eq!((config.listen.tcp, config.telemetry.otlp.is_none()), (None, true));
    assert_eq!(config.limits.max_body, 512 << 20);
    let stronger = load(&variables, &["listen.address=127.0.0.1:1"]).unwrap();
    assert_eq!(stronger.listen.tcp, "127.0.0.1:1".parse().ok());
}

#[tokio::test]
async fn who_may_call_is_said_exactly_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let alike = directory.path().join("alike.toml");
    std::fs::write(&alike, "[apps.App]\nmodels = [\"m\"]\n[apps.app]\nkey = \"hunter2\"\n").unwrap();
    let alike = alike.to_str().unwrap().to_owned();
    each_is_refused(&[
        (
            &[],
            &["--set", "access.allowed_hosts=localhost:8642"],
            &["access.allowed_hosts", "localhost:8642", "no port"],
        ),
        (&[], &["--set", "access.allowed_hosts=*"], &["access.allowed_hosts", "wildcard"]),
        (&[], &["--set", "access.allowed_hosts="], &["access.allowed_hosts", "no request would be answered"]),
        (&[], &["--set", "access.allowed_origins=null"], &["access.allowed_origins", "any page"]),
        (&[], &["--set", "access.allowed_origins=*"], &["access.allowed_origins", "name each origin"]),
        (&[], &["--set", "access.allowed_origins=app.example"], &["access.allowed_origins", "https://app.example"]),
        (&[], &["--set", "access.peer_users=no such user"], &["access.peer_users", "no such user", "a number"]),
        (&[], &["--set", "access.peer_users=same,0"], &["access.peer_users", "stands alone"]),
        (&[], &["--set", "access.peer_users="], &["access.peer_users", "nobody could connect"]),
        (&[], &["--set", "apps.a b.key=hunter2"], &["unknown key", "section.key"]),
        (&[], &["--set", "apps.-.key=hunter2"], &["`apps.-`", "an app's name"]),
        (
            &[],
            &["--set", "apps.a.key_file=/nonexistent/key"],
            &["`apps.a.key_file` = \"/nonexistent/key\"", "cannot be read"],
        ),
        (&[], &["--set", "apps.a.key=hunter2", "--set", "apps.a.key_file=/x"], &["apps.a.key_file", "one of both"]),
        (
            &[],
            &["--set", "apps.a.key=hunter2", "--set", "apps.b.key=hunter2"],
            &["`apps.b` = (secret)", "apps.a", "of its own"],
        ),
        (&[], &["--set", "apps.a.key=b", "--set", "apps.b.models=m"], &["`apps.b` = (secret)", "apps.a", "of its own"]),
        (&[], &["--config", &alike], &["`apps.app`", "apps.App", "environment variable"]),
        (&[], &["--set", "apps.a.models="], &["apps.a.models", "leave it out"]),
        (&[], &["--set", "apps.a.requests_per_minute=0"], &["apps.a.requests_per_minute", "at least 1"]),
        (&[], &["--set", "apps.a.tokens_per_minute=many"], &["apps.a.tokens_per_minute", "many", "whole number"]),
        (&[], &["--set", "apps.a.models=m", "--set", "access.require_key=true"], &["`apps.a`", "no key"]),
    ])
    .await;
}

#[test]
fn lists_are_written_in_a_file_or_with_commas() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    let key_file = directory.path().join("key");
    std::fs::write(&key_file, "from-the-file\n").unwrap();
    let text = format!(
        r#"
        [upstream]
        endpoint = "https://name.openai.azure.com"
        [access]
        allowed_hosts = ["Proxy.Internal", "::1"]
        allowed_origins = ["https://app.example"]
        peer_users = ["root", 1000]
        [apps."my.app"]
        key_file = "{}"
        models = ["gpt-4o", "o3"]
        requests_per_minute = 60
        [apps.second]
        key = 12345
        "#,
        key_file.display()
    );
    std::fs::write(&file, text).unwrap();
    let overrides = Overrides { file: Some(file), ..Overrides::default() };
    let config = Config::load(&Environment::default(), &overrides).unwrap();
    let hosts: Vec<_> = config.access.hosts.iter().map(HostName::as_str).collect();
    assert_eq!(hosts, ["proxy.internal", "[::1]"]);
    assert_eq!(config.access.peer_users, PeerUsers::Only(vec![0, 1000]));
    let [first, second] = &config.apps[..] else { panic!("two apps") };
    assert_eq!((first.name.as_str(), second.name.as_str()), ("my.app", "second"));
    let is = |app: &App, key: &[u8]| bool::from(app.key.unwrap().matches(&KeyDigest::of(key)));
    assert!(is(first, b"from-the-file") && is(second, b"12345"));
    assert_eq!(first.models.as_deref(), Some(["gpt-4o".to_owned(), "o3".to_owned()].as_slice()));
    assert_eq!(first.requests_per_minute.map(u32::from), Some(60));

    assert_eq!(load(&[("AOAI_PROXY__LISTEN__UNIX_SOCKET", "")], &["listen.unix_socket="]).unwrap().listen.unix, None);
    let variables = [
        ("AOAI_PROXY__ACCESS__ALLOWED_HOSTS", "localhost, proxy"),
        ("AOAI_PROXY__ACCESS__ALLOWED_ORIGINS", r#"["https://a.example", "https://b.example"]"#),
        ("AOAI_PROXY__ACCESS__PEER_USERS", "same"),
        ("AOAI_PROXY__APPS__MY_APP__MODELS", "gpt-4o,o3"),
    ];
    let config = load(&variables, &[]).unwrap();
    assert_eq!((config.access.hosts.len(), config.access.origins.len()), (2, 2));
    assert_eq!(config.access.peer_users, PeerUsers::Same);
    assert_eq!(config.apps[0].name.as_str(), "my_app");
    assert_eq!(config.apps[0].models.as_ref().unwrap().len(), 2);
}

#[tokio::test]
async fn a_proxy_that_cannot_be_used_is_named() {
    for (variable, value) in
        [("HTTPS_PROXY", "https://proxy:8443"), ("http_proxy", "socks5://proxy:1080"), ("ALL_PROXY", "http://pro xy")]
    {
        let errors = refusal(&[(variable, value)], &[]).await;
        for word in [variable, value, "http://HOST:PORT", "NO_PROXY"] {
            assert!(errors.contains(word), "{word} is not in: {errors}");
        }
    }
}

#[tokio::test]
async fn a_credential_that_was_begun_must_be_complete() {
    let secret = ("AZURE_CLIENT_SECRET", "hunter2");
    let token = ("AZURE_FEDERATED_TOKEN_FILE", "/token");
    let app_service = [("IDENTITY_ENDPOINT", "http://127.0.0.1:9"), ("IDENTITY_HEADER", "h")];
    let resource = "credential.resource_id=/subscriptions/s/resourceGroups/g/providers/p/userAssignedIdentities/i";
    each_is_refused(&[
        (&[secret], &[], &["`credential.tenant_id` is not set", "AZURE_TENANT_ID"]),
        (&[secret, ("AZURE_TENANT_ID", "t")], &[], &["`credential.client_id` is not set", "AZURE_CLIENT_ID"]),
        (&[secret, ("AZURE_CLIENT_ID", "c")], &[], &["`credential.tenant_id` is not set"]),
        (&[token], &[], &["`credential.tenant_id` is not set"]),
        (&[token, ("AZURE_TENANT_ID", "t")], &[], &["`credential.client_id` is not set"]),
        (&app_service, &["--set", resource], &["credential.resource_id", "App Service"]),
        (&app_service, &["--set", resource, "--credential", "managed-identity"], &["credential.resource_id"]),
    ])
    .await;
}

#[test]
fn auto_tries_what_is_there() {
    let kinds = |variables: &[(&str, &str)]| {
        let CredentialSource::Auto(links) = load(variables, &[]).unwrap().credential.source else { panic!("auto") };
        links.iter().map(aoai_auth_proxy::identity::credential::name).collect::<Vec<_>>()
    };
    let found = ["managed-identity", "azure-cli", "azure-developer-cli"];
    assert_eq!(kinds(&[]), found);
    assert_eq!(kinds(&[("AZURE_CLIENT_SECRET", ""), ("AOAI_PROXY__CREDENTIAL__CLIENT_SECRET", "")]), found);
    let application = [("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c")];
    assert_eq!(kinds(&application), found);
    let everything =
        [application[0], application[1], ("AZURE_CLIENT_SECRET", "s"), ("AZURE_FEDERATED_TOKEN_FILE", "/token")];
    assert_eq!(kinds(&everything)[..3], ["client-secret", "workload-identity", "managed-identity"]);
}

/// The names of what a configuration asks for, in order.
fn kinds(variables: &[(&str, &str)]) -> Result<Vec<&'static str>, String> {
    Ok(match load(variables, &[])?.credential.source {
        CredentialSource::Auto(links) => links.iter().map(aoai_auth_proxy::identity::credential::name).collect(),
        source => vec![aoai_auth_proxy::identity::credential::name(&source)],
    })
}

#[test]
fn one_variable_steers_azures_sdks_and_auto() {
    let application = [
        ("AZURE_TENANT_ID", "t"),
        ("AZURE_CLIENT_ID", "c"),
        ("AZURE_CLIENT_SECRET", "s"),
        ("AZURE_FEDERATED_TOKEN_FILE", "/token"),
    ];
    for (value, expected) in [
        ("prod", ["client-secret", "workload-identity", "managed-identity"].as_slice()),
        (" Prod ", &["client-secret", "workload-identity", "managed-identity"]),
        ("dev", &["azure-cli", "azure-developer-cli"]),
        ("EnvironmentCredential", &["client-secret"]),
        ("environmentcredential", &["client-secret"]),
        ("WorkloadIdentityCredential", &["workload-identity"]),
        ("ManagedIdentityCredential", &["managed-identity"]),
        ("AzureCliCredential", &["azure-cli"]),
        ("AzureDeveloperCliCredential", &["azure-developer-cli"]),
    ] {
        let variables = [application.as_slice(), &[("AZURE_TOKEN_CREDENTIALS", value)]].concat();
        assert_eq!(kinds(&variables).unwrap(), expected, "{value}");
    }
    let certificate = [
        application[0],
        application[1],
        ("AZURE_CLIENT_CERTIFICATE_PATH", "/c.pem"),
        ("AZURE_TOKEN_CREDENTIALS", "prod"),
    ];
    assert_eq!(kinds(&certificate).unwrap(), ["client-certificate", "managed-identity"]);
    for value in ["AzurePowerShellCredential", "hunter3", "production"] {
        let error = kinds(&[("AZURE_TOKEN_CREDENTIALS", value)]).unwrap_err();
        assert!(
            error.contains("AZURE_TOKEN_CREDENTIALS") && error.contains(value) && error.contains("prod"),
            "{error}"
        );
    }
    let error = kinds(&[("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential"), application[0], application[1]]);
    assert!(error.unwrap_err().contains("AZURE_CLIENT_SECRET"));
    let chosen = [("AZURE_TOKEN_CREDENTIALS", "nonsense"), ("AOAI_PROXY__CREDENTIAL__KIND", "azure-cli")];
    assert_eq!(kinds(&chosen).unwrap(), ["azure-cli"], "it steers auto and nothing else");
}

#[test]
fn a_place_whose_identity_is_not_supported_is_named() {
    let identity = ("AOAI_PROXY__CREDENTIAL__KIND", "managed-identity");
    let endpoint = ("IDENTITY_ENDPOINT", "http://127.0.0.1:9");
    for (variables, place) in [
        ([endpoint, ("IMDS_ENDPOINT", "http://127.0.0.1:9"), identity].as_slice(), "Azure Arc"),
        (&[endpoint, ("IDENTITY_HEADER", "h"), ("IDENTITY_SERVER_THUMBPRINT", "t"), identity], "Service Fabric"),
        (&[("MSI_ENDPOINT", "http://127.0.0.1:9"), identity], "Cloud Shell"),
        (&[("MSI_ENDPOINT", "http://127.0.0.1:9"), ("MSI_SECRET", "s"), identity], "Azure Machine Learning"),
    ] {
        let error = kinds(variables).unwrap_err();
        assert!(error.contains(place) && error.contains("client-certificate"), "{error}");
        // Under `auto` it is one of several, and passed over.
        assert_eq!(kinds(&variables[..variables.len() - 1]).unwrap()[0], "managed-identity");
    }
}

#[test]
fn a_cloud_sets_its_hosts_together_and_each_can_be_set_alone() {
    for (cloud, authority, scope, management) in [
        (
            "public",
            "https://login.microsoftonline.com/",
            "https://cognitiveservices.azure.com",
            "https://management.azure.com",
        ),
        (
            "usgovernment",
            "https://login.microsoftonline.us/",
            "https://cognitiveservices.azure.us",
            "https://management.usgovcloudapi.net",
        ),
        (
            "china",
            "https://login.chinacloudapi.cn/",
            "https://cognitiveservices.azure.cn",
            "https://management.chinacloudapi.cn",
        ),
    ] {
        let cloud = format!("azure.cloud={cloud}");
        let config = load(&[], &[&cloud]).unwrap();
        assert_eq!(config.credential.authority_host.as_str(), authority);
        assert_eq!(config.upstream.scope.as_str(), format!("{scope}/.default"));
        assert_eq!(config.management.scope.as_str(), format!("{management}/.default"));
        assert_eq!(config.management.endpoint.as_str(), format!("{management}/"));

        let other = load(&[("AZURE_AUTHORITY_HOST", "https://login.example")], &[&cloud]).unwrap();
        assert_eq!(other.credential.authority_host.as_str(), "https://login.example/");
        assert_eq!(other.management.endpoint, config.management.endpoint);
        let other = load(&[], &[&cloud, "upstream.scope=https://x/.default"]).unwrap();
        assert_eq!(other.upstream.scope.as_str(), "https://x/.default");
        let other = load(&[], &[&cloud, "management.endpoint=https://arm.example"]).unwrap();
        assert_eq!(other.management.endpoint.as_str(), "https://arm.example/");
    }
}

#[test]
fn an_identity_has_the_name_that_it_was_given() {
    let id = "/subscriptions/s/resourceGroups/g/providers/p/userAssignedIdentities/i";
    for (assignment, expected) in [
        ("credential.client_id=a.b-1", IdentityName::ClientId("a.b-1".to_owned())),
        ("credential.object_id=a", IdentityName::ObjectId("a".to_owned())),
        (&format!("credential.resource_id={id}"), IdentityName::ResourceId(id.to_owned())),
    ] {
        let source = load(&[], &["credential.kind=managed-identity", assignment]).unwrap().credential.source;
        let CredentialSource::ManagedIdentity(ManagedIdentity { identity, .. }) = source else { panic!("{source:?}") };
        assert_eq!(identity, expected);
    }
}

/// A client as the proxy makes them, where `variables` name forward proxies.
fn client_behind(variables: &[(&str, &str)]) -> reqwest::Client {
    let builder = reqwest::Client::builder().tls_backend_preconfigured(tls::client(&[]).unwrap());
    load(variables, &[]).unwrap().proxies.apply(builder).unwrap().build().unwrap()
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Takes one request, answers it and tells its head in lower case.
async fn one_request(listener: TcpListener) -> String {
    let (mut stream, _): (TcpStream, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.unwrap();
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn a_forward_proxy_is_told_who_asks() {
    for (destination, line) in [
        ("http://name.invalid/path", "GET http://name.invalid/path HTTP/1.1\r\n"),
        ("https://name.invalid/path", "CONNECT name.invalid:443 HTTP/1.1\r\n"),
    ] {
        let (proxy, address) = listener().await;
        let proxy = tokio::spawn(one_request(proxy));
        let client = client_behind(&[("ALL_PROXY", &format!("http://me:p%40ss@{address}"))]);
        let answer = within(client.get(destination).send()).await;
        // A refused tunnel is no answer to the request in it.
        assert_eq!(answer.is_ok(), destination.starts_with("http://"), "{answer:?}");
        let head = within(proxy).await.unwrap();
        assert!(head.starts_with(line), "{head}");
        assert!(head.to_ascii_lowercase().contains("\r\nproxy-authorization: basic bwu6cebzcw==\r\n"), "{head}");
    }
}

#[tokio::test]
async fn this_machine_and_exempt_hosts_are_reached_directly() {
    let variables = |exempt: &'static str| [("HTTP_PROXY", "http://127.0.0.1:9"), ("NO_PROXY", exempt)];
    for (host, exempt) in [("127.0.0.1", "elsewhere"), ("0.0.0.0", "0.0.0.0"), ("0.0.0.0", "*")] {
        let (server, address) = listener().await;
        let server = tokio::spawn(one_request(server));
        let url = format!("http://{host}:{}/", address.port());
        let answer = within(client_behind(&variables(exempt)).get(url).send()).await.unwrap();
        assert_eq!(answer.status(), 403);
        assert!(within(server).await.unwrap().starts_with("GET / HTTP/1.1"));
    }
    let answer = within(client_behind(&variables("elsewhere")).get("http://0.0.0.0:9/").send()).await;
    assert!(answer.is_err_and(|error| error.is_connect()));
}

#[tokio::test]
async fn without_a_configured_proxy_no_variable_is_read() {
    let (server, address) = listener().await;
    let server = tokio::spawn(one_request(server));
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--ignored", "--exact", "configuration::one_request_in_an_environment_with_a_proxy"]);
    child.env("HTTP_PROXY", "http://127.0.0.1:9").env("http_proxy", "http://127.0.0.1:9");
    child.env(DESTINATION, format!("http://{address}/"));
    let output = within(child.output()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(within(server).await.unwrap().starts_with("GET / "));
}

const DESTINATION: &str = "TEST_DESTINATION";

#[tokio::test]
#[ignore = "the test above runs it, in an environment of its own"]
async fn one_request_in_an_environment_with_a_proxy() {
    let environment = Environment::process();
    let Some(destination) = environment.get(DESTINATION) else { return };
    assert!(client().get("http://0.0.0.0:9/").send().await.is_err());
    assert_eq!(within(client_behind(&[]).get(destination).send()).await.unwrap().status(), 403);
}

#[test]
fn an_endpoint_means_the_same_however_it_is_written() {
    for text in ["https://name.openai.azure.com//openai/v1", "https://NAME.openai.azure.com/openai/v1//"] {
        let endpoint = load(&[], &[&format!("upstream.endpoint={text}")]).unwrap().upstream.endpoint;
        assert_eq!((endpoint.to_string().as_str(), endpoint.prefix()), ("https://name.openai.azure.com", ""));
        assert_eq!(endpoint.server_name().to_str(), "name.openai.azure.com");
    }
}

#[tokio::test]
async fn an_item_of_a_list_is_told_with_its_layer() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[apps.x]\nmodels = [[\"a\"]]\n").unwrap();
    let path = file.path().to_str().unwrap();
    each_is_refused(&[(&[], &["--config", path], &["`apps.x.models[0]` = […]", path])]).await;
}
