//! Connections that stop being HTTP: WebSockets above all. Bytes pass both ways until one side ends, or both fall silent.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::{CONNECTION, HeaderMap, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderValue, Request, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::{Instant, sleep_until};

/// Browsers cannot set fields on a WebSocket, so OpenAI takes a key as the end of a subprotocol that begins so.
const KEY_PROTOCOL: &str = "openai-insecure-api-key.";

/// The protocol that a request asks to switch to, if it does (RFC 9110 §7.8: HTTP/1.1 only, and `Connection` names it).
pub(super) fn asked_for<B>(request: &Request<B>) -> Option<HeaderValue> {
    let fields = request.headers();
    let mut named =
        fields.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let named = request.version() == Version::HTTP_11 && named.any(|name| name.trim().eq_ignore_ascii_case("upgrade"));
    named.then(|| fields.get(UPGRADE).cloned()).flatten()
}

/// Says on one message that this connection switches to `protocol`.
pub(super) fn announce(fields: &mut HeaderMap, protocol: HeaderValue) {
    fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(UPGRADE, protocol);
}

/// Removes a key of the caller's from the subprotocols it offers.
pub(super) fn remove_key_protocol(fields: &mut HeaderMap) {
    let offered: Vec<&str> = fields
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    if !offered.iter().any(|protocol| protocol.starts_with(KEY_PROTOCOL)) {
        return;
    }
    let kept: Vec<&str> = offered.into_iter().filter(|protocol| !protocol.starts_with(KEY_PROTOCOL)).collect();
    let kept = HeaderValue::try_from(kept.join(", ")).ok().filter(|kept| !kept.is_empty());
    fields.remove(SEC_WEBSOCKET_PROTOCOL);
    if let Some(kept) = kept {
        fields.insert(SEC_WEBSOCKET_PROTOCOL, kept);
    }
}

/// Passes bytes between the two sides once both have switched, in a task of its own.
pub(super) fn join(caller: OnUpgrade, resource: OnUpgrade, longest_silence: Duration) {
    tokio::spawn(async move {
        let (caller, resource) = match tokio::try_join!(caller, resource) {
            Ok(sides) => sides,
            Err(error) => {
                tracing::debug!(%error, "a connection did not switch protocols");
                return;
            }
        };
        let heard = Arc::new(Mutex::new(Instant::now()));
        let mut caller = Heard { io: TokioIo::new(caller), last: heard.clone() };
        let mut resource = Heard { io: TokioIo::new(resource), last: heard.clone() };
        tokio::select! {
            ended = copy_bidirectional(&mut caller, &mut resource) => match ended {
                Ok((sent, received)) => tracing::info!(sent, received, "upgraded connection ended"),
                Err(error) => tracing::info!(%error, "upgraded connection broke off"),
            },
            () = silence(&heard, longest_silence) => {
                tracing::warn!(seconds = longest_silence.as_secs(), "upgraded connection fell silent; closed");
            }
        }
    });
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

/// One side, and when something was last read from either.
struct Heard<T> {
    io: T,
    last: Arc<Mutex<Instant>>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Heard<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buffer));
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Poll::Ready(read)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Heard<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
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
        let mut old = request(&[("connection", "upgrade"), ("upgrade", "websocket")]);
        *old.version_mut() = Version::HTTP_10;
        assert!(asked_for(&old).is_none());
    }

    #[test]
    fn a_key_among_the_subprotocols_stays_here() {
        let mut fields = request(&[
            ("sec-websocket-protocol", "realtime, openai-insecure-api-key.sk-1"),
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
