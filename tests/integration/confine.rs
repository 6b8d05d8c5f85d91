//! What the program may do while it serves, seen from outside; rule by rule, `src/confine/ruleset.rs` tests it from inside.

use std::fs::{Permissions, read_to_string, set_permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

use aoai_auth_proxy::emulator::{Emulator, Route, world};
use rustix::process::geteuid;
use tempfile::TempDir;
use tokio::process::Command;

use crate::program::{Running, emulator, executable, outcome, program, serve};
use crate::support::{chat, client, demo_settings, within};

/// Nobody's numbers, as systems have it.
const NOBODY: u32 = 65534;

/// `serve` that tells what it gives up.
fn telling(azure: &Emulator) -> Command {
    let mut command = serve(azure);
    command.args(["--log-level", "debug"]);
    command
}

fn set(command: &mut Command, settings: &[String]) {
    for setting in settings {
        command.args(["--set", setting]);
    }
}

/// Whether the kernel can confine at all; if not, says that the rest is skipped.
fn is_confined(log: &str) -> bool {
    let cannot = ["this kernel has no Landlock", "Landlock is not enabled in this kernel"];
    if let Some(words) = cannot.into_iter().find(|words| log.contains(words)) {
        println!("skipped: {words}");
        return false;
    }
    assert_eq!(log.matches("confined by Landlock").count(), 1, "{log}");
    assert!(!log.contains("not confined"), "{log}");
    true
}

/// Where everybody may look, as the home of whoever builds is not.
fn open_to_all() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    directory
}

async fn copy(from: &Path, to: &Path) {
    // By a child: a program that this process has open for writing cannot be run.
    assert!(Command::new("/bin/cp").args([from, to]).status().await.unwrap().success());
    set_permissions(to, Permissions::from_mode(0o755)).unwrap();
}

/// The value behind `name` in a file of `/proc`.
fn value(text: &str, name: &str) -> String {
    text.lines().find_map(|line| line.strip_prefix(name)).expect("Linux says so").trim().to_owned()
}

/// Of what size a core may be dumped: as it is, and as the program could allow itself.
fn core_sizes(proxy: &Running) -> Vec<String> {
    let limits = read_to_string(format!("/proc/{}/limits", proxy.child.id().unwrap())).unwrap();
    value(&limits, "Max core file size").split_whitespace().take(2).map(str::to_owned).collect()
}

/// What a process of nobody's makes of this file.
async fn read_by_nobody(file: &str) -> (i32, String) {
    let mut cat = Command::new("/bin/cat");
    let cat = cat.arg(file).uid(NOBODY).gid(NOBODY).env_clear();
    let (code, _, errors) = outcome(cat).await;
    (code, errors)
}

#[tokio::test]
async fn nobody_can_run_it_without_any_right_and_nobody_else_looks_into_it() {
    if !geteuid().is_root() {
        return println!("skipped: only root can start a program as somebody else");
    }
    let (azure, directory) = (emulator().await, open_to_all());
    let (binary, authority) = (directory.path().join("proxy"), directory.path().join("ca.pem"));
    copy(Path::new(env!("CARGO_BIN_EXE_aoai-auth-proxy")), &binary).await;
    copy(azure.ca_file(), &authority).await;
    let mut as_root = telling(&azure);
    set(&mut as_root, &[format!("upstream.ca_file={}", authority.display())]);
    let mut command = Command::new(&binary);
    command.args(as_root.as_std().get_args()).env_clear().uid(NOBODY).gid(NOBODY);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let proxy = Running::start(&mut command).await;
    let asked = client().post(format!("{}/v1/chat/completions", proxy.url)).json(&chat(false)).send();
    assert_eq!(within(asked).await.unwrap().status(), 200);

    let own = |file: &str| format!("/proc/{}/{file}", proxy.child.id().unwrap());
    let status = read_to_string(own("status")).unwrap();
    assert_eq!(value(&status, "Uid:"), [NOBODY.to_string().as_str(); 4].join("\t"));
    for capabilities in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(value(&status, capabilities), "0000000000000000", "{capabilities}");
    }
    assert_eq!(core_sizes(&proxy), ["0", "0"]);
    let threads: Vec<_> = std::fs::read_dir(own("task")).unwrap().map(|thread| thread.unwrap().path()).collect();
    assert!(threads.len() > 1, "{threads:?}");
    let status = |thread: &Path| read_to_string(thread.join("status")).unwrap();
    let no_new_privileges: Vec<_> = threads.iter().map(|thread| value(&status(thread), "NoNewPrivs:")).collect();

    // Of any other program of its own, nobody may read that.
    let mut other = Command::new("/bin/cat");
    let mut other = other.uid(NOBODY).gid(NOBODY).env_clear().stdin(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    for file in ["environ", "maps"] {
        let (code, errors) = read_by_nobody(&format!("/proc/{}/{file}", other.id().unwrap())).await;
        assert_eq!(code, 0, "{file}: {errors}");
    }
    drop(other.stdin.take());
    within(other.wait()).await.unwrap();
    for file in ["environ", "maps", "mem", "auxv"] {
        let (code, errors) = read_by_nobody(&own(file)).await;
        assert!(code == 1 && errors.contains("Permission denied"), "{file}: {code} {errors}");
    }
    let (code, log) = proxy.stop().await;
    assert_eq!(code, 0, "{log}");
    if is_confined(&log) {
        assert!(no_new_privileges.iter().all(|set| set == "1"), "{no_new_privileges:?}");
    }
}

/// A volume as Kubernetes makes it: what is named leads through `..data` to the directory of one version.
struct Volume(TempDir);

impl Volume {
    fn new(content: &str) -> Self {
        let volume = Self(tempfile::tempdir().unwrap());
        volume.rotate("..1", content);
        symlink("..data/token", volume.0.path().join("token")).unwrap();
        volume
    }

    fn rotate(&self, version: &str, content: &str) {
        let root = self.0.path();
        std::fs::create_dir(root.join(version)).unwrap();
        std::fs::write(root.join(version).join("token"), content).unwrap();
        let old = std::fs::read_link(root.join("..data"));
        symlink(version, root.join("..data_tmp")).unwrap();
        std::fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
        if let Ok(old) = old {
            std::fs::remove_dir_all(root.join(old)).unwrap();
        }
    }
}

#[tokio::test]
async fn a_token_file_that_is_replaced_the_way_kubernetes_does_is_read() {
    let azure = emulator().await;
    let volume = Volume::new(&azure.federated_token());
    let mut command = telling(&azure);
    set(
        &mut command,
        &[
            "credential.kind=workload-identity".to_owned(),
            format!("credential.tenant_id={}", world::TENANT_ID),
            format!("credential.client_id={}", world::USER_ASSIGNED.client_id),
            format!("credential.federated_token_file={}", volume.0.path().join("token").display()),
        ],
    );
    let proxy = Running::start(&mut command).await;
    assert_eq!(proxy.get("/v1/models").await.status(), 200);
    volume.rotate("..2", &azure.federated_token());
    azure.control().revoke_tokens(true);
    let before = azure.control().count(Route::Entra);
    assert_eq!(proxy.get("/v1/models").await.status(), 200);
    assert_eq!(azure.control().count(Route::Entra), before + 1);
    let (_, log) = proxy.stop().await;
    is_confined(&log);
}

#[tokio::test]
async fn a_certificate_that_has_come_to_lead_elsewhere_is_not_read() {
    let azure = emulator().await;
    let [directory, elsewhere] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (file, other) = (directory.path().join("certificate.pem"), elsewhere.path().join("certificate.pem"));
    for file in [&file, &other] {
        std::fs::write(file, azure.client_certificate_pem()).unwrap();
    }
    let mut command = telling(&azure);
    set(
        &mut command,
        &[
            "credential.kind=client-certificate".to_owned(),
            format!("credential.tenant_id={}", world::TENANT_ID),
            format!("credential.client_id={}", world::SERVICE_PRINCIPAL.client_id),
            format!("credential.client_certificate_path={}", file.display()),
        ],
    );
    let proxy = Running::start(&mut command).await;
    assert_eq!(proxy.get("/v1/models").await.status(), 200);
    // One that is replaced in its place is read.
    std::fs::write(directory.path().join("next"), azure.client_certificate_pem()).unwrap();
    std::fs::rename(directory.path().join("next"), &file).unwrap();
    azure.control().revoke_tokens(true);
    assert_eq!(proxy.get("/v1/models").await.status(), 200);

    std::fs::remove_file(&file).unwrap();
    symlink(&other, &file).unwrap();
    azure.control().revoke_tokens(true);
    let status = proxy.get("/v1/models").await.status();
    let ready = proxy.get("/readyz").await.text().await.unwrap();
    let (_, log) = proxy.stop().await;
    if is_confined(&log) {
        assert_ne!(status, 200, "{log}");
        assert!(ready.contains("Permission denied") || log.contains("Permission denied"), "{ready}\n{log}");
    }
}

#[tokio::test]
async fn authorities_from_anywhere_and_names_of_hosts_are_known() {
    let (azure, elsewhere) = (emulator().await, tempfile::tempdir().unwrap());
    let authority = elsewhere.path().join("authorities.pem");
    std::fs::write(&authority, azure.ca_pem()).unwrap();
    let by_name = azure.openai().replace("127.0.0.1", "localhost");
    assert!(by_name.contains("//localhost:"), "{by_name}");
    let settings = demo_settings(&azure);
    let settings: Vec<_> = settings.into_iter().filter(|setting| !setting.starts_with("upstream.ca_file")).collect();
    let mut command = program();
    set(&mut command, &settings);
    set(&mut command, &[format!("upstream.endpoint={by_name}")]);
    command.args(["--log-level", "debug"]).env("SSL_CERT_FILE", &authority);
    let proxy = Running::start(&mut command).await;
    let response = proxy.get("/v1/models").await;
    assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
    let (_, log) = proxy.stop().await;
    is_confined(&log);
}

/// A directory with an `az` that writes to it, and gives a token.
fn az(azure: &Emulator) -> TempDir {
    let tools = tempfile::tempdir().unwrap();
    let token = azure.access_token(&world::SERVICE_PRINCIPAL, "https://cognitiveservices.azure.com");
    let answer = format!(r#"{{"accessToken":"{token}","expires_on":4102444800,"tokenType":"Bearer"}}"#);
    let script = format!("#!/bin/sh\necho ran > {}/cache || exit 1\necho '{answer}'\n", tools.path().display());
    executable(&tools.path().join("az"), &script);
    tools
}

#[tokio::test]
async fn where_az_may_be_run_it_has_all_rights() {
    for kind in ["azure-cli", "auto"] {
        let azure = emulator().await;
        let tools = az(&azure);
        let mut command = telling(&azure);
        let kind = format!("credential.kind={kind}");
        set(&mut command, &[kind.clone(), "credential.imds_endpoint=http://127.0.0.1:9".to_owned()]);
        let proxy = Running::start(command.env("PATH", format!("{}:/usr/bin:/bin", tools.path().display()))).await;
        let response = proxy.get("/v1/models").await;
        assert_eq!(response.status(), 200, "{kind}: {}", response.text().await.unwrap());
        assert_eq!(read_to_string(tools.path().join("cache")).unwrap(), "ran\n");
        assert_eq!(core_sizes(&proxy), ["0", "0"], "{kind}");
        let (_, log) = proxy.stop().await;
        assert_eq!(log.matches("not confined: the credential may run az").count(), 1, "{kind}: {log}");
        assert!(!log.contains("confined by Landlock"), "{kind}: {log}");
    }
}

#[tokio::test]
async fn where_there_is_no_az_a_chain_is_confined() {
    let (azure, nothing) = (emulator().await, tempfile::tempdir().unwrap());
    let mut command = telling(&azure);
    set(&mut command, &["credential.kind=auto".to_owned()]);
    let proxy = Running::start(command.env("PATH", nothing.path())).await;
    assert_eq!(proxy.get("/v1/models").await.status(), 200);
    let (_, log) = proxy.stop().await;
    is_confined(&log);
}

#[tokio::test]
async fn the_demo_says_what_it_keeps() {
    let proxy = Running::start(program().args(["demo", "--listen", "127.0.0.1:0", "--log-level", "debug"])).await;
    assert_eq!(core_sizes(&proxy), ["0", "0"]);
    let (_, log) = proxy.stop().await;
    assert!(log.contains("not confined: the emulator is in the same process"), "{log}");
}
