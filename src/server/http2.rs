//! HTTP/2 with a caller who knows that it is spoken here (RFC 9113 §3.3): the library's, with our deadlines.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Request};
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::sleep;

use super::content::Content;
use super::socket::Rewound;
use super::streams::{Streams, is_expendable};
use super::{Answer, Expendable, Remote, Server};
use crate::error::{Causes, ProxyError};
use crate::http1::fields::MOST as MOST_FIELDS;
use crate::lifecycle::Held;

/// A caller is asked this often whether it is still there…
const PING: Duration = Duration::from_secs(60);
/// …and given this long to say so.
const PONG: Duration = Duration::from_secs(20);
/// How many requests a caller may have under way on one connection…
const STREAMS: u32 = 200;
/// …and room for the content of each: uploads that stand still must neither fill the memory nor hold others up.
const WINDOW: u32 = 256 << 10;

/// How long a head may be, as over HTTP/1.1.
const LONGEST_HEAD: u32 = 64 * 1024;

/// Serves a connection until its end; `held` is what it holds meanwhile.
pub(super) async fn serve<A: Answer>(server: &Arc<Server<A>>, io: Rewound, remote: Option<Remote>, held: Held) {
    let begun = AtomicBool::new(false);
    let service = service_fn(|request: Request<Incoming>| {
        begun.store(true, Ordering::Relaxed);
        let answer = server.answer.clone();
        async move {
            let mut response = match check(request.headers()) {
                Ok(()) => answer.answer(Box::new(request.map(|incoming| Content::of_http2(incoming, remote)))).await,
                Err(error) => answer.refuse(error),
            };
            if let Some(until) = response.extensions_mut().remove::<Expendable>() {
                is_expendable(until);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = Builder::new(Streams(held));
    builder.timer(TokioTimer::new()).keep_alive_interval(PING).keep_alive_timeout(PONG);
    builder.max_concurrent_streams(STREAMS);
    builder.initial_stream_window_size(WINDOW).initial_connection_window_size(STREAMS * WINDOW);
    builder.max_header_list_size(LONGEST_HEAD);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    // A connection that stops within its first head has no deadline from the library.
    let mut never = pin!(async {
        sleep(server.limits.header_timeout).await;
        if begun.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    });
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = &mut never => return,
        () = server.lifecycle.ending() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = never => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %Causes(&error), "a caller's connection ended");
    }
}

/// What HTTP/1.1's reader would refuse, and the library lets pass.
fn check(fields: &HeaderMap) -> Result<(), ProxyError> {
    if fields.len() > MOST_FIELDS {
        return Err(ProxyError::HeadTooLarge);
    }
    if fields.get_all(CONTENT_LENGTH).iter().nth(1).is_some() {
        return Err(ProxyError::InvalidRequest("the request has more than one Content-Length".into()));
    }
    Ok(())
}
