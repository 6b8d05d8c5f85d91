//! HTTP/2 with a caller who knows that it is spoken here (RFC 9113 §3.3): the library's, with our deadlines.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::sleep;

use super::content::Content;
use super::socket::Rewound;
use super::{Answer, Server};
use crate::error::Causes;
use crate::lifecycle::Held;

/// A caller is asked this often whether it is still there…
const PING: Duration = Duration::from_secs(60);
/// …and given this long to say so.
const PONG: Duration = Duration::from_secs(20);
/// Room for uploads to be under way; the protocol's own 64 KiB would make them crawl.
const WINDOW: u32 = 1 << 20;

/// Serves a connection until its end; `held` is what it holds meanwhile.
pub(super) async fn serve<A: Answer>(server: &Arc<Server<A>>, io: Rewound, held: Held) {
    let _held = held;
    let begun = AtomicBool::new(false);
    let service = service_fn(|request: Request<Incoming>| {
        begun.store(true, Ordering::Relaxed);
        let answer = server.answer.clone();
        async move { Ok::<_, Infallible>(answer.answer(request.map(Content::of_http2)).await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).keep_alive_interval(PING).keep_alive_timeout(PONG);
    builder.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW * 8);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    // A connection that stops within its first head has no deadline from the library.
    let never = async {
        sleep(server.limits.header_timeout).await;
        if begun.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = never => return,
        () = server.lifecycle.ending() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %Causes(&error), "a caller's connection ended");
    }
}
