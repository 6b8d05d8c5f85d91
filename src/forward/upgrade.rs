//! Connections that stop being HTTP: WebSockets above all. Bytes pass both ways until one side ends, or both fall silent.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::{CONNECTION, HeaderMap, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderValue, Request, Version};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::body::BodyError;
use super::http1::Switched;
use super::listening::Listening;
use crate::apps::KEY_PROTOCOL;
use crate::inspect::usage::{SocketUsageReader, Usage};
use crate::server::{Content, Rewound, Switch, list};
use crate::telemetry::exchange::Exchange;

/// The caller's side of a connection that may switch protocols.
#[derive(Debug)]
pub(super) struct Switching {
    /// What it asks for.
    pub(super) protocol: HeaderValue,
    pub(super) connection: Switch,
}

impl Switching {
    /// The wish of a request, if it has one.
    pub(super) fn wish(request: &mut Request<Content>) -> Option<Self> {
        let connection = request.body_mut().take_switch()?;
        Some(Self { protocol: asked_for(request)?, connection })
    }
}

/// The protocol that a request asks to switch to, if it does (RFC 9110 §7.8: HTTP/1.1 only, and `Connection` names it).
fn asked_for<B>(request: &Request<B>) -> Option<HeaderValue> {
    let fields = request.headers();
    let named = request.version() == Version::HTTP_11 && list::has(fields, &CONNECTION, "upgrade");
    // `h2c` is no longer a way to begin HTTP/2 (RFC 9113 §3.1), and would carry requests past every check of ours.
    let offered = fields.get(UPGRADE).filter(|protocol| !mentions_h2c(protocol));
    named.then(|| offered.cloned()).flatten()
}

/// Whether `chosen` is one of the protocols `offered`.
pub(super) fn is_among(chosen: &HeaderValue, offered: &HeaderValue) -> bool {
    let mut names = offered.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    names.any(|name| name.eq_ignore_ascii_case(chosen.as_bytes().trim_ascii()))
}

fn mentions_h2c(protocols: &HeaderValue) -> bool {
    is_among(&HeaderValue::from_static("h2c"), protocols)
}

/// Says on one message that this connection switches to `protocol`.
pub(super) fn announce(fields: &mut HeaderMap, protocol: HeaderValue) {
    fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(UPGRADE, protocol);
}

/// Removes a key of the caller's from the subprotocols it offers.
pub(super) fn remove_key_protocol(fields: &mut HeaderMap) {
    // Also in quotes, or behind something else: no protocol has this in its name.
    let is_key = |protocol: &&[u8]| {
        let mut parts = protocol.windows(KEY_PROTOCOL.len());
        parts.any(|part| part.eq_ignore_ascii_case(KEY_PROTOCOL.as_bytes()))
    };
    if !list::elements(fields, &SEC_WEBSOCKET_PROTOCOL).any(|protocol| is_key(&protocol)) {
        return;
    }
    let kept: Vec<&[u8]> =
        list::elements(fields, &SEC_WEBSOCKET_PROTOCOL).filter(|protocol| !is_key(protocol)).collect();
    let kept = HeaderValue::from_bytes(&kept.join(&b", "[..])).ok().filter(|kept| !kept.is_empty());
    fields.remove(SEC_WEBSOCKET_PROTOCOL);
    if let Some(kept) = kept {
        fields.insert(SEC_WEBSOCKET_PROTOCOL, kept);
    }
}

/// Passes bytes between the two sides once both have switched, in a task of its own, and ends `exchange` with them.
pub(super) fn join(caller: Switch, resource: Switched, longest_silence: Duration) -> oneshot::Sender<Box<Exchange>> {
    let (account, accounted) = oneshot::channel::<Box<Exchange>>();
    tokio::spawn(async move {
        let Ok(mut exchange) = accounted.await else { return };
        // Without a caller any more, the exchange counts as abandoned.
        let Some((caller, held)) = caller.switched().await else { return };
        let passing = pass(caller, resource, longest_silence, &mut exchange);
        held.running().unless_cut_off(passing).await;
        // Before `held`: whoever waits for the end wants to have heard of it.
        drop(exchange);
    });
    account
}

async fn pass(caller: Rewound, resource: Switched, longest_silence: Duration, exchange: &mut Exchange) {
    let heard = Mutex::new(Instant::now());
    let received = AtomicU64::new(0);
    let hear = || *heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    let mut caller = Listening { io: caller, on_read: |_: &[u8]| hear() };
    let spending = exchange.spending();
    let usage = Mutex::new(SocketUsageReader::new());
    let on_read = |bytes: &[u8]| {
        received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        hear();
        let told = |usage: Option<Usage>, model: Option<&str>| spending.spent(usage, model);
        usage.lock().unwrap_or_else(PoisonError::into_inner).read(bytes, told);
    };
    let mut resource = Listening { io: EndsAnyhow(resource), on_read };
    tokio::select! {
        ended = copy_bidirectional(&mut caller, &mut resource) => match ended {
            Ok(_) => exchange.completed(),
            Err(error) => exchange.broke_off(&error),
        },
        () = silence(&heard, longest_silence) => exchange.broke_off(&BodyError::Silent(longest_silence)),
    }
    exchange.passed(received.into_inner());
}

/// Takes the end of a connection for the end, also if TLS was not told of it: many servers do not tell, and what is spoken
/// here has its own way to say that it is over.
struct EndsAnyhow<T>(T);

impl<T: AsyncRead + Unpin> AsyncRead for EndsAnyhow<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.0).poll_read(cx, buffer)) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            read => Poll::Ready(read),
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for EndsAnyhow<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Completes once neither side has said anything for `longest`.
async fn silence(heard: &Mutex<Instant>, longest: Duration) {
    loop {
        let end = *heard.lock().unwrap_or_else(PoisonError::into_inner) + longest;
        if Instant::now() >= end {
            return;
        }
        sleep_until(end).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &[(&str, &str)]) -> Request<()> {
        let builder = Request::builder();
        fields.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value)).body(()).unwrap()
    }

    #[test]
    fn only_what_connection_names_is_a_wish() {
        assert_eq!(
            asked_for(&request(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")])).unwrap(),
            "websocket"
        );
        assert!(asked_for(&request(&[("upgrade", "websocket")])).is_none());
        assert!(asked_for(&request(&[("connection", "upgrade")])).is_none());
        assert!(
            asked_for(&request(&[("connection", "upgrade, http2-settings"), ("upgrade", "websocket, h2c")])).is_none()
        );
        let mut old = request(&[("connection", "upgrade"), ("upgrade", "websocket")]);
        *old.version_mut() = Version::HTTP_10;
        assert!(asked_for(&old).is_none());
    }

    #[test]
    fn a_key_among_the_subprotocols_stays_here() {
        let mut fields = request(&[
            ("sec-websocket-protocol", "realtime, OpenAI-insecure-api-key.sk-1"),
            ("sec-websocket-protocol", "openai-beta.realtime-v1"),
        ])
        .headers()
        .clone();
        remove_key_protocol(&mut fields);
        assert_eq!(fields[SEC_WEBSOCKET_PROTOCOL], "realtime, openai-beta.realtime-v1");
        let mut alone = request(&[("sec-websocket-protocol", "openai-insecure-api-key.sk-1")]).headers().clone();
        remove_key_protocol(&mut alone);
        assert!(!alone.contains_key(SEC_WEBSOCKET_PROTOCOL));
    }
}
