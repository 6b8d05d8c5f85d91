//! The usage ledger: what is written down, what happens to it, and what `usage` makes of it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use aoai_auth_proxy::emulator::Emulator;
use futures_util::{SinkExt, StreamExt};
use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use crate::program::{Running, emulator, has_namespaces, outcome, program, serve};
use crate::support::{chat, client, within};

/// A ledger as version 1 has made it.
const VERSION_1: &str = include_str!("../fixtures/ledger/version-1.sql");

/// App, model, responses, those that said nothing, tokens sent, tokens answered.
type Row = (String, String, i64, i64, i64, i64);

struct Ledger {
    directory: TempDir,
    path: PathBuf,
}

impl Ledger {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { path: directory.path().join("state/usage.db"), directory }
    }

    /// One that holds what is in `sql`.
    fn holding(sql: &str) -> Self {
        let ledger = Self::new();
        std::fs::create_dir(ledger.path.parent().unwrap()).unwrap();
        Connection::open(&ledger.path).unwrap().execute_batch(sql).unwrap();
        ledger
    }

    fn serve(&self, azure: &Emulator) -> Command {
        let mut command = serve(azure);
        command.args(["--set", "usage.enabled=true", "--set", &self.setting()]);
        command
    }

    async fn usage(&self, arguments: &[&str]) -> String {
        let mut command = program();
        command.args(["usage", "--set", &self.setting()]).args(arguments);
        let (code, output, errors) = outcome(&mut command).await;
        assert_eq!((code, &*errors), (0, ""));
        output
    }

    fn setting(&self) -> String {
        format!("usage.database={}", self.path.display())
    }

    fn open(&self) -> Connection {
        let connection = Connection::open(&self.path).unwrap();
        connection.busy_timeout(Duration::from_secs(30)).unwrap();
        connection
    }

    fn rows(&self) -> Vec<Row> {
        let query = "SELECT app, model, sum(responses), sum(unknown), sum(input), sum(output) FROM usage GROUP BY 1, 2 ORDER BY 1, 2";
        let connection = self.open();
        let mut query = connection.prepare(query).unwrap();
        let rows = query
            .query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?)));
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    }

    fn responses(&self) -> i64 {
        self.rows().iter().map(|row| row.2).sum()
    }

    /// Waits until so many responses are written down.
    async fn until(&self, responses: i64) {
        let mut again = tokio::time::interval(Duration::from_millis(20));
        within(async {
            while self.responses() < responses {
                again.tick().await;
            }
        })
        .await;
        assert_eq!(self.responses(), responses);
    }
}

/// Asks and takes the whole answer.
async fn post(proxy: &Running, path: &str, content: &Value, app: &str) -> String {
    let request = client().post(format!("{}{path}", proxy.url)).header("api-key", app).json(content);
    let response = within(request.send()).await.unwrap();
    assert_eq!(response.status(), 200);
    within(response.text()).await.unwrap()
}

/// A chat; what it cost.
async fn talk(proxy: &Running) -> (i64, i64) {
    let answer: Value = serde_json::from_str(&post(proxy, "/v1/chat/completions", &chat(false), "-").await).unwrap();
    let tokens = |kind: &str| answer["usage"][kind].as_i64().unwrap();
    (tokens("prompt_tokens"), tokens("completion_tokens"))
}

/// A conversation of one response over a WebSocket; what it cost.
async fn converse(proxy: &Running) -> (i64, i64) {
    let stream = TcpStream::connect(proxy.address()).await.unwrap();
    let url = format!("ws://{}/v1/realtime?model=gpt-realtime", proxy.address());
    let (mut socket, _) = within(client_async(url, stream)).await.unwrap();
    let content = json!([{ "type": "input_text", "text": "tell me about the sea" }]);
    let item = json!({ "type": "message", "role": "user", "content": content });
    for event in [json!({ "type": "conversation.item.create", "item": item }), json!({ "type": "response.create" })] {
        within(socket.send(Message::text(event.to_string()))).await.unwrap();
    }
    loop {
        let message = within(socket.next()).await.unwrap().unwrap();
        let event: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        if event["type"] == "response.done" {
            let tokens = |kind: &str| event["response"]["usage"][kind].as_i64().unwrap();
            return (tokens("input_tokens"), tokens("output_tokens"));
        }
    }
}

fn row(app: &str, model: &str, (responses, unknown): (i64, i64), (input, output): (i64, i64)) -> Row {
    (app.to_owned(), model.to_owned(), responses, unknown, input, output)
}

#[tokio::test]
async fn every_response_is_written_down_by_app_and_model() {
    let (azure, ledger) = (emulator().await, Ledger::new());
    let mut command = ledger.serve(&azure);
    let proxy = Running::start(command.args(["--set", "apps.notebook.requests_per_minute=1000"])).await;
    let (input, output) = talk(&proxy).await;
    post(&proxy, "/v1/chat/completions", &chat(true), "-").await;
    let mut told = chat(true);
    told["stream_options"] = json!({ "include_usage": true });
    post(&proxy, "/v1/chat/completions", &told, "notebook").await;
    let embedded = json!({ "model": "text-embedding-3-small", "input": "one two three" });
    let embedded: Value = serde_json::from_str(&post(&proxy, "/v1/embeddings", &embedded, "-").await).unwrap();
    let embedded = embedded["usage"]["prompt_tokens"].as_i64().unwrap();
    let asked = json!({ "model": "gpt-4o", "input": "one two three" });
    let response: Value = serde_json::from_str(&post(&proxy, "/v1/responses", &asked, "notebook").await).unwrap();
    let response = ["input_tokens", "output_tokens"].map(|kind| response["usage"][kind].as_i64().unwrap());
    let spoken = converse(&proxy).await;
    ledger.until(6).await;
    assert_eq!(
        ledger.rows(),
        [
            row("-", "gpt-4o-mini", (2, 1), (input, output)),
            row("-", "gpt-realtime", (1, 0), spoken),
            row("-", "text-embedding-3-small", (1, 0), (embedded, 0)),
            row("notebook", "gpt-4o", (1, 0), response.into()),
            row("notebook", "gpt-4o-mini", (1, 0), (input, output)),
        ]
    );
    // Beside the proxy, and after it.
    let table = ledger.usage(&["--by", "model"]).await;
    assert!(table.lines().any(|line| line.starts_with("gpt-4o-mini ")), "{table}");
    proxy.stop().await;
    assert_eq!(ledger.usage(&["--by", "model"]).await, table);
}

#[tokio::test]
async fn what_was_written_survives_a_kill_and_an_orderly_end_writes_the_rest() {
    let (azure, ledger) = (emulator().await, Ledger::new());
    let mut proxy = Running::start(&mut ledger.serve(&azure)).await;
    talk(&proxy).await;
    talk(&proxy).await;
    ledger.until(2).await;
    proxy.process().signal(Signal::KILL);
    within(proxy.child.wait()).await.unwrap();
    assert_eq!(ledger.responses(), 2);

    let proxy = Running::start(&mut ledger.serve(&azure)).await;
    talk(&proxy).await;
    let (code, log) = proxy.stop().await;
    assert_eq!((code, ledger.responses()), (0, 3), "{log}");
    let integrity: String = ledger.open().query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    assert_eq!(integrity, "ok");
}

#[tokio::test]
async fn while_the_file_is_locked_requests_go_on_and_are_counted_later() {
    let (azure, ledger) = (emulator().await, Ledger::new());
    let mut proxy = Running::start(&mut ledger.serve(&azure)).await;
    let other = ledger.open();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let first = talk(&proxy).await;
    proxy.until_it_logs("the usage ledger cannot be written").await;
    talk(&proxy).await;
    assert_eq!(ledger.responses(), 0);
    other.execute_batch("ROLLBACK").unwrap();
    proxy.until_it_logs("the usage ledger is written again").await;
    ledger.until(2).await;
    assert_eq!(ledger.rows(), [row("-", "gpt-4o-mini", (2, 0), (2 * first.0, 2 * first.1))]);
    let (code, log) = proxy.stop().await;
    assert_eq!((code, ledger.responses()), (0, 2), "{log}");
    assert_eq!(log.matches("usage ledger cannot be written").count(), 1, "told once: {log}");
}

#[tokio::test]
async fn a_file_that_is_locked_at_the_start_keeps_nobody_waiting() {
    let (azure, ledger) = (emulator().await, Ledger::holding(VERSION_1));
    let other = ledger.open();
    other.execute_batch("BEGIN EXCLUSIVE; DELETE FROM usage").unwrap();
    let mut proxy = Running::start(&mut ledger.serve(&azure)).await;
    proxy.until_it_logs("the usage ledger cannot be written yet; counts wait in memory").await;
    talk(&proxy).await;
    other.execute_batch("ROLLBACK").unwrap();
    proxy.until_it_logs("the usage ledger is written again").await;
    let (code, log) = proxy.stop().await;
    assert_eq!((code, ledger.responses()), (0, 4), "{log}");
}

/// A small disk of its own at `$1`, and a shell on standard input that can see it, beside what runs there.
const ON_A_SMALL_DISK: &str =
    "mount -t tmpfs -o size=256k tmpfs \"$1\" || exit 1; cd \"$1\" || exit 1; shift; exec 3<&0
    sh <&3 >/dev/null 2>&1 & exec \"$@\" </dev/null";

#[tokio::test]
async fn while_the_disk_is_full_requests_go_on_and_are_counted_later() {
    if !has_namespaces(&["-Urm"]).await {
        return;
    }
    let (azure, ledger) = (emulator().await, Ledger::new());
    let (disk, copies) = (ledger.path.parent().unwrap(), ledger.directory.path().join("copies"));
    std::fs::create_dir(disk).unwrap();
    let served = ledger.serve(&azure);
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh", "-c", ON_A_SMALL_DISK, "sh"]).arg(disk);
    command.arg(served.as_std().get_program()).args(served.as_std().get_args());
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent").kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut proxy = Running::start(&mut command).await;
    let mut shell = proxy.child.stdin.take().unwrap();
    let copies_made = copies.join("made");
    let fill = format!("head -c 1M /dev/zero > filler; mkdir {0}; touch {0}/made\n", copies.display());
    within(shell.write_all(fill.as_bytes())).await.unwrap();
    until_there_is(&copies_made).await;
    let first = talk(&proxy).await;
    proxy.until_it_logs("the usage ledger cannot be written").await;
    talk(&proxy).await;
    std::fs::remove_file(&copies_made).unwrap();
    within(shell.write_all(b"rm filler\n")).await.unwrap();
    proxy.until_it_logs("the usage ledger is written again").await;
    talk(&proxy).await;
    let (code, log) = {
        // What stands on the disk is gone with the last who sees it.
        let copy =
            format!("while [ -e usage.db-wal ]; do :; done; cp usage.db {0}; touch {0}/made\n", copies.display());
        within(shell.write_all(copy.as_bytes())).await.unwrap();
        proxy.stop().await
    };
    assert!(code == 0 && log.contains("database or disk is full"), "{log}");
    until_there_is(&copies_made).await;
    let copy = Ledger { path: copies.join("usage.db"), ..ledger };
    assert_eq!(copy.rows(), [row("-", "gpt-4o-mini", (3, 0), (3 * first.0, 3 * first.1))]);
}

async fn until_there_is(file: &Path) {
    let mut again = tokio::time::interval(Duration::from_millis(20));
    within(async {
        while !file.exists() {
            again.tick().await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_written_in_the_end_is_told() {
    let (azure, ledger) = (emulator().await, Ledger::new());
    let proxy = Running::start(&mut ledger.serve(&azure)).await;
    let other = ledger.open();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    talk(&proxy).await;
    let (code, log) = proxy.stop().await;
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("is not in the usage ledger: it could not be written  responses=1"), "{log}");
}

#[tokio::test]
async fn two_proxies_share_one_file() {
    let (azure, ledger) = (emulator().await, Ledger::new());
    // Both at once make it.
    let (mut one, mut other) = (ledger.serve(&azure), ledger.serve(&azure));
    let (one, other) = tokio::join!(Running::start(&mut one), Running::start(&mut other));
    for _ in 0..5 {
        tokio::join!(talk(&one), talk(&other));
    }
    ledger.until(10).await;
    let (ends, other_ends) = tokio::join!(one.stop(), other.stop());
    assert_eq!((ends.0, other_ends.0, ledger.responses()), (0, 0, 10));
    assert_eq!(ledger.rows().len(), 1);
}

#[tokio::test]
async fn a_file_that_was_taken_away_is_made_anew() {
    let (azure, ledger) = (emulator().await, Ledger::new());
    let proxy = Running::start(&mut ledger.serve(&azure)).await;
    talk(&proxy).await;
    ledger.until(1).await;
    // Confined as it is, where that can be.
    for file in ["usage.db", "usage.db-wal", "usage.db-shm"] {
        std::fs::remove_file(ledger.path.with_file_name(file)).unwrap();
    }
    talk(&proxy).await;
    let (code, log) = proxy.stop().await;
    assert_eq!((code, ledger.responses()), (0, 1), "{log}");
    assert!(!log.contains("cannot be written"), "{log}");
}

/// Of `serve`, which must not start; the one line that it says.
async fn is_refused(path: &Path) -> String {
    let mut command = program();
    command.args(["--endpoint", "http://127.0.0.1:9", "--listen", "127.0.0.1:0", "--credential", "managed-identity"]);
    command.args(["--set", "usage.enabled=true", "--set", &format!("usage.database={}", path.display())]);
    let (code, output, errors) = outcome(&mut command).await;
    assert_eq!((code, &*output, errors.lines().count()), (1, "", 1), "{errors}");
    assert!(errors.contains("usage.database"), "{errors}");
    errors
}

#[tokio::test]
async fn a_file_that_cannot_be_used_keeps_it_from_starting() {
    let newer = Ledger::holding(&format!("{VERSION_1} PRAGMA user_version = 7;"));
    let errors = is_refused(&newer.path).await;
    assert!(errors.contains("is of version 7, and this program knows no later one than 1"), "{errors}");

    let foreign = Ledger::holding("CREATE TABLE theirs (a);");
    let errors = is_refused(&foreign.path).await;
    assert!(errors.contains("a database of another program"), "{errors}");

    let text = foreign.directory.path().join("text");
    std::fs::write(&text, "no database\n".repeat(1000)).unwrap();
    let errors = is_refused(&text).await;
    assert!(errors.contains("no SQLite database"), "{errors}");
    assert_eq!(std::fs::read_to_string(&text).unwrap(), "no database\n".repeat(1000));

    let altered = Ledger::holding(&format!("{VERSION_1} ALTER TABLE usage RENAME COLUMN input TO sent;"));
    let errors = is_refused(&altered.path).await;
    assert!(errors.contains("is damaged (") && errors.contains("no column named input"), "{errors}");

    let link = foreign.directory.path().join("link");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    let errors = is_refused(&link).await;
    assert!(errors.contains("is a link to nowhere, where nothing is"), "{errors}");

    // Where even root cannot make a directory.
    for nowhere in [text.join("usage.db"), PathBuf::from("/proc/none/usage.db")] {
        let errors = is_refused(&nowhere).await;
        assert!(errors.contains("cannot make the usage ledger"), "{errors}");
    }
    assert_eq!(newer.responses(), 3);
}

#[tokio::test]
async fn usage_reads_a_ledger_of_version_1() {
    let ledger = Ledger::holding(VERSION_1);
    let prices = ["--set", "prices.o3.input=2", "--set", "prices.o3.output=8"];
    let since = ["--since", "2026-11-01"];
    insta::assert_snapshot!("usage_table", ledger.usage(&[since.as_slice(), &prices].concat()).await);
    let by = ["--json", "--by", "day,model"];
    insta::assert_snapshot!("usage_json", ledger.usage(&[since.as_slice(), &prices, &by].concat()).await);
    assert_eq!(ledger.usage(&["--since", "3000-01-01", "--json"]).await, "[]\n");
}

#[tokio::test]
async fn where_there_is_no_ledger_it_is_said_how_there_will_be_one() {
    let ledger = Ledger::new();
    for (settings, code, words) in [
        (["--set", "usage.enabled=false"], 1, "Set usage.enabled = true"),
        (["--set", "usage.enabled=true"], 1, "the proxy makes it when it starts"),
        (["--set", "prices.o3.input=two"], 2, "what a million tokens cost, like 2.5"),
    ] {
        let mut command = program();
        command.args(["usage", "--set", &ledger.setting()]).args(settings);
        let (status, output, errors) = outcome(&mut command).await;
        assert_eq!((status, &*output), (code, ""), "{errors}");
        assert!(errors.contains(words), "{errors}");
    }
    let (status, _, errors) = outcome(program().env_remove("HOME").arg("usage")).await;
    assert!(status == 2 && errors.contains("`usage.database` is not set"), "{errors}");
}

#[tokio::test]
async fn whose_file_it_is_not_hears_so() {
    if !has_namespaces(&["-U"]).await {
        return;
    }
    let ledger = Ledger::holding(VERSION_1);
    let forbid = || std::fs::set_permissions(&ledger.path, Permissions::from_mode(0o000)).unwrap();
    forbid();
    let usage = ["usage".to_owned(), "--set".to_owned(), ledger.setting()];
    let mut command = Command::new("unshare");
    // There, even root is nobody.
    command.args(["-U"]).arg(program().as_std().get_program()).args(usage);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent");
    let (status, output, errors) = outcome(&mut command).await;
    assert_eq!((status, &*output), (1, ""), "{errors}");
    assert!(errors.contains("this user may not read the usage ledger"), "{errors}");
    assert!(errors.contains("Permission denied") && !errors.contains("immutable"), "{errors}");
}

#[tokio::test]
async fn a_name_that_sqlite_takes_for_memory_is_a_file_for_all() {
    let ledger = Ledger::holding(VERSION_1);
    for name in [":memory:", "file:x?mode=memory"] {
        std::fs::copy(&ledger.path, ledger.path.with_file_name(name)).unwrap();
        let mut command = program();
        command.current_dir(ledger.path.parent().unwrap());
        command.args([
            "usage",
            "--since",
            "2026-11-01",
            "--by",
            "app, day",
            "--set",
            &format!("usage.database={name}"),
        ]);
        let (status, output, errors) = outcome(&mut command).await;
        assert_eq!((status, &*errors), (0, ""), "{name}");
        assert!(output.contains("notebook"), "{name}: {output}");
    }
}
