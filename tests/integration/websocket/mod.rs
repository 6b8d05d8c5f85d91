//! WebSockets pass through the proxy with our token at their beginning, and as they are from then on.

mod conversation;
mod ends;
mod messages;
mod refusals;

use aoai_auth_proxy::emulator::Emulator;
use futures_util::{SinkExt, StreamExt};
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderName, HeaderValue, Response};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response as Agreed};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config, client_async_with_config};

use crate::support::{Proxy, azure, demo_settings, proxy, within};

pub(crate) type Socket = WebSocketStream<TcpStream>;

/// A caller's handshake as a text; the extension is one that nobody here speaks.
const HANDSHAKE: &str = "GET /v1/realtime?model=m HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\
                         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-other;a=\"b\"\r\n\r\n";
/// And the resource's.
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                      sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
                      Sec-WebSocket-Extensions: permessage-deflate;server_no_context_takeover\r\n\r\n";

/// Messages of any length.
fn unlimited() -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(None).max_frame_size(None)
}

/// Opens a WebSocket at the proxy as clients do.
pub(crate) async fn open(
    proxy: &Proxy,
    path: &str,
    fields: &[(&'static str, &str)],
) -> Result<(Socket, Response<Option<Vec<u8>>>), Error> {
    let mut request = format!("ws://{}{path}", proxy.address).into_client_request().unwrap();
    for (name, value) in fields {
        request.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    let stream = TcpStream::connect(proxy.address).await.unwrap();
    within(client_async_with_config(request, stream, Some(unlimited()))).await
}

/// The next message that comes.
async fn next(socket: &mut Socket) -> Message {
    within(socket.next()).await.unwrap().unwrap()
}

/// Says something, as JSON.
pub(crate) async fn say(socket: &mut Socket, event: Value) {
    within(socket.send(Message::text(event.to_string()))).await.unwrap();
}

/// The next message that comes, as JSON.
async fn hear(socket: &mut Socket) -> Value {
    serde_json::from_str(next(socket).await.to_text().unwrap()).unwrap()
}

/// What comes up to an event of this type, with it.
pub(crate) async fn hear_until(socket: &mut Socket, last: &str) -> Vec<Value> {
    let mut events = Vec::new();
    while events.last().is_none_or(|event: &Value| event["type"] != last) {
        events.push(hear(socket).await);
    }
    events
}

/// The `type` of each event.
fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

/// A proxy in front of a resource that is a socket.
struct Before {
    proxy: Proxy,
    listener: TcpListener,
    _azure: Emulator,
}

impl Before {
    async fn a_socket(settings: &[&str]) -> Self {
        let (azure, clock) = azure(true).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut all = demo_settings(&azure);
        all.push(format!("upstream.endpoint=http://{}", listener.local_addr().unwrap()));
        all.extend(settings.iter().map(|setting| (*setting).to_owned()));
        let proxy = proxy(&all, &clock).await;
        Self { proxy, listener, _azure: azure }
    }

    /// Both ends of a WebSocket through the proxy: the caller's and the resource's, which takes the first subprotocol.
    async fn open(&self, fields: &[(&'static str, &str)]) -> (Socket, Socket, Response<Option<Vec<u8>>>) {
        let (caller, resource) = tokio::join!(open(&self.proxy, "/v1/realtime?model=m", fields), self.accept());
        let (caller, answer) = caller.unwrap();
        (caller, resource, answer)
    }

    async fn accept(&self) -> Socket {
        let (stream, _) = within(self.listener.accept()).await.unwrap();
        #[expect(clippy::result_large_err, reason = "the library wants it so")]
        let choose = |request: &Request, mut agreed: Agreed| {
            let offered = request.headers().get(SEC_WEBSOCKET_PROTOCOL).and_then(|offered| offered.to_str().ok());
            if let Some(first) = offered.and_then(|offered| offered.split(',').next()) {
                agreed.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, first.parse().unwrap());
            }
            Ok(agreed)
        };
        within(accept_hdr_async_with_config(stream, choose, Some(unlimited()))).await.unwrap()
    }

    /// Both ends as plain bytes, and the heads that came there.
    async fn open_plainly(&self) -> ((TcpStream, String), (TcpStream, String)) {
        let mut caller = TcpStream::connect(self.proxy.address).await.unwrap();
        caller.write_all(HANDSHAKE.as_bytes()).await.unwrap();
        let (mut resource, _) = within(self.listener.accept()).await.unwrap();
        let asked = head(&mut resource).await;
        resource.write_all(AGREED.as_bytes()).await.unwrap();
        let answered = head(&mut caller).await;
        assert!(answered.starts_with("HTTP/1.1 101 "), "{answered}");
        ((caller, answered), (resource, asked))
    }
}

/// Reads up to the end of a head.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within(stream.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}
