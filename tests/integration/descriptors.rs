//! A system that gives no more file descriptors: what runs goes on, and all is well once there are some again.

use std::process::Stdio;
use std::time::{Duration, Instant};

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use rustix::process::{Resource, Rlimit, prlimit};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::caller::Caller;
use crate::program::{Running, emulator, serve};
use crate::support::within;

/// Enough for the program and a few dozen connections.
const MOST: u64 = 64;
/// How long the program has none left.
const DROUGHT: Duration = Duration::from_secs(3);

async fn ask(caller: &mut Caller) {
    let response = within(caller.send(Request::get("/v1/models").body(Body::empty()).unwrap())).await.unwrap();
    assert_eq!(response.status(), 200);
    within(response.into_body().collect()).await.unwrap();
}

#[tokio::test]
async fn without_descriptors_it_goes_on_and_recovers() {
    let azure = emulator().await;
    let mut running = Running::start(serve(&azure).args(["--set", "limits.header_timeout=10m"])).await;
    let most = Rlimit { current: Some(MOST), maximum: Some(MOST) };
    prlimit(Some(running.process().0), Resource::Nofile, most).unwrap();
    let mut inside = Caller::connect(running.address(), false).await;
    ask(&mut inside).await;

    // The system accepts them all on the program's behalf; the program can take only some.
    let mut idle = Vec::new();
    for _ in 0..2 * MOST {
        idle.push(within(TcpStream::connect(running.address())).await.unwrap());
    }
    running.until_it_logs("cannot accept").await;
    let began = Instant::now();
    while began.elapsed() < DROUGHT {
        ask(&mut inside).await;
    }
    match running.process().open_files() {
        Some(files) => assert!(files as u64 >= MOST - 1, "it had none left all the time"),
        None => println!("skipped: that it had none left all the time; only root may count them"),
    }

    drop(idle);
    for _ in 0..10 {
        assert_eq!(running.get("/v1/models").await.status(), 200);
    }
    drop(inside);
    let (code, log) = running.stop().await;
    assert_eq!(code, 0, "{log}");
    assert!(!log.contains("panicked"), "{log}");
    let lines = log.lines().filter(|line| line.contains("cannot accept")).count();
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    assert!(lines <= 2 * seconds, "{lines} lines in {seconds} s");
}

/// What a shell gives by default is not enough for many streams; what the system allows is for the program to take.
#[tokio::test]
async fn as_many_files_as_the_system_allows() {
    let azure = emulator().await;
    let serve = serve(&azure);
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "ulimit -S -n 256 && exec \"$0\" \"$@\""]);
    shell.arg(serve.as_std().get_program()).args(serve.as_std().get_args()).env_clear();
    shell.envs(serve.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let running = Running::start(&mut shell).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", running.child.id().unwrap())).unwrap();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let [soft, hard] = files.split_whitespace().take(2).collect::<Vec<_>>()[..] else { panic!("{files}") };
    assert_eq!(soft, hard, "{files}");
}

/// A resource that reads nothing of what it is sent keeps nothing of the program's once its time is over, or the caller gone.
#[tokio::test]
async fn a_resource_that_takes_nothing_keeps_no_connection() {
    for (patience, leaves) in [("10m", true), ("200ms", false)] {
        let azure = emulator().await;
        let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut command = serve(&azure);
        command.args(["--set", &format!("upstream.endpoint=http://{}", deaf.local_addr().unwrap())]);
        command.args(["--set", &format!("upstream.idle_timeout={patience}")]);
        let running = Running::start(&mut command).await;
        assert_eq!(running.get("/healthz").await.status(), 200);
        let Some(before) = running.process().open_files() else {
            return println!("skipped: only root may count a program's files");
        };
        let mut kept = Vec::new();
        for _ in 0..5 {
            let mut caller = TcpStream::connect(running.address()).await.unwrap();
            // An orderly end would wait behind what it has said.
            caller.set_zero_linger().unwrap();
            let head = b"POST /v1/x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000000\r\n\r\n";
            caller.write_all(head).await.unwrap();
            let (resource, _) = within(deaf.accept()).await.unwrap();
            // More than everybody on the way can hold.
            let sending = tokio::spawn(async move {
                let _ = caller.write_all(&vec![0; 64 << 20]).await;
                caller
            });
            within(resource.readable()).await.unwrap();
            kept.push((resource, sending.abort_handle()));
        }
        for (_, sending) in kept.iter().filter(|_| leaves) {
            sending.abort();
        }
        within(async {
            while running.process().open_files().unwrap() > before + 2 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}
