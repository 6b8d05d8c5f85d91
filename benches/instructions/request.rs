//! The proxy on this thread, and on other threads whoever asks and whoever answers: what this thread does is the proxy's.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use aoai_auth_proxy::app::{App, Books};
use aoai_auth_proxy::clock::SystemClock;
use aoai_auth_proxy::config::{Config, Overrides};
use aoai_auth_proxy::emulator::{Emulator, Options};
use aoai_auth_proxy::identity::credential::Credentials;
use aoai_auth_proxy::lifecycle::Lifecycle;
use aoai_auth_proxy::server::{Listeners, serve};
use aoai_auth_proxy::tls;
use aoai_auth_proxy::workers::Workers;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

/// How many requests are counted.
const REQUESTS: usize = 100;
/// How many are not, before: connections are made, and everything was done once.
const BEFORE: usize = 20;

const CONTENT: &str = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"one two three four five"}]}"#;

/// A caller that is about to ask, and the proxy that is about to pass it on.
pub(crate) struct Passing {
    runtime: Runtime,
    caller: Option<TcpStream>,
    /// The resource, and what runs it.
    _azure: (Emulator, Runtime),
}

impl Passing {
    /// In which version of HTTP the resource speaks, is said by `http2`.
    pub(crate) fn start(http2: bool) -> Self {
        let azure = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let options = Options { http2, word_delay: Duration::ZERO, ..Options::default() };
        let emulator = azure.block_on(Emulator::start(options)).expect("the resource");
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let address = begin(&emulator, &runtime);
        let caller = TcpStream::connect(address).expect("a connection");
        let mut passing = Self { runtime, caller: Some(caller), _azure: (emulator, azure) };
        passing.ask(BEFORE);
        passing
    }

    /// All that is counted.
    pub(crate) fn all(mut self) -> Self {
        self.ask(REQUESTS);
        self
    }

    fn ask(&mut self, times: usize) {
        let (tell, told) = oneshot::channel();
        let mut caller = self.caller.take().expect("a connection");
        thread::spawn(move || {
            (0..times).for_each(|_| ask(&mut caller));
            tell.send(caller)
        });
        self.caller = Some(self.runtime.block_on(told).expect("answers"));
    }
}

/// As OpenAI's client for Python asks.
fn request() -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\naccept-encoding: gzip, deflate\r\n\
         accept: application/json\r\ncontent-type: application/json\r\nuser-agent: OpenAI/Python 2.8.0\r\n\
         authorization: Bearer unused\r\ncontent-length: {}\r\n\r\n{CONTENT}",
        CONTENT.len()
    )
}

/// Asks once, and takes the whole answer.
fn ask(caller: &mut TcpStream) {
    caller.write_all(request().as_bytes()).expect("a connection");
    let mut answer = Vec::new();
    let (head, length) = loop {
        let mut piece = [0; 4096];
        let read = caller.read(&mut piece).expect("an answer");
        assert!(read > 0, "the connection is closed: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&answer);
        let Some(end) = text.find("\r\n\r\n") else { continue };
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        break (end + 4, length.parse::<usize>().expect("a number"));
    };
    let mut rest = vec![0; head + length - answer.len()];
    caller.read_exact(&mut rest).expect("the rest");
}

/// The proxy, once it is connected to.
fn begin(azure: &Emulator, runtime: &Runtime) -> SocketAddr {
    let assignments = vec![
        "listen.address=127.0.0.1:0".to_owned(),
        format!("upstream.endpoint={}", azure.openai()),
        format!("upstream.ca_file={}", azure.ca_file().display()),
        "credential.kind=managed-identity".to_owned(),
        format!("credential.imds_endpoint={}", azure.imds()),
    ];
    let config = Config::isolated(&Overrides { assignments, ..Overrides::default() }).expect("a configuration");
    let _within = runtime.enter();
    let (tls, clock) = (tls::client(&config.upstream.authorities).expect("TLS"), Arc::new(SystemClock));
    let credentials = Credentials::new(&config, tls.clone(), clock.clone()).expect("credentials");
    let lifecycle = Lifecycle::new();
    let app =
        App::new(&config, &tls, &credentials, clock.clone(), lifecycle.clone(), Books::default()).expect("an app");
    let listeners = Listeners::bind(&config.listen, &config.access.peer_users).expect("a socket");
    let address = listeners.address().expect("its address");
    app.start();
    tokio::spawn(async move { serve(listeners, app, config.limits, lifecycle, clock, &Workers::none()).await });
    address
}
