//! `health`: what a probe is told, and its exit status.

use std::path::Path;

use aoai_auth_proxy::emulator::{Action, Emulator, Fault, Route};
use tokio::process::Command;

use crate::program::{Running, emulator, outcome, serve};

/// Asks with the configuration that the proxy has.
fn health(azure: &Emulator, arguments: &[&str]) -> Command {
    let mut command = serve(azure);
    let usual: Vec<_> = command.as_std().get_args().map(std::ffi::OsStr::to_owned).collect();
    let envs: Vec<_> =
        command.as_std().get_envs().map(|(name, value)| (name.to_owned(), value.unwrap().to_owned())).collect();
    command = Command::new(env!("CARGO_BIN_EXE_aoai-auth-proxy"));
    command.env_clear().envs(envs).arg("health").args(usual).args(arguments).kill_on_drop(true);
    command
}

fn at(address: std::net::SocketAddr) -> String {
    format!("listen.address={address}")
}

fn on(socket: &Path) -> String {
    format!("listen.unix_socket={}", socket.display())
}

#[tokio::test]
async fn a_proxy_that_serves_is_well_and_with_a_token_ready() {
    let azure = emulator().await;
    let running = Running::start(&mut serve(&azure)).await;
    let at = at(running.address());
    assert_eq!(running.get("/v1/models").await.status(), 200, "the first token has come");
    for (arguments, word) in [(vec![], "ok\n"), (vec!["--ready"], "ready\n")] {
        let arguments = [&arguments[..], &["--set", &at]].concat();
        assert_eq!(outcome(&mut health(&azure, &arguments)).await, (0, word.to_owned(), String::new()));
    }
}

#[tokio::test]
async fn why_it_is_not_ready_is_told() {
    let azure = emulator().await;
    let refuse = Action::status(400);
    azure.control().fault(Fault::new(Route::Imds, refuse));
    let running = Running::start(&mut serve(&azure)).await;
    let at = at(running.address());
    assert_eq!(running.get("/v1/models").await.status(), 503, "there is no token");
    let (code, _, errors) = outcome(&mut health(&azure, &["--ready", "--set", &at])).await;
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("not well: 503") && errors.contains("managed-identity"), "{errors}");
    assert_eq!(outcome(&mut health(&azure, &["--set", &at])).await.0, 0, "and yet it serves");
}

#[tokio::test]
async fn it_waits_for_a_proxy_that_starts() {
    let azure = emulator().await;
    let directory = tempfile::tempdir().unwrap();
    let socket = on(&directory.path().join("proxy.sock"));
    let settings = ["--set", "listen.address=", "--set", &socket];
    let (code, _, errors) = outcome(&mut health(&azure, &settings)).await;
    assert_eq!(code, 1);
    assert!(errors.contains("proxy.sock: "), "{errors}");
    // Asked before there is anybody to answer.
    let mut asked = health(&azure, &settings);
    let waiting = tokio::spawn(async move { outcome(asked.args(["--ready", "--wait", "50"])).await });
    let _running = Running::start(serve(&azure).args(settings)).await;
    assert_eq!(waiting.await.unwrap(), (0, "ready\n".to_owned(), String::new()));
}

#[tokio::test]
async fn the_listener_for_probes_is_asked_if_there_is_one() {
    let azure = emulator().await;
    let mut running = Running::start(serve(&azure).args(["--set", "admin.address=127.0.0.1:0"])).await;
    let admin = running.admin().await.replace("http://", "admin.address=");
    let nowhere = ["--set", "listen.address=127.0.0.1:9"];
    let asked = [&nowhere[..], &["--set", &admin]].concat();
    assert_eq!(outcome(&mut health(&azure, &asked)).await, (0, "ok\n".to_owned(), String::new()));
    let (code, ..) = outcome(&mut health(&azure, &[&asked[..], &["--listen", "127.0.0.1:9"]].concat())).await;
    assert_eq!(code, 1, "whoever says where means that");
    let at = at(running.address());
    let unknown = ["--set", &at, "--set", "admin.address=127.0.0.1:0"];
    assert_eq!(outcome(&mut health(&azure, &unknown)).await.0, 0, "a port that is not known is not asked");
}

#[tokio::test]
async fn a_port_that_nobody_knows_is_said_to_be_none() {
    let azure = emulator().await;
    let (code, _, errors) =
        outcome(health(&azure, &["--set", "listen.address=127.0.0.1:0"]).args(["--wait", "50"])).await;
    assert_eq!(code, 1);
    assert!(errors.contains("port 0") && errors.contains("--listen"), "{errors}");
}
