//! The program's life where it runs: before the network is there, killed and started anew, cut off, with next to nothing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aoai_auth_proxy::emulator::Emulator;
use futures_util::future::join_all;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::watch;

use crate::caller::Caller;
use crate::peers::{command, open_directory};
use crate::process::MIB;
use crate::program::{Running, emulator, has_namespaces, held_streams, serve};
use crate::support::{client, within};

/// A port that nobody else is given, and nobody listens on: whoever connects is refused, and whoever asks for it can have it.
pub(crate) struct Reserved {
    socket: Socket,
    pub(crate) address: SocketAddr,
}

impl Reserved {
    pub(crate) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self { socket, address }
    }

    /// From now on, connections are taken and lead to `to`.
    fn lead(self, to: &str) {
        let to = to.rsplit_once("//").unwrap().1.to_owned();
        self.socket.listen(128).unwrap();
        self.socket.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(self.socket.into()).unwrap();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut far = TcpStream::connect(&to).await.unwrap();
                tokio::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
            }
        });
    }
}

async fn all_finish(azure: &Emulator, streams: Vec<(Caller, Incoming)>) {
    azure.control().release();
    let ends = streams.into_iter().map(|(caller, content)| async {
        let text = within(content.collect()).await.expect("no break").to_bytes();
        assert!(text.ends_with(b"data: [DONE]\n\n"));
        drop(caller);
    });
    join_all(ends).await;
}

#[tokio::test]
async fn a_network_that_comes_later_makes_it_ready() {
    let azure = emulator().await;
    let (resource, identity) = (Reserved::new(), Reserved::new());
    let mut command = serve(&azure);
    command.args(["--set", &format!("upstream.endpoint=https://{}", resource.address)]);
    command.args(["--set", &format!("credential.imds_endpoint=http://{}", identity.address)]);
    let running = Running::start(&mut command).await;
    assert_eq!(running.get("/v1/models").await.status(), 503, "nobody gives a token");
    let (healthz, readyz) = (running.get("/healthz").await.status(), running.get("/readyz").await.status());
    assert_eq!((healthz.as_u16(), readyz.as_u16()), (200, 503));
    identity.lead(azure.imds());
    within(async { while running.get("/readyz").await.status() != 200 {} }).await;
    assert_eq!(running.get("/v1/models").await.status(), 502, "a token, and nobody to send it to");
    resource.lead(azure.openai());
    assert_eq!(running.get("/v1/models").await.status(), 200);
    assert_eq!(running.stop().await.0, 0);
}

/// Asks until it is answered; how often that was in vain.
async fn insists(url: &str, client: &reqwest::Client) -> usize {
    let mut in_vain = 0;
    loop {
        let answer = within(client.get(url).send()).await;
        if let Ok(answer) = answer
            && answer.status() == 200
            && within(answer.bytes()).await.is_ok_and(|content| !content.is_empty())
        {
            return in_vain;
        }
        in_vain += 1;
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn killed_under_load_and_started_anew_it_answers_whoever_asks_again() {
    const CALLERS: usize = 8;
    const EACH: usize = 30;
    let (azure, port) = (emulator().await, Reserved::new());
    let start = async || {
        let address = format!("listen.address={}", port.address);
        Running::start(serve(&azure).args(["--set", &address])).await
    };
    let mut running = start().await;
    let (answered, mut progress) = watch::channel(0);
    let answered = Arc::new(answered);
    let lost = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (url, answered, lost) = (format!("http://{}/v1/models", port.address), answered.clone(), lost.clone());
            tokio::spawn(async move {
                let client = client();
                for _ in 0..EACH {
                    lost.fetch_add(insists(&url, &client).await, Ordering::Relaxed);
                    answered.send_modify(|answered| *answered += 1);
                }
            })
        })
        .collect();
    for share in 1..=3 {
        within(progress.wait_for(|answered| *answered >= share * CALLERS * EACH / 4)).await.unwrap();
        running.process().signal(Signal::KILL);
        within(running.child.wait()).await.unwrap();
        // Nobody is there: whoever asks now is refused.
        assert!(TcpStream::connect(port.address).await.is_err());
        running = start().await;
    }
    for caller in callers {
        within(caller).await.unwrap();
    }
    assert_eq!(*progress.borrow(), CALLERS * EACH);
    println!("{} were lost on the way, and asked again", lost.load(Ordering::Relaxed));
    assert_eq!(running.stop().await.0, 0);
}

#[tokio::test]
async fn what_runs_has_as_long_as_was_said_and_no_longer() {
    for grace in ["0s", "200ms"] {
        let azure = emulator().await;
        let running = Running::start(serve(&azure).args(["--set", &format!("limits.shutdown_grace={grace}")])).await;
        let streams = held_streams(&running, &azure, vec![false; 2]).await;
        let (code, log) = running.stop().await;
        assert_eq!(code, 0, "as it was told: {log}");
        assert!(log.contains("what still ran after limits.shutdown_grace was cut off"), "{log}");
        for (_caller, content) in streams {
            assert!(within(content.collect()).await.is_err(), "broken off, not ended");
        }
        within(azure.control().until(|state| state.streams_open == 0)).await;
    }
}

/// Nothing to write to, no home, a user that nobody knows: a container's usual lot.
#[tokio::test]
async fn next_to_nothing_is_enough() {
    const USER: u32 = 54321;
    // Other file systems that are mounted stay as they are; what it could write to there, it may not.
    const SCRIPT: &str = "mount --make-rprivate / && mount -o remount,bind,ro / && ! touch /var/tmp/here 2>/dev/null && \
                          exec setpriv --reuid=54321 --regid=54321 --clear-groups \"$0\" \"$@\"";
    if !has_namespaces(&["--mount", "setpriv", "--reuid=54321"]).await {
        return;
    }
    let (azure, directory) = (emulator().await, open_directory());
    let starter = ["unshare", "--mount", "sh", "-c", SCRIPT];
    let mut command = command(&azure, directory.path(), &starter, 0, &["admin.address=127.0.0.1:0"]);
    let mut running = Running::start(command.env_remove("HOME")).await;
    let admin = running.admin().await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.child.id().unwrap())).unwrap();
    assert!(status.contains(&format!("Uid:\t{USER}\t{USER}\t")), "{status}");
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    assert_eq!(running.get("/v1/models").await.status(), 200);
    assert_eq!(within(client().get(format!("{admin}/readyz")).send()).await.unwrap().status(), 200);
    let (code, log) = running.stop().await;
    assert_eq!(code, 0, "{log}");
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

/// A group of processes that may have so much memory together; gone when this is dropped.
struct Limited(PathBuf);

impl Limited {
    /// Where the system lets us make one: in the first or the second version of control groups.
    fn to(bytes: u64) -> Option<Self> {
        let name = format!("aoai-auth-proxy-test-{}", std::process::id());
        let limits = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        limits.into_iter().find_map(|(root, limit)| {
            let group = Self(Path::new(root).join(&name));
            std::fs::create_dir(&group.0).ok()?;
            std::fs::write(group.0.join(limit), bytes.to_string()).ok()?;
            Some(group)
        })
    }

    /// The same command as one of the group from its first moment on.
    fn within(&self, command: &Command) -> Command {
        let command = command.as_std();
        let mut limited = Command::new("/bin/sh");
        limited.args(["-c", &format!("echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"", self.0.display())]);
        limited.arg(command.get_program()).args(command.get_args()).env_clear();
        limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        limited.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).kill_on_drop(true);
        limited
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Bytes that it holds in memory and the system cannot take back: without what is read of files, the program's own among them.
fn own_memory(running: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.child.id().unwrap())).unwrap();
    let kib = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")).unwrap();
    kib.parse::<u64>().unwrap() << 10
}

#[tokio::test]
async fn two_hundred_streams_fit_into_32_mebibytes() {
    const STREAMS: usize = 200;
    const MOST: u64 = 32 * MIB;
    let azure = emulator().await;
    let group = Limited::to(MOST);
    let mut command = group.as_ref().map_or_else(|| serve(&azure), |group| group.within(&serve(&azure)));
    if group.is_none() {
        println!("skipped: that the kernel keeps to the limit; no control group can be made here");
    }
    let running = Running::start(&mut command).await;
    let streams = held_streams(&running, &azure, vec![false; STREAMS]).await;
    for _ in 0..20 {
        assert_eq!(running.get("/v1/models").await.status(), 200);
    }
    let (held, most) = (own_memory(&running), running.process().most_memory());
    println!("{} KiB of its own, {} KiB at most with what is read of files", held >> 10, most >> 10);
    // An unoptimised program's file is most of the latter, and no memory that it holds.
    assert!(held < MOST, "it holds {} KiB", held >> 10);
    if !cfg!(debug_assertions) {
        assert!(most < MOST, "it held {} KiB", most >> 10);
    }
    all_finish(&azure, streams).await;
    let (code, log) = running.stop().await;
    assert_eq!(code, 0, "{log}");
}
