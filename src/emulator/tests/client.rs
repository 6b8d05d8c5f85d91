//! A client that speaks one chosen version of HTTP and shows everything that comes back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;
use url::form_urlencoded::Serializer;

use crate::clock::{ManualClock, SharedClock};
use crate::emulator::world::SYSTEM_ASSIGNED;
use crate::emulator::{Emulator, Options};

/// What the emulated data plane is for.
pub(super) const COGNITIVE_SERVICES: &str = "https://cognitiveservices.azure.com";

/// An emulator that speaks without pauses, by the machine's clock.
pub(super) async fn emulator() -> Emulator {
    Emulator::start(Options { word_delay: Duration::ZERO, ..Options::default() }).await.unwrap()
}

/// An emulator whose clock is set by hand.
pub(super) async fn emulator_with_clock() -> (Emulator, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::stopped());
    let options = Options { clock: clock.clone() as SharedClock, word_delay: Duration::ZERO, ..Options::default() };
    (Emulator::start(options).await.unwrap(), clock)
}

/// One connection; dropping it closes the connection.
pub(super) enum Connection {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// Both versions of HTTP, each on a connection to the data plane of its own.
    pub(super) async fn both(emulator: &Emulator) -> [Self; 2] {
        [Self::open(emulator, emulator.openai(), "http/1.1").await, Self::open(emulator, emulator.openai(), "h2").await]
    }

    /// A connection to `origin`; over TLS it speaks `protocol`, or else HTTP/1.1.
    pub(super) async fn open(emulator: &Emulator, origin: &str, protocol: &str) -> Self {
        let origin = Url::parse(origin).unwrap();
        let address = (origin.host_str().unwrap().to_owned(), origin.port().unwrap());
        let stream = TcpStream::connect((address.0.as_str(), address.1)).await.unwrap();
        if origin.scheme() == "http" {
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            return Self::Http1(sender);
        }
        let connector = TlsConnector::from(Arc::new(trusting(emulator, protocol)));
        let stream = connector.connect(ServerName::try_from(address.0).unwrap(), stream).await.unwrap();
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            Self::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            Self::Http1(sender)
        }
    }

    /// Sends a request; the answer's body is still to come.
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// Sends a request and reads the whole answer.
    pub(super) async fn fetch(&mut self, request: Request<Full<Bytes>>) -> Fetched {
        let (head, body) = self.send(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Fetched { status: head.status, headers: head.headers, body }
    }
}

/// A whole answer.
pub(super) struct Fetched {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Fetched {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A request without a body.
pub(super) fn get(url: &str, fields: &[(&str, &str)]) -> Request<Full<Bytes>> {
    request(Method::GET, url, fields, Bytes::new())
}

/// A request with a body.
pub(super) fn post(url: &str, fields: &[(&str, &str)], body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    request(Method::POST, url, fields, body.into())
}

/// Asks IMDS for a token.
pub(super) async fn imds(emulator: &Emulator, api_version: &str, resource: &str) -> Fetched {
    let mut client = Connection::open(emulator, emulator.imds(), "").await;
    let url =
        format!("{}/metadata/identity/oauth2/token?api-version={api_version}&resource={resource}", emulator.imds());
    client.fetch(get(&url, &[("metadata", "true")])).await
}

/// Asks Entra for a token for the data plane with the credential in `form`.
pub(super) async fn entra(emulator: &Emulator, tenant: &str, form: &[(&str, &str)]) -> Fetched {
    let mut client = Connection::open(emulator, emulator.entra(), "http/1.1").await;
    let mut body = Serializer::new(String::new());
    body.append_pair("grant_type", "client_credentials");
    body.append_pair("scope", &format!("{COGNITIVE_SERVICES}/.default"));
    body.extend_pairs(form);
    let url = format!("{}/{tenant}/oauth2/v2.0/token", emulator.entra());
    client.fetch(post(&url, &[("content-type", "application/x-www-form-urlencoded")], body.finish())).await
}

/// A chat completion for the system-assigned identity, streamed or whole.
pub(super) fn chat(emulator: &Emulator, stream: bool) -> Request<Full<Bytes>> {
    let token = emulator.access_token(&SYSTEM_ASSIGNED, COGNITIVE_SERVICES);
    chat_with(emulator, &token, stream)
}

/// A chat completion with a token of the test's choice.
pub(super) fn chat_with(emulator: &Emulator, token: &str, stream: bool) -> Request<Full<Bytes>> {
    let url = format!("{}/openai/v1/chat/completions", emulator.openai());
    let body = serde_json::json!({
        "model": "gpt-4o", "stream": stream, "messages": [{ "role": "user", "content": "hello" }],
    });
    let authorization = format!("Bearer {token}");
    post(&url, &[("authorization", &authorization), ("content-type", "application/json")], body.to_string())
}

fn request(method: Method, url: &str, fields: &[(&str, &str)], body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body)).unwrap()
}

fn trusting(emulator: &Emulator, protocol: &str) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(emulator.ca_file()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = [protocol, "http/1.1"].map(|protocol| protocol.as_bytes().to_vec()).to_vec();
    config
}
