//! `check`: what it sees at each step, what it says when one fails, and how programs read it.

use std::net::SocketAddr;

use aoai_auth_proxy::emulator::{Action, Emulator, Fault, Route, world};
use http::header::AUTHORIZATION;
use rustix::process::Signal;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;

use crate::authority::{Authority, acceptor};
use crate::process::Process;
use crate::program::{emulator, executable, outcome, serve};
use crate::support::{last, within};

const NAMES: [&str; 10] =
    ["configuration", "dns", "tcp", "tls", "credential", "token", "data_plane", "call", "role", "management"];

const COGNITIVE: &str = "https://cognitiveservices.azure.com";

/// `check` with the configuration that a proxy would have.
fn check(azure: &Emulator, settings: &[&str]) -> Command {
    let mut command = serve(azure);
    for setting in settings {
        command.args(["--set", setting]);
    }
    command.arg("check");
    command
}

/// What a check has found.
struct Report {
    code: i32,
    json: Value,
    errors: String,
}

impl Report {
    async fn of(command: &mut Command) -> Self {
        let (code, output, errors) = outcome(command.arg("--json")).await;
        let json: Value = serde_json::from_str(&output).expect(&output);
        assert_eq!(json["ok"], Value::Bool(code == 0), "{json:#}");
        Self { code, json, errors }
    }

    fn step(&self, name: &str) -> &Value {
        self.json["steps"].as_array().unwrap().iter().find(|step| step["name"] == name).expect(name)
    }

    /// The statuses of all steps, by their first letters.
    fn statuses(&self) -> String {
        let steps = self.json["steps"].as_array().unwrap().iter();
        steps.map(|step| step["status"].as_str().unwrap().chars().next().unwrap()).collect()
    }

    #[track_caller]
    fn says(&self, name: &str, status: &str, message: &str) {
        let step = self.step(name);
        assert_eq!(step["status"], status, "{step:#}");
        assert!(step["message"].as_str().unwrap().contains(message), "{step:#}");
    }

    /// The step has failed, and its mend has both of these.
    #[track_caller]
    fn fails(&self, name: &str, message: &str, advice: &str, command: &str) {
        self.says(name, "failed", message);
        assert_eq!(self.code, 1);
        let mend = &self.step(name)["mend"];
        assert!(mend["advice"].as_str().unwrap().contains(advice), "{mend:#}");
        let has = |text: &Value| text.as_str().unwrap().contains(command);
        assert!(command.is_empty() || mend["commands"].as_array().unwrap().iter().any(has), "{mend:#}");
    }
}

#[tokio::test]
async fn when_all_is_well_it_says_so_without_colours() {
    let azure = emulator().await;
    let (code, output, errors) = outcome(&mut check(&azure, &[])).await;
    assert_eq!((code, errors.as_str()), (0, ""), "{output}");
    let words: Vec<_> = output.lines().map_while(|line| line.split_whitespace().next()).collect();
    assert_eq!(words, ["ok", "ok", "ok", "ok", "ok", "ok", "ok", "skipped", "ok", "ok"], "{output}");
    assert!(output.ends_with("Nothing is wrong: 1 skipped\n"), "{output}");
    assert!(!output.contains('\u{1b}'), "{output}");
    assert!(output.contains(world::SYSTEM_ASSIGNED.object_id) && output.contains(world::ACCOUNT), "{output}");
}

#[tokio::test]
async fn machines_get_every_step_and_no_token() {
    let azure = emulator().await;
    let report = Report::of(check(&azure, &[]).arg("--call")).await;
    let steps = report.json["steps"].as_array().unwrap();
    assert_eq!(steps.iter().map(|step| step["name"].as_str().unwrap()).collect::<Vec<_>>(), NAMES);
    for step in steps {
        let members: Vec<_> = step.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["detail", "duration_ms", "mend", "message", "name", "status"], "{step}");
        assert!(step["duration_ms"].is_u64() && step["detail"].is_object(), "{step}");
    }
    assert_eq!(report.statuses(), "oooooooooo");
    assert_eq!(report.step("call")["detail"]["deployment"], "gpt-4o", "the first that chats");
    assert_eq!(azure.control().count(Route::Chat), 1);
    assert_eq!(report.step("token")["detail"]["tenant_id"], azure.tenant_id());
    assert_eq!(report.step("management")["detail"]["account"]["name"], azure.account());

    let sent = last(&azure, Route::Chat).headers[AUTHORIZATION].clone();
    let token = sent.to_str().unwrap().strip_prefix("Bearer ").unwrap();
    let told = report.json.to_string();
    for part in token.split('.') {
        assert!(!told.contains(part), "{told}");
    }
    assert_eq!(report.errors, "");
}

#[tokio::test]
async fn logs_are_for_those_who_ask() {
    let azure = emulator().await;
    let settings = ["credential.kind=auto", "credential.imds_endpoint=http://127.0.0.1:9", "telemetry.log_level=debug"];
    let (_, output, errors) = outcome(check(&azure, &settings).arg("--json")).await;
    assert!(serde_json::from_str::<Value>(&output).is_ok() && errors.contains("auto: passed over"), "{errors}");
    let (_, _, errors) = outcome(check(&azure, &settings[..2]).arg("--json")).await;
    assert_eq!(errors, "");
}

#[tokio::test]
async fn a_missing_role_comes_with_the_line_that_assigns_it() {
    let azure = emulator().await;
    azure.control().set_role(false);
    let report = Report::of(check(&azure, &[]).arg("--call")).await;
    report.says("data_plane", "warning", "401");
    report.fails("call", "for want of a role (401)", "see role", "");
    let object_id = world::SYSTEM_ASSIGNED.object_id;
    report.fails("role", "lacks", "Owner and Contributor do not count", &format!("--assignee-object-id {object_id} "));
    assert_eq!(report.step("role")["detail"], serde_json::json!({ "list_models": "refused", "call": "refused" }));
    let scope = format!("/providers/Microsoft.CognitiveServices/accounts/{}", azure.account());
    report.fails("role", "", "", &scope);
}

#[tokio::test]
async fn without_a_role_on_the_subscription_all_else_goes_on() {
    let azure = emulator().await;
    azure.control().set_management_role(false);
    let report = Report::of(check(&azure, &[]).arg("--call")).await;
    let scope = format!("--role Reader --scope /subscriptions/{}", azure.subscription_id());
    report.fails("management", "403 AuthorizationFailed", "Reader", &scope);
    report.says("call", "skipped", "no deployment is known");
    assert_eq!(report.statuses(), "ooooooosof");
}

#[tokio::test]
async fn without_a_subscription_it_is_said_how_to_name_one() {
    let azure = emulator().await;
    let mut command = crate::program::program();
    for setting in crate::support::demo_settings(&azure) {
        if !setting.starts_with("management.subscription_id") {
            command.args(["--set", &setting]);
        }
    }
    let report = Report::of(command.args(["check", "--call"])).await;
    report.says("management", "skipped", "no subscription");
    report.says("call", "skipped", "no subscription");
    assert!(report.step("call")["mend"]["commands"][0].as_str().unwrap().contains("--deployment NAME"));
    assert_eq!(report.code, 0);
}

#[tokio::test]
async fn a_token_for_something_else_comes_with_the_right_scope() {
    let azure = emulator().await;
    let report = Report::of(&mut check(&azure, &["upstream.scope=https://management.azure.com/.default"])).await;
    let setting = format!("export AOAI_PROXY__UPSTREAM__SCOPE={COGNITIVE}/.default");
    report.fails("data_plane", "audience is incorrect", "https://management.azure.com", &setting);
    assert_eq!(report.statuses(), "oooooofsso");
}

#[tokio::test]
async fn a_credential_that_fails_takes_with_it_only_what_needs_it() {
    let azure = emulator().await;
    azure.control().fault(Fault::new(Route::Imds, Action::status(400)));
    let report = Report::of(&mut check(&azure, &[])).await;
    report.fails("credential", "answered 400", "assign an identity", "az vm identity assign");
    report.says("data_plane", "skipped", "because credential failed");
    assert_eq!(report.statuses(), "oooofsssss");
}

#[tokio::test]
async fn each_link_of_auto_is_told() {
    let (azure, tools) = (emulator().await, tempfile::tempdir().unwrap());
    let token = azure.access_token(&world::SERVICE_PRINCIPAL, COGNITIVE);
    let answer = format!(r#"{{"accessToken":"{token}","expires_on":4102444800,"tokenType":"Bearer"}}"#);
    executable(&tools.path().join("az"), &format!("#!/bin/sh\necho '{answer}'\n"));
    let settings = ["credential.kind=auto", "credential.imds_endpoint=http://127.0.0.1:9"];
    let mut command = check(&azure, &settings);
    let report = Report::of(command.env("PATH", tools.path())).await;
    report.says("credential", "ok", "auto: azure-cli gave a token");
    let links = report.step("credential")["detail"]["links"].as_array().unwrap();
    let told: Vec<_> =
        links.iter().map(|link| (link["credential"].as_str().unwrap(), link["outcome"].as_str().unwrap())).collect();
    let expected =
        [("managed-identity", "passed_over"), ("azure-cli", "gave_a_token"), ("azure-developer-cli", "not_tried")];
    assert_eq!(told, expected);
    assert!(links[0]["reason"].as_str().unwrap().contains("http://127.0.0.1:9"), "{links:?}");

    let (_, output, _) = outcome(check(&azure, &settings).env("PATH", tools.path())).await;
    assert!(output.contains("managed-identity     passed over: no answer from http://127.0.0.1:9"), "{output}");
    let (_, output, _) = outcome(check(&azure, &settings).env("PATH", "/nonexistent")).await;
    assert!(output.contains("\n             az login\n"), "{output}");
}

#[tokio::test]
async fn a_port_that_is_closed_is_said_to_be_closed() {
    let azure = emulator().await;
    let report = Report::of(&mut check(&azure, &["upstream.endpoint=https://127.0.0.1:9"])).await;
    report.fails("tcp", "127.0.0.1:9", "nothing listens there", "curl -v https://127.0.0.1:9/");
    report.says("tls", "skipped", "because TCP failed");
    assert_eq!(report.statuses(), "oofsoosssw");
}

#[tokio::test]
async fn an_issuer_that_nobody_trusts_is_shown_and_only_then_the_way_out() {
    let (azure, other) = (emulator().await, Authority::new());
    let report = Report::of(&mut check(&azure, &[&other.trusted()])).await;
    let issuer = "CN=Azure emulator: trust for this run only";
    report.fails("tls", issuer, "do not trust it", "export AOAI_PROXY__UPSTREAM__CA_FILE=");
    let detail = &report.step("tls")["detail"];
    assert_eq!((&detail["problem"], &detail["certificate"]), (&"unknown issuer".into(), &0.into()));
    assert_eq!(detail["chain"][0]["issuer"], issuer);
    assert_eq!(detail["chain"][0]["names"], serde_json::json!(["localhost", "127.0.0.1", "::1"]));
    report.fails("management", "no TLS connection", "authority", "CA_FILE");
    assert_eq!(report.statuses(), "ooofoosssf");
    assert_eq!(azure.control().count(Route::OpenAi), 0, "no byte goes to whom nobody trusts");
    let (_, output, _) = outcome(&mut check(&azure, &[&other.trusted()])).await;
    assert!(output.contains("certificate 1 of 1: CN=Azure emulator  <- unknown issuer\n"), "{output}");
}

/// A server on this machine that does with each connection as told.
async fn server<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(tokio::net::TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

async fn shakes_hands(acceptor: TlsAcceptor) -> SocketAddr {
    server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let _ = acceptor.accept(stream).await;
        }
    })
    .await
}

#[tokio::test]
async fn certificates_for_others_or_for_other_times_are_told_apart() {
    let (azure, authority) = (emulator().await, Authority::new());
    for (name, last_year, message, advice, command) in [
        (
            "other.example",
            2999,
            "shows a certificate for other.example",
            "the resource's own name",
            "nslookup 127.0.0.1",
        ),
        ("127.0.0.1", 2024, "certificate 1 was over on 2024-12-31", "clock", "timedatectl"),
    ] {
        let address = shakes_hands(acceptor(authority.vouch(name, last_year), &["http/1.1"])).await;
        let endpoint = format!("upstream.endpoint=https://{address}");
        let report = Report::of(&mut check(&azure, &[&endpoint, &authority.trusted()])).await;
        report.fails("tls", message, advice, command);
    }
}

#[tokio::test]
async fn an_issuer_that_was_sent_can_be_saved() {
    let (azure, authority) = (emulator().await, Authority::new());
    let (mut chain, key) = authority.vouch("127.0.0.1", 2999);
    chain.push(CertificateDer::from_pem_file(authority.file.path()).unwrap());
    let address = shakes_hands(acceptor((chain, key), &["h2"])).await;
    let report = Report::of(&mut check(&azure, &[&format!("upstream.endpoint=https://{address}")])).await;
    let save = format!("openssl s_client -showcerts -connect {address} -servername 127.0.0.1 </dev/null");
    report.fails("tls", "nobody whom this machine trusts", "compare it", &save);
    assert_eq!(report.step("tls")["detail"]["certificate"], 1);
}

#[tokio::test]
async fn what_does_not_speak_tls_is_waited_for_as_long_as_connections_are() {
    let azure = emulator().await;
    let silent = server(|stream| async move {
        let _stream = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let chatty = server(|mut stream| async move {
        let _ = stream.write_all(b"220 mail.example ESMTP\r\n").await;
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await;
    for (address, message) in [(silent, "no answer within 0.3 s"), (chatty, "no TLS with")] {
        let endpoint = format!("upstream.endpoint=https://{address}");
        let report = Report::of(&mut check(&azure, &[&endpoint, "upstream.connect_timeout=300ms"])).await;
        report.fails("tls", message, "what answers there", "curl -v");
    }
}

/// A forward proxy at whose end `answer` is said to any request for `name`.
async fn forward_proxy(authority: &Authority, name: &str, answer: &'static str) -> SocketAddr {
    let acceptor = authority.acceptor(name, &["http/1.1"]);
    server(move |mut stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            if matches!(stream.read(&mut [0; 4096]).await, Ok(read) if read > 0) {
                let head = "content-type: application/json\r\nconnection: close\r\ncontent-length:";
                let (status, content) = answer.split_once('\n').unwrap();
                let text = format!("HTTP/1.1 {status}\r\n{head} {}\r\n\r\n{content}", content.len());
                let _ = stream.write_all(text.as_bytes()).await;
            }
            let _ = stream.read(&mut [0; 1]).await;
        }
    })
    .await
}

#[tokio::test]
async fn behind_a_forward_proxy_that_is_what_is_looked_at() {
    let (azure, authority) = (emulator().await, Authority::new());
    let name = "swedencentral.api.cognitive.microsoft.com";
    let answer = "401 Unauthorized\n{\"error\":{\"code\":\"401\",\"message\":\"Access denied due to invalid subscription key\"}}";
    let proxy = forward_proxy(&authority, name, answer).await;
    let endpoint = format!("upstream.endpoint=https://{name}");
    let mut command = check(&azure, &[&endpoint, &authority.trusted(), "upstream.connect_timeout=5s"]);
    let report = Report::of(command.env("HTTPS_PROXY", format!("http://me:hunter2@{proxy}"))).await;
    report.says("configuration", "warning", "shared by a region's resources");
    report.says("dns", "ok", "forward proxy 127.0.0.1");
    report.says("tcp", "ok", &format!("the forward proxy {proxy} has opened a tunnel to {name}"));
    report.says("tls", "ok", "HTTP/1.1");
    report.fails("data_plane", "401", "the endpoint of a region", "--custom-domain NAME");
    assert!(!report.json.to_string().contains("hunter2"));
}

#[tokio::test]
async fn a_forward_proxy_that_opens_no_tunnel_is_to_blame() {
    let azure = emulator().await;
    let proxy = server(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n").await;
    })
    .await;
    let mut command = check(&azure, &["upstream.endpoint=https://name.openai.azure.com"]);
    let report = Report::of(command.env("HTTPS_PROXY", format!("http://{proxy}"))).await;
    report.fails("tcp", &proxy.to_string(), "user and password", "NO_PROXY,name.openai.azure.com");
}

#[tokio::test]
async fn what_the_resource_says_is_explained() {
    let azure = emulator().await;
    let refusal = |code: &str, message: &str| format!(r#"{{"error":{{"code":"{code}","message":"{message}"}}}}"#);
    for (status, content, message, advice, command) in [
        (
            403,
            refusal("403", "Access denied due to Virtual Network/Firewall rules."),
            "leads to 127.0.0.1",
            "keeps out",
            "network-rule add",
        ),
        (
            403,
            refusal("403", "Public access is disabled. Please configure private endpoint."),
            "(private)",
            "private endpoint",
            "nslookup",
        ),
        (404, refusal("404", "Resource not found"), "404", "v1 interface", "curl -v https://"),
        (503, refusal("503", "ill"), "503", "pass by itself", "curl -v https://"),
        (302, String::new(), "302", "not the resource", "curl -v https://"),
    ] {
        azure.control().clear_faults();
        let action = Action::Status { status, body: Some(content), headers: [].into() };
        azure.control().fault(Fault::new(Route::Models, action));
        Report::of(&mut check(&azure, &[])).await.fails("data_plane", message, advice, command);
    }
    azure.control().clear_faults();
    let busy = Action::Status { status: 429, body: Some(refusal("429", "busy")), headers: [].into() };
    azure.control().fault(Fault::new(Route::Models, busy));
    Report::of(&mut check(&azure, &[])).await.says("data_plane", "warning", "429");
    azure.control().clear_faults();
    let token = format!("eyJ{}", "x".repeat(60));
    let action =
        Action::Status { status: 400, body: Some(format!("{{\"message\":\"bad {token}\"}}")), headers: [].into() };
    azure.control().fault(Fault::new(Route::Models, action));
    let report = Report::of(&mut check(&azure, &[])).await;
    report.fails("data_plane", "bad (token)", "", "");
}

#[tokio::test]
async fn a_call_is_made_with_the_limit_that_the_model_takes() {
    let azure = emulator().await;
    let body = r#"{"error":{"code":"unsupported_parameter","message":"Unsupported parameter: 'max_tokens' is not supported with this model."}}"#;
    let refused = |count| {
        let action = Action::Status { status: 400, body: Some(body.to_owned()), headers: [].into() };
        azure.control().fault(Fault { route: Route::Chat, action, count: Some(count) });
    };
    refused(1);
    let report = Report::of(check(&azure, &[]).args(["--call", "--deployment", "gpt-5"])).await;
    report.says("call", "ok", "gpt-5 answered");
    assert_eq!(report.step("call")["detail"]["limit"], "max_completion_tokens");
    assert_eq!(azure.control().count(Route::Chat), 2);
    let report = Report::of(check(&azure, &[]).args(["--call", "--deployment", "text-embedding-3-small"])).await;
    report.fails("call", "does not work with the specified model", "name one that does", "models --deployed");
    refused(2);
    let report = Report::of(check(&azure, &[]).args(["--call", "--deployment", "gpt-5"])).await;
    report.fails("call", "unsupported_parameter", "", "");
    let report = Report::of(check(&azure, &[]).args(["--call", "--deployment", "gtp-5"])).await;
    report.fails("call", "DeploymentNotFound", "no deployment 'gtp-5'", "deployment list");
    report.says("role", "ok", "--call");
}

#[tokio::test]
async fn a_model_that_only_had_time_to_think_was_called() {
    let azure = emulator().await;
    let body = r#"{"error":{"code":null,"message":"Could not finish the message because max_tokens or model output limit was reached."}}"#;
    let action = Action::Status { status: 400, body: Some(body.to_owned()), headers: [].into() };
    azure.control().fault(Fault::new(Route::Chat, action));
    let report = Report::of(check(&azure, &[]).args(["--call", "--deployment", "gpt-5"])).await;
    report.says("call", "ok", "was reached");
    report.says("role", "ok", "and call");
    assert_eq!(azure.control().count(Route::Chat), 1);
}

#[tokio::test]
async fn a_configuration_that_serve_does_not_take_is_the_first_failure() {
    let azure = emulator().await;
    let wrong = ["limits.max_connections=many"];
    let (code, output, errors) = outcome(check(&azure, &wrong).arg("--json")).await;
    let (serve_code, _, serve_errors) = outcome(serve(&azure).args(["--set", wrong[0]])).await;
    assert_eq!((code, &errors), (serve_code, &serve_errors));
    assert_eq!(code, 2);
    let report = Report { code, json: serde_json::from_str(&output).unwrap(), errors };
    assert_eq!(report.statuses(), "fsssssssss");
    report.says("configuration", "failed", "limits.max_connections");
    assert_eq!(report.json["ok"], false);
    let (code, output, _) = outcome(&mut check(&azure, &wrong)).await;
    assert_eq!(code, 2);
    assert!(output.starts_with("failed   configuration  `limits.max_connections`"), "{output}");
}

#[tokio::test]
async fn an_interrupt_ends_it_at_once() {
    let azure = emulator().await;
    azure.control().fault(Fault::new(Route::Imds, Action::Hang));
    let child = check(&azure, &[]).arg("--json").spawn().unwrap();
    within(azure.control().until(|state| state.count(Route::Imds) == 1)).await;
    Process::new(child.id().unwrap()).signal(Signal::INT);
    let output = within(child.wait_with_output()).await.unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), [].as_slice()));
}

#[tokio::test]
async fn a_deployment_alone_makes_no_call() {
    let azure = emulator().await;
    let (code, _, errors) = outcome(check(&azure, &[]).args(["--deployment", "gpt-4o"])).await;
    assert_eq!(code, 2);
    assert!(errors.contains("--call"), "{errors}");
}
