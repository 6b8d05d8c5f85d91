//! The log: a line for each request, and nobody waits for whoever reads it.

use std::collections::BTreeSet;

use aoai_auth_proxy::emulator::{Action, Emulator, Fault, Route};
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::process::{MIB, Process};
use crate::program::{Running, emulator, outcome, serve};
use crate::support::{chat, client, within};

/// What is promised about logs.
const PAGE: &str = include_str!("../../docs/logs.md");

/// Asks for a few things; the answer to a chat completion that calls itself `job-17`.
async fn ask(proxy: &Running) -> reqwest::Response {
    let (client, url) = (client(), |path: &str| format!("{}{path}", proxy.url));
    let mut unknown = chat(false);
    unknown["model"] = "no-such-deployment".into();
    within(client.post(url("/v1/chat/completions")).json(&unknown).send()).await.unwrap();
    within(client.get(url("/nowhere")).send()).await.unwrap();
    within(client.get(url("/healthz")).send()).await.unwrap();
    let request = client.post(url("/v1/chat/completions")).header("x-request-id", "job-17");
    within(request.json(&chat(true)).send()).await.unwrap()
}

/// A proxy with these arguments is asked; the answer's fields and the log.
async fn asked(arguments: &[&str]) -> (http::HeaderMap, String) {
    let azure = emulator().await;
    let proxy = Running::start(serve(&azure).args(arguments)).await;
    let answer = ask(&proxy).await;
    let fields = answer.headers().clone();
    within(answer.bytes()).await.unwrap();
    let (code, log) = proxy.stop().await;
    assert_eq!(code, 0, "{log}");
    (fields, log)
}

fn requests(log: &str) -> Vec<Value> {
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
    lines.filter(|line| line["message"] == "request").collect()
}

fn names(line: &Value) -> BTreeSet<&str> {
    line.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Whether a line of text is a request's.
fn is_request(line: &&str) -> bool {
    let time_and_level = "2026-11-21T14:49:41.618Z  INFO ".len();
    line.get(time_and_level..).is_some_and(|line| line.starts_with("request "))
}

/// The lines of the page's first block of code in `language`.
fn sample(language: &str) -> Vec<&'static str> {
    let (_, rest) = PAGE.split_once(&format!("```{language}\n")).unwrap();
    rest.lines().take_while(|line| *line != "```").collect()
}

#[tokio::test]
async fn machines_read_an_object_a_line() {
    let (answered, log) = asked(&["--log-format", "json"]).await;
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).expect("an object");
        assert!(line.as_object().unwrap().values().all(|value| !value.is_object() && !value.is_array()), "{line}");
        let time = line["timestamp"].as_str().unwrap();
        assert_eq!((time.len(), &time[10..11], &time[19..20], &time[23..]), (24, "T", ".", "Z"), "{time}");
        assert!(line["level"].is_string() && line["message"].is_string() && line["target"].is_string(), "{line}");
    }
    assert_eq!(log.matches(r#""message":"stopped""#).count(), 1, "what is said last comes out: {log}");

    let requests = requests(&log);
    let [unknown, nowhere, chat] = &requests[..] else { panic!("the probe is no news: {log}") };
    let id = |name: &str| answered[name].to_str().unwrap().to_owned();
    for (name, expected) in [
        ("level", Value::from("INFO")),
        ("target", "aoai_auth_proxy::request".into()),
        ("method", "POST".into()),
        ("status", 200.into()),
        ("outcome", "completed".into()),
        ("route", "resource".into()),
        ("app", "-".into()),
        ("model", "gpt-4o-mini".into()),
        ("id", "job-17".into()),
        ("upstream_id", id("apim-request-id").into()),
        ("returned_id", id("x-request-id").into()),
    ] {
        assert_eq!(chat[name], expected, "{name}: {chat}");
    }
    assert!(chat["ms"].as_u64() >= chat["first_byte_ms"].as_u64() && chat["first_byte_ms"].is_u64(), "{chat}");
    assert!(chat["bytes"].as_u64() > Some(100), "{chat}");
    assert_eq!((&unknown["model"], &unknown["status"]), (&"no-such-deployment".into(), &404.into()), "{unknown}");
    assert_eq!(unknown["cause"], "deployment_not_found");
    assert_eq!((&nowhere["level"], &nowhere["outcome"]), (&"WARN".into(), &"refused".into()), "{nowhere}");
    assert_eq!((&nowhere["code"], &nowhere["route"]), (&"not_found".into(), &"own".into()), "{nowhere}");

    let seen: BTreeSet<_> = requests.iter().flat_map(names).collect();
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let documented: BTreeSet<_> = rows.flat_map(|(names, _)| names.split("`, `")).collect();
    assert_eq!(seen, documented, "the page lists the fields");
    let samples: Vec<Value> = sample("json").into_iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(samples.iter().map(names).collect::<Vec<_>>(), [names(chat), names(nowhere)]);
}

#[tokio::test]
async fn people_read_columns() {
    let (_, log) = asked(&[]).await;
    assert!(!log.contains('\x1b'), "this is no terminal: {log}");
    let requests: Vec<_> = log.lines().filter(is_request).collect();
    assert_eq!(requests.len(), 3, "{log}");
    let sampled: Vec<_> = sample("text").into_iter().filter(is_request).collect();
    for column in ["request ", " ms ", "first_byte_ms=", "bytes="] {
        let places: BTreeSet<_> = requests.iter().chain(&sampled).map(|line| line.find(column)).collect();
        assert!(places.len() == 1 && !places.contains(&None), "{column}: {log}");
    }
    // The names of fields, with whatever stands in a sample or a test.
    let shape =
        |line: &str| line.split(' ').filter_map(|word| Some(word.split_once('=')?.0.to_owned())).collect::<Vec<_>>();
    let [_, nowhere, chat] = requests[..] else { panic!("{log}") };
    assert_eq!(sampled.into_iter().map(shape).collect::<Vec<_>>(), [shape(chat), shape(nowhere)]);
}

#[tokio::test]
async fn lines_of_requests_can_be_left_out_alone() {
    let (_, log) = asked(&["--log-level", "info,request=off,identity=debug"]).await;
    assert!(
        log.contains("token acquired") && log.contains("stopped") && !log.lines().any(|line| is_request(&line)),
        "{log}"
    );
    let (_, log) = asked(&["--log-level", "WARN"]).await;
    let requests: Vec<_> = log.lines().filter(is_request).collect();
    assert!(requests.len() == 1 && requests[0].contains("code=not_found"), "{log}");
}

#[tokio::test]
async fn the_model_is_known_wherever_a_request_names_it() {
    let azure = emulator().await;
    let proxy = Running::start(serve(&azure).args(["--log-format", "json"])).await;
    let (client, filling) = (client(), "x".repeat(200_000));
    let cases = [
        ("/v1/chat/completions", r#"{"model":"m-1"}"#, Some("m-1")),
        ("/v1/responses", &*format!(r#"{{"input":"{filling}","model":"m-2"}}"#), Some("m-2")),
        ("/openai/deployments/m-3/embeddings?api-version=1&api-key=k", r#"{"model":"another"}"#, Some("m-3")),
        ("/openai/deployments/m%2D4/embeddings", "{}", Some("m-4")),
        ("/openai/deployments/m%0A5/embeddings", "{}", None),
        ("/v1/realtime?model=m-6&x=hidden", "", Some("m-6")),
        ("/openai/realtime?deployment=m-7", "", Some("m-7")),
        ("/v1/files?model=m-8", "{}", None),
        ("/v1/chat/completions", r#"{"model":"INFO forged"}"#, None),
        ("/v1/chat/completions", r#"{"model":"forged\u001b[2J\n"}"#, None),
        ("/v1/chat/completions", &*format!(r#"{{"model":"{}"}}"#, &filling[..65]), None),
        ("/v1/chat/completions", "no JSON", None),
    ];
    for (number, (path, content, _)) in cases.iter().enumerate() {
        let request = client.post(format!("{}{path}", proxy.url)).header("content-type", "application/json");
        let request = request.header("x-request-id", number.to_string()).body((*content).to_owned());
        within(within(request.send()).await.unwrap().bytes()).await.unwrap();
    }
    let (_, log) = proxy.stop().await;
    let requests = requests(&log);
    for (number, (path, content, expected)) in cases.iter().enumerate() {
        let line = requests.iter().find(|line| line["id"] == *number.to_string()).expect("a line for each");
        assert_eq!(line["model"].as_str(), *expected, "{path} {}: {line}", &content[..content.len().min(60)]);
    }
}

#[tokio::test]
async fn what_happens_to_the_identity_is_told_once() {
    let azure = emulator().await;
    azure.control().fault(Fault::new(Route::Imds, Action::status(500)));
    let mut proxy = Running::start(&mut serve(&azure)).await;
    proxy.until_it_logs("no token").await;
    for _ in 0..3 {
        assert_eq!(proxy.get("/v1/models").await.status(), 503);
    }
    azure.control().clear_faults();
    proxy.until_it_logs("after_failures=").await;
    for _ in 0..3 {
        assert_eq!(proxy.get("/v1/models").await.status(), 200);
    }
    let (_, log) = proxy.stop().await;
    let count = |words: &str| log.lines().filter(|line| line.contains(words)).count();
    assert_eq!([count(" WARN no token "), count(" INFO token acquired ")], [1, 1], "{log}");
}

/// Starts a proxy that tells everything, to nobody yet.
async fn unread(azure: &Emulator) -> (Child, String) {
    let mut command: Command = serve(azure);
    let mut child = command.args(["--log-level", "trace,aoai_auth_proxy=trace"]).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = within(output.next_line()).await.unwrap().expect("a line");
    (child, line.strip_prefix("listening on ").unwrap().to_owned())
}

/// Sends requests that are passed on, of which each fills pages of the log, and then many more.
async fn ask_often(url: &str, passed_on: u32) {
    let client = client();
    for number in 0..passed_on + 1000 {
        let path = if number < passed_on { "/v1/models" } else { "/healthz" };
        let response = within(client.get(format!("{url}{path}")).send()).await.expect("an answer");
        assert_eq!(response.status(), 200);
        within(response.bytes()).await.expect("all of it");
    }
}

#[tokio::test]
async fn requests_are_answered_though_nobody_reads_the_log() {
    let azure = emulator().await;
    let (mut child, url) = unread(&azure).await;
    let process = Process::new(child.id().unwrap());
    // More than all the room there is.
    ask_often(&url, 1200).await;
    #[cfg(target_os = "linux")]
    assert!(process.most_memory() < 200 * MIB, "{}", process.most_memory());

    let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
    let told = within(async {
        loop {
            let line = errors.next_line().await.unwrap().expect("more lines");
            if line.contains("log lines were dropped") {
                break line;
            }
        }
    });
    let told = told.await;
    let (_, in_all) = told.split_once("in_all=").expect(&told);
    assert!(told.contains("WARN") && in_all.parse::<u64>().unwrap() > 1000, "{told}");
    process.signal(Signal::TERM);
    let mut has_stopped = false;
    while let Some(line) = within(errors.next_line()).await.unwrap() {
        has_stopped |= line.ends_with(" INFO stopped");
    }
    assert!(has_stopped, "what is said last comes out");
    assert_eq!(within(child.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn the_end_does_not_wait_for_a_log_that_nobody_reads() {
    let azure = emulator().await;
    let (mut child, url) = unread(&azure).await;
    // More than the pipe takes.
    ask_often(&url, 50).await;
    Process::new(child.id().unwrap()).signal(Signal::TERM);
    assert_eq!(within(child.wait()).await.unwrap().code(), Some(0));
    let mut log = Vec::new();
    within(child.stderr.take().unwrap().read_to_end(&mut log)).await.unwrap();
    assert!(!log.is_empty(), "what was in the pipe");
}

/// Where no further thread can be had there is one failure more to tell, not one fewer.
#[tokio::test]
async fn a_failure_is_told_though_there_can_be_no_thread() {
    let azure = emulator().await;
    let mut command = serve(&azure);
    let (code, _, errors) = outcome(command.env("RUST_MIN_STACK", (1_u64 << 46).to_string())).await;
    assert_eq!(code, 1);
    assert!(errors.contains("aoai-auth-proxy: "), "it ended without a word: {errors:?}");
}
