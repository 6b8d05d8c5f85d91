//! `run`: what a command finds, hears and leaves behind.

use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;

use aoai_auth_proxy::emulator::{Action, Emulator, Fault, Route, world};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStdout, Command};

use crate::process::Process;
use crate::program::{emulator, executable, has_namespaces, outcome, program};
use crate::support::{chat, client, code, demo_settings, within};

/// `run` with these options, and no address but its own.
fn run(azure: &Emulator, options: &[&str], command: &[&str]) -> Command {
    let mut run = program();
    run.arg("run");
    for setting in demo_settings(azure).iter().filter(|setting| !setting.starts_with("listen.")) {
        run.args(["--set", setting]);
    }
    run.args(options).arg("--").args(command);
    run
}

/// The same with all ears, wherever the tests run: what a script starts in the background ignores some signals.
fn hearing(command: &Command) -> Command {
    under(if cfg!(target_os = "linux") { &["env", "--default-signal=HUP,INT,QUIT"] } else { &["env"] }, command)
}

/// The same, become by another program.
fn under(other: &[&str], command: &Command) -> Command {
    let command = command.as_std();
    let mut under = Command::new(other[0]);
    under.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    under.args(&other[1..]).arg(command.get_program()).args(command.get_args());
    under.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    under
}

/// A shell that says its `words` once it runs, and then reads until there is nothing more to read.
struct Reading {
    child: Child,
    output: BufReader<ChildStdout>,
    said: Vec<String>,
}

impl Reading {
    async fn start(azure: &Emulator, options: &[&str], words: &str) -> Self {
        let script = format!("echo {words}; exec cat");
        let mut child = hearing(&run(azure, options, &["sh", "-c", &script])).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        within(output.read_line(&mut line)).await.unwrap();
        Self { child, output, said: line.split_whitespace().map(str::to_owned).collect() }
    }

    fn signal(&self, signal: Signal) {
        Process::new(self.child.id().unwrap()).signal(signal);
    }

    /// Its exit status, once nobody writes its output any more.
    async fn end(mut self) -> Option<i32> {
        let mut rest = String::new();
        within(self.output.read_to_string(&mut rest)).await.unwrap();
        within(self.child.wait()).await.unwrap().code()
    }
}

const SERVED: &str = "$AZURE_OPENAI_ENDPOINT $OPENAI_API_KEY";

#[tokio::test]
async fn a_command_is_served_while_it_runs_and_nobody_else_is() {
    let azure = emulator().await;
    let mut reading = Reading::start(&azure, &[], SERVED).await;
    let [url, key] = &reading.said[..] else { panic!("{:?}", reading.said) };
    let models = || client().get(format!("{url}/v1/models"));
    let served = within(models().bearer_auth(key).send()).await.unwrap();
    assert_eq!(served.status(), 200, "{}", served.text().await.unwrap());
    assert_eq!(within(models().header("api-key", key).send()).await.unwrap().status(), 200);
    for refused in [models(), models().bearer_auth("run"), models().bearer_auth("sk-run-")] {
        assert_eq!(code(within(refused.send()).await.unwrap()).await, "invalid_key");
    }
    let address = url.strip_prefix("http://").unwrap().to_owned();
    drop(reading.child.stdin.take());
    assert_eq!(reading.end().await, Some(0));
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

/// What `env` says in a run, line by line.
async fn environment(run: &mut Command) -> Vec<String> {
    let (code, output, errors) = outcome(run).await;
    assert_eq!((code, errors.as_str()), (0, ""), "{output}");
    output.lines().map(str::to_owned).collect()
}

fn value<'a>(environment: &'a [String], name: &str) -> Option<&'a str> {
    let values = environment.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let values: Vec<_> = values.collect();
    assert!(values.len() <= 1, "{name}: {values:?}");
    values.first().copied()
}

#[tokio::test]
async fn tools_are_told_where_to_go_with_which_key() {
    let azure = emulator().await;
    let mut run = run(&azure, &[], &["env"]);
    run.env("OPENAI_API_KEY", "a-real-one").env("OPENAI_BASE_URL", "https://elsewhere.example");
    run.env("AZURE_OPENAI_AD_TOKEN", "another").env("KEPT", "as it was").env("OPENAI_API_VERSION", "2024-10-21");
    let environment = environment(&mut run).await;
    let value = |name| value(&environment, name);
    let root = value("AZURE_OPENAI_ENDPOINT").unwrap();
    let port = root.strip_prefix("http://127.0.0.1:").unwrap();
    assert!(port.parse::<u16>().unwrap() > 0);
    let base = format!("{root}/v1");
    let key = value("OPENAI_API_KEY").unwrap();
    assert!(key.starts_with("sk-run-") && key.len() == 50, "{key}");
    for (name, expected) in [
        ("OPENAI_BASE_URL", Some(base.as_str())),
        ("OPENAI_API_BASE", Some(&base)),
        ("AZURE_API_BASE", Some(root)),
        ("AZURE_OPENAI_API_KEY", Some(key)),
        ("AZURE_API_KEY", Some(key)),
        ("AZURE_OPENAI_AD_TOKEN", None),
        ("KEPT", Some("as it was")),
        ("OPENAI_API_VERSION", Some("2024-10-21")),
        ("OPENAI_API_TYPE", Some("openai")),
        ("NO_PROXY", None),
        ("no_proxy", None),
    ] {
        assert_eq!(value(name), expected, "{name}");
    }
}

#[tokio::test]
async fn a_forward_proxy_is_not_asked_for_this_machine() {
    let azure = emulator().await;
    let mut run = run(&azure, &[], &["env"]);
    run.env("HTTPS_PROXY", "http://127.0.0.1:9").env("NO_PROXY", "a.example");
    let environment = environment(&mut run).await;
    for name in ["NO_PROXY", "no_proxy"] {
        assert_eq!(value(&environment, name), Some("a.example,127.0.0.1,localhost,::1"), "{name}");
    }
}

#[tokio::test]
async fn secrets_that_the_proxy_signs_in_with_stay_with_it() {
    let azure = emulator().await;
    let tenant = format!("credential.tenant_id={}", world::TENANT_ID);
    let client = format!("credential.client_id={}", world::SERVICE_PRINCIPAL.client_id);
    let application = ["--set", "credential.kind=client-secret", "--set", &tenant, "--set", &client];
    let secret = ("AZURE_CLIENT_SECRET", world::CLIENT_SECRET);
    for (options, kept) in
        [(&application[..], false), (&[], true), (&[&application[..], &["--keep-secrets"]].concat(), true)]
    {
        let mut run = run(&azure, options, &["env"]);
        run.env(secret.0, secret.1).env("AOAI_PROXY__APPS__OTHER__KEY", "key-of-another-app");
        let environment = environment(&mut run).await;
        assert_eq!(value(&environment, secret.0), kept.then_some(secret.1), "{options:?}");
        assert!(!environment.iter().any(|line| line.contains("AOAI_PROXY__")), "{environment:?}");
    }
}

#[tokio::test]
async fn it_ends_as_the_command_does() {
    let azure = emulator().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let no_program = file.path().to_str().unwrap();
    for (command, code, words) in [
        (&["true"][..], 0, ""),
        (&["sh", "-c", "exit 3"], 3, ""),
        (&["sh", "-c", "kill -KILL $$"], 137, ""),
        (&["sh", "-c", "test \"$*\" = 'b -- c'", "a", "b", "--", "c"], 0, ""),
        (&["no-such-program"], 127, "cannot run no-such-program"),
        (&[no_program], 126, no_program),
    ] {
        let (ended, output, errors) = outcome(&mut run(&azure, &[], command)).await;
        assert_eq!((ended, output.as_str()), (code, ""), "{command:?}: {errors}");
        assert!(errors.contains(words) && errors.is_empty() == words.is_empty(), "{command:?}: {errors}");
    }
    assert_eq!(outcome(program().arg("run")).await.0, 2);
}

#[tokio::test]
async fn what_programs_send_is_passed_on() {
    let azure = emulator().await;
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2] {
        let reading = Reading::start(&azure, &[], "ready").await;
        reading.signal(signal);
        assert_eq!(reading.end().await, Some(128 + signal.as_raw()), "{signal:?}");
    }
}

/// Where no shell moves it between foreground and background, wherever the tests run.
#[cfg(target_os = "linux")]
fn without_a_terminal(command: &Command) -> Command {
    under(&["setsid"], command)
}

/// As `timeout` and `kill -- -PGID` send it: many programs give up at once when asked for the second time.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_signal_to_the_whole_group_arrives_once() {
    let azure = emulator().await;
    let script = "import signal, os\n\
                  heard = {signal.SIGTERM, signal.SIGWINCH}\n\
                  signal.pthread_sigmask(signal.SIG_BLOCK, heard)\n\
                  os.write(1, b'ready\\n')\n\
                  while signal.sigwait(heard) == signal.SIGTERM: os.write(1, b'TERM\\n')\n";
    let mut child = without_a_terminal(&run(&azure, &[], &["python3", "-c", script])).spawn().unwrap();
    let group = Process::new(child.id().unwrap()).0;
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    within(output.read_line(&mut said)).await.unwrap();
    // The proxy has it when the command has dealt with what reached it without us, or both might be taken for one.
    kill_process(group, Signal::STOP).unwrap();
    waitid(WaitId::Pid(group), WaitIdOptions::STOPPED).unwrap();
    kill_process_group(group, Signal::TERM).unwrap();
    let command = children(group);
    while command.iter().any(|pid| pending(pid, Signal::TERM)) {
        tokio::task::yield_now().await;
    }
    kill_process_group(group, Signal::CONT).unwrap();
    within(output.read_line(&mut said)).await.unwrap();
    // Of two that wait, the one with the lower number is taken first, by the proxy and by the command.
    kill_process(group, Signal::WINCH).unwrap();
    within(output.read_to_string(&mut said)).await.unwrap();
    assert_eq!(said, "ready\nTERM\n");
    within(child.wait()).await.unwrap();
}

/// As whoever is brought into a container: its session and its group were made outside, and have no number there.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_session_from_outside_of_the_container_is_no_obstacle() {
    let container = ["unshare", "--user", "--map-root-user", "--pid", "--fork"];
    if !has_namespaces(&container[1..]).await {
        return;
    }
    let azure = emulator().await;
    // Not as its first process, whose session is made with it.
    let script = ["sh", "-c", "\"$@\"; exit $?", "sh"];
    let program = run(&azure, &[], &["sh", "-c", "exit 3"]);
    let (code, _, errors) = outcome(&mut under(&container, &under(&script, &program))).await;
    assert_eq!((code, errors.as_str()), (3, ""));
}

#[cfg(target_os = "linux")]
fn children(of: Pid) -> Vec<String> {
    let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap();
    children.split_whitespace().map(str::to_owned).collect()
}

/// Whether the process has not dealt with this signal yet.
#[cfg(target_os = "linux")]
fn pending(process: &str, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap_or("0");
    u64::from_str_radix(mask.trim(), 16).unwrap() & (1 << (signal.as_raw() - 1)) != 0
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_a_script_has_started_ends_with_it() {
    let azure = emulator().await;
    let script = "sleep 1000 & echo ready; wait";
    let mut child = without_a_terminal(&run(&azure, &[], &["sh", "-c", script])).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    within(output.read_line(&mut said)).await.unwrap();
    Process::new(child.id().unwrap()).signal(Signal::TERM);
    // Not before `sleep` has ended, too.
    within(output.read_to_string(&mut said)).await.unwrap();
    assert_eq!(within(child.wait()).await.unwrap().code(), Some(128 + Signal::TERM.as_raw()));
}

#[tokio::test]
async fn who_waits_for_a_token_can_be_ended_with_all_that_waits() {
    let azure = emulator().await;
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let script = format!("#!/bin/sh\nexec 3> {}\necho waiting >&3\nsleep 1000\n", fifo.display());
    executable(&directory.path().join("az"), &script);
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut run = run(&azure, &["--set", "credential.kind=azure-cli"], &["true"]);
        run.env("PATH", format!("{}:/usr/bin:/bin", directory.path().display()));
        let mut child = hearing(&run).spawn().unwrap();
        // Not as a file: to open that would wait for the tool in a thread which nothing interrupts.
        let mut tool = BufReader::new(pipe::OpenOptions::new().open_receiver(&fifo).unwrap());
        let mut said = String::new();
        within(tool.read_line(&mut said)).await.unwrap();
        Process::new(child.id().unwrap()).signal(signal);
        assert_eq!(within(child.wait()).await.unwrap().signal(), Some(signal.as_raw()), "as if it were not caught");
        within(tool.read_to_string(&mut said)).await.unwrap();
        assert_eq!(said, "waiting\n", "and its tools are gone");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_command_does_not_outlive_its_proxy() {
    let azure = emulator().await;
    let reading = Reading::start(&azure, &[], "ready").await;
    reading.signal(Signal::KILL);
    // Its input is open still: it is not for want of that that it ends.
    assert_eq!(reading.end().await, None, "killed");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_command_has_what_it_would_have_without_us() {
    let azure = emulator().await;
    let look = "ls /proc/self/fd; ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc; \
                grep -E '^(Sig(Blk|Ign|Cgt)|NoNewPrivs|Seccomp):' /proc/self/status | sed -E 's/[0-9a-f]{9}([0-9a-f]{7})$/\\1/'";
    // Of the signals, those below 29: what the system's library does with its own, and with real-time ones, is its affair.
    // Limits that are not ours, a signal that is to be ignored, and then either.
    let with = |command: &mut Command| {
        let command = command.as_std();
        let words = [command.get_program()].into_iter().chain(command.get_args());
        let mut shell = program();
        shell.args(["-c", "trap '' HUP; ulimit -Sn 100; ulimit -Sc 100 2>/dev/null; exec \"$0\" \"$@\""]);
        let mut wrapped = Command::new("sh");
        wrapped.env_clear().args(shell.as_std().get_args()).args(words);
        wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        wrapped.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        wrapped
    };
    let (code, ours, errors) = outcome(&mut with(&mut run(&azure, &[], &["sh", "-c", look]))).await;
    assert_eq!(code, 0, "{errors}");
    let direct = outcome(&mut with(Command::new("sh").args(["-c", look]).env("PATH", "/usr/bin:/bin"))).await;
    assert_eq!((0, ours, String::new()), direct);
}

#[tokio::test]
async fn without_a_token_nothing_is_started() {
    let azure = emulator().await;
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    for (status, words) in [
        (
            400,
            &["touch was not started: managed-identity", "To mend it: assign an identity", "az vm identity assign"][..],
        ),
        (503, &["touch was not started: no token within 1 s: managed-identity", "503"]),
    ] {
        azure.control().fault(Fault::new(Route::Imds, Action::status(status)));
        let command = ["touch", trace.to_str().unwrap()];
        let (code, output, errors) = outcome(&mut run(&azure, &["--wait", "1"], &command)).await;
        azure.control().clear_faults();
        assert_eq!((code, output.as_str()), (1, ""), "{errors}");
        assert!(words.iter().all(|word| errors.contains(word)), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(!trace.exists());
    }
}

#[tokio::test]
async fn what_passes_is_waited_for() {
    let azure = emulator().await;
    azure.control().fault(Fault { route: Route::Imds, action: Action::status(503), count: Some(1) });
    assert_eq!(outcome(&mut run(&azure, &[], &["echo", "started"])).await, (0, "started\n".to_owned(), String::new()));
}

#[tokio::test]
async fn a_proxy_that_runs_is_left_alone() {
    let azure = emulator().await;
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("proxy.sock");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let configured = |run: &mut Command, socket: &Path| {
        run.env("AOAI_PROXY__LISTEN__ADDRESS", &taken).env("AOAI_PROXY__LISTEN__UNIX_SOCKET", socket);
        run.env("AOAI_PROXY__ACCESS__ALLOWED_HOSTS", "proxy.internal");
    };
    let script = "curl -sf -o /dev/null -H \"api-key: $OPENAI_API_KEY\" $OPENAI_BASE_URL/models";
    let mut usual = run(&azure, &[], &["sh", "-c", &format!("{script} && ls {}", directory.path().display())]);
    configured(&mut usual, &socket);
    assert_eq!(outcome(&mut usual).await, (0, String::new(), String::new()));
    let (code, _, errors) = outcome(&mut run(&azure, &["--listen", &taken], &["true"])).await;
    assert_eq!(code, 1);
    assert!(errors.contains(&taken), "{errors}");
}

#[tokio::test]
async fn an_app_lends_its_models() {
    let azure = emulator().await;
    let settings = ["--set", "apps.narrow.models=gpt-4o", "--app"];
    let reading = Reading::start(&azure, &[&settings[..], &["narrow"]].concat(), SERVED).await;
    let [url, key] = &reading.said[..] else { panic!("{:?}", reading.said) };
    let asked = client().post(format!("{url}/v1/chat/completions")).bearer_auth(key).json(&chat(false));
    assert_eq!(code(within(asked.send()).await.unwrap()).await, "model_denied");
    let (code, _, errors) = outcome(&mut run(&azure, &[&settings[..], &["wide"]].concat(), &["true"])).await;
    assert_eq!(code, 2);
    assert!(errors.contains("apps.wide") && errors.contains("narrow"), "{errors}");
}
