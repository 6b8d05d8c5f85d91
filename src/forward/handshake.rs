//! From a connected socket to something that sends requests over HTTP/2.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::listening::Listening;
use super::upload::RequestBody;
use crate::error::Causes;

/// A connection that carries streams is asked this often whether it is still there…
const PING: Duration = Duration::from_secs(30);
/// …and given this long to say so.
const PONG: Duration = Duration::from_secs(20);
/// Keeps a fast link full at 50 ms of distance, and bounds what a caller who does not read makes us hold.
const STREAM_WINDOW: u32 = 2 << 20;
/// The most there is (RFC 9113 §6.9.1): streams of callers who do not read must never use up what the others share.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// What an upstream allows that has not said so yet: it is not recommended to allow fewer (RFC 9113 §6.5.2).
const STREAMS_UNTOLD: usize = 100;

pub(super) type Http2 = http2::SendRequest<RequestBody>;

/// The streams of an HTTP/2 connection: one reference for the pool and one for each request under way.
#[derive(Debug)]
pub(super) struct Streams {
    /// How many the upstream allows at once.
    most: AtomicUsize,
}

impl Streams {
    /// Whether a request is under way.
    pub(super) fn any(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1
    }

    /// Whether the upstream would take another one at once.
    pub(super) fn have_room(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) <= self.most.load(Ordering::Relaxed)
    }
}

pub(super) async fn http2<I>(io: I) -> Result<(Http2, Arc<Streams>), hyper::Error>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let told = Arc::new(AtomicBool::new(false));
    let telling = told.clone();
    let io = Listening { io, on_read: move |_: &[u8]| telling.store(true, Ordering::Relaxed) };
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        // One does not have to wait for the upstream's settings, which are the first that it says; the others of a crowd do,
        // in the library's queue, since it may refuse what it does not allow.
        .initial_max_send_streams(1)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .handshake(TokioIo::new(io))
        .await?;
    let streams = Arc::new(Streams { most: AtomicUsize::new(STREAMS_UNTOLD) });
    let counted = Arc::downgrade(&streams);
    let mut connection = Box::pin(connection);
    let watched = poll_fn(move |cx| {
        let ended = connection.as_mut().poll(cx);
        // The upstream's settings come after the handshake, and may come again; they are seen with the next request.
        if told.load(Ordering::Relaxed)
            && let Some(streams) = counted.upgrade()
        {
            streams.most.store(connection.current_max_send_streams(), Ordering::Relaxed);
        }
        ended
    });
    tokio::spawn(run(watched));
    Ok((sender, streams))
}

/// Carries a connection to its end.
async fn run(connection: impl Future<Output = Result<(), hyper::Error>>) {
    if let Err(error) = connection.await {
        tracing::debug!(error = %Causes(&error), "upstream connection ended");
    }
}
