//! A small world for each test: an Azure of its own, a proxy in front of it, a clock that is set by hand.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aoai_auth_proxy::app::{App, Books};
use aoai_auth_proxy::clock::ManualClock;
use aoai_auth_proxy::config::{Config, Overrides};
use aoai_auth_proxy::emulator::{Action, Emulator, Fault, Options, Recorded, Route};
use aoai_auth_proxy::identity::credential::Credentials;
use aoai_auth_proxy::ledger::Ledger;
use aoai_auth_proxy::lifecycle::Lifecycle;
use aoai_auth_proxy::server::{Drained, Listeners, serve};
use aoai_auth_proxy::tls;
use aoai_auth_proxy::workers::Workers;
use tokio::task::JoinHandle;

/// Longer than anything here takes, shorter than anyone waits for a test that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Azure, a proxy, a caller.
pub(crate) struct World {
    pub(crate) azure: Emulator,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) proxy: Proxy,
    pub(crate) client: reqwest::Client,
}

/// A proxy that serves.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) serving: JoinHandle<std::io::Result<Drained>>,
}

impl World {
    /// A proxy as the demo configures it: managed identity from IMDS.
    pub(crate) async fn new() -> Self {
        Self::with(&[], |_| ()).await
    }

    /// The same with other settings (`section.key=value`, later wins) and faults that are there from the start.
    pub(crate) async fn with(settings: &[&str], prepare: impl FnOnce(&Emulator)) -> Self {
        Self::over(true, settings, prepare).await
    }

    /// The same against a resource that does, or does not, speak HTTP/2.
    pub(crate) async fn over(http2: bool, settings: &[&str], prepare: impl FnOnce(&Emulator)) -> Self {
        let (azure, clock) = azure(http2).await;
        prepare(&azure);
        let mut all = demo_settings(&azure);
        all.extend(settings.iter().map(|setting| (*setting).to_owned()));
        let proxy = proxy(&all, &clock).await;
        Self { azure, clock, proxy, client: client() }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.proxy.address)
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        within(self.client.get(self.url(path)).send()).await.expect("an answer")
    }

    pub(crate) async fn chat(&self) -> reqwest::Response {
        within(self.client.post(self.url("/v1/chat/completions")).json(&chat(false)).send()).await.expect("an answer")
    }

    pub(crate) async fn chat_stream(&self) -> reqwest::Response {
        within(self.client.post(self.url("/v1/chat/completions")).json(&chat(true)).send()).await.expect("an answer")
    }

    /// The last request that came on `route`.
    pub(crate) fn last(&self, route: Route) -> Recorded {
        last(&self.azure, route)
    }

    /// How many connections the proxy has made to the resource.
    pub(crate) fn upstream_connections(&self) -> usize {
        let requests = self.azure.control().requests();
        let connections: BTreeSet<u64> = requests
            .iter()
            .filter(|request| on_the_resource(request.route))
            .map(|request| request.connection)
            .collect();
        connections.len()
    }

    /// Uploads a file of this content; its id.
    pub(crate) async fn upload(&self, content: &[u8]) -> String {
        let boundary = "a-boundary-that-is-nowhere-in-it";
        let part = |disposition: &str| format!("--{boundary}\r\ncontent-disposition: form-data; {disposition}\r\n\r\n");
        let form = [
            part(r#"name="purpose""#).as_bytes(),
            b"assistants\r\n",
            part(r#"name="file"; filename="f.bin""#).as_bytes(),
            content,
            format!("\r\n--{boundary}--\r\n").as_bytes(),
        ]
        .concat();
        let request = self.client.post(self.url("/v1/files"));
        let request = request.header("content-type", format!("multipart/form-data; boundary={boundary}")).body(form);
        let uploaded: serde_json::Value = within(request.send()).await.expect("an answer").json().await.expect("JSON");
        uploaded["id"].as_str().expect("an id").to_owned()
    }

    pub(crate) fn fault(&self, route: Route, action: Action, count: Option<u32>) {
        self.azure.control().fault(Fault { route, action, count });
    }
}

/// The last request that came on `route`; for [`Route::OpenAi`], on any of the resource's.
pub(crate) fn last(azure: &Emulator, route: Route) -> Recorded {
    let meant = |request: &Recorded| request.route == route || route == Route::OpenAi && on_the_resource(request.route);
    azure.control().requests().into_iter().rev().find(meant).expect("a request")
}

fn on_the_resource(route: Route) -> bool {
    !matches!(route, Route::Imds | Route::Metadata | Route::AppService | Route::Entra | Route::Management)
}

/// An Azure on a clock that stands still.
pub(crate) async fn azure(http2: bool) -> (Emulator, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::stopped());
    let options = Options { clock: clock.clone(), word_delay: Duration::ZERO, http2, ..Options::default() };
    (Emulator::start(options).await.expect("an emulator"), clock)
}

/// What points a proxy at `azure`, as an operator would.
pub(crate) fn demo_settings(azure: &Emulator) -> Vec<String> {
    vec![
        "listen.address=127.0.0.1:0".to_owned(),
        format!("upstream.endpoint={}", azure.openai()),
        format!("upstream.ca_file={}", azure.ca_file().display()),
        "credential.kind=managed-identity".to_owned(),
        format!("credential.imds_endpoint={}", azure.imds()),
        format!("credential.authority_host={}", azure.entra()),
        format!("management.endpoint={}", azure.management()),
        format!("management.subscription_id={}", azure.subscription_id()),
        format!("management.location={}", azure.location()),
    ]
}

pub(crate) fn config(settings: &[String]) -> Config {
    Config::isolated(&Overrides { assignments: settings.to_vec(), ..Overrides::default() }).expect("a configuration")
}

pub(crate) async fn proxy(settings: &[String], clock: &Arc<ManualClock>) -> Proxy {
    let config = config(settings);
    let tls = tls::client(&config.upstream.authorities).expect("TLS");
    let credentials = Credentials::new(&config, tls.clone(), clock.clone()).expect("credentials");
    let lifecycle = Lifecycle::new();
    // Told of, and not written to.
    let open = |settings| Ledger::open(settings, clock.clone()).expect("a ledger").condition();
    let books = Books { ledger: config.ledger.as_ref().map(open), ..Books::default() };
    let app = App::new(&config, &tls, &credentials, clock.clone(), lifecycle.clone(), books).expect("an app");
    let listeners = Listeners::bind(&config.listen, &config.access.peer_users).expect("a socket");
    let address = listeners.address().expect("its address");
    app.start();
    let (life, clock) = (lifecycle.clone(), clock.clone());
    let serving =
        tokio::spawn(async move { serve(listeners, app, config.limits, life, clock, &Workers::none()).await });
    Proxy { address, lifecycle, serving }
}

pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls::client(&[]).expect("TLS"))
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client")
}

pub(crate) fn chat(stream: bool) -> serde_json::Value {
    serde_json::json!({
        "model": "gpt-4o-mini",
        "stream": stream,
        "messages": [{ "role": "user", "content": "one two three four five" }],
    })
}

/// Fails the test instead of hanging it.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("within a minute")
}

/// The `code` of an error in the proxy's own shape.
pub(crate) async fn code(response: reqwest::Response) -> String {
    let content: serde_json::Value = within(response.json()).await.expect("JSON");
    assert_eq!(content["error"]["type"], "proxy_error", "{content}");
    content["error"]["code"].as_str().expect("a code").to_owned()
}
