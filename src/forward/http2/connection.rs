//! A connection's life: how it begins, who carries it, and how it is found out that the other side is gone.

use std::future::Future as _;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection};
use h2::{Ping, PingPong};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::outlet::Outlet;
use super::{Line, Session, open};
use crate::error::Causes;
use crate::forward::link::Link;

/// For how long a resource may be silent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Whoever owes responses, and said nothing from one look to the next, is asked whether it is still there…
    pub(super) silence: Duration,
    /// …and given this long to say so.
    pub(super) answer: Duration,
}

pub(super) const PATIENCE: Patience = Patience { silence: Duration::from_secs(30), answer: Duration::from_secs(20) };
/// Keeps a fast link full at 50 ms of distance, and bounds what a caller who does not read makes us hold.
const STREAM_WINDOW: u32 = 2 << 20;
/// The most there is (RFC 9113 §6.9.1): streams of callers who do not read must never use up what the others share.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// The longest head of a response, as HTTP/2 counts it (RFC 9113 §6.5.2).
const LONGEST_HEAD: u32 = 16 * 1024;
/// How much of a request's content may wait in the library.
const MOST_WAITING: usize = 1 << 20;

/// Begins a connection, and has it carried.
pub(super) async fn begin(io: Link, patience: Patience) -> Result<Session, h2::Error> {
    let outlet = Outlet::new(io);
    let (sender, mut connection) = Builder::new()
        // One does not have to wait for the upstream's settings, which are the first that it says; the others of a crowd do,
        // in the library's queue, since it may refuse what it does not allow.
        .initial_max_send_streams(1)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(LONGEST_HEAD)
        .max_send_buffer_size(MOST_WAITING)
        .enable_push(false)
        .handshake(outlet.clone())
        .await?;
    let pings = connection.ping_pong();
    let line = Arc::new(Line::new(outlet));
    let carried = tokio::spawn(carry(connection, line.clone()));
    if let Some(pings) = pings {
        tokio::spawn(watch(pings, line.clone(), carried.abort_handle(), patience));
    }
    Ok(Session { sender, line })
}

/// Carries a connection to its end.
async fn carry(connection: Connection<Outlet<Link>, Bytes>, line: Arc<Line>) {
    // Dropped in the other order: streams are told what has happened before they find the connection closed.
    let over = Over(line);
    let mut connection = connection;
    if let Err(error) = poll_fn(|cx| poll(&mut connection, &over.0, cx)).await {
        tracing::debug!(error = %Causes(&error), "upstream connection ended");
    }
}

fn poll(
    connection: &mut Connection<Outlet<Link>, Bytes>,
    line: &Line,
    cx: &mut Context<'_>,
) -> Poll<Result<(), h2::Error>> {
    let mut carry_on = |cx: &mut Context<'_>| {
        let _gate = open(&line.gate);
        Pin::new(&mut *connection).poll(cx)
    };
    let mut ended = carry_on(cx);
    // What all requests have to say has come together. What cannot be written now is written when it can.
    if ended.is_pending() && line.outlet.drains_in_vain(cx) {
        ended = carry_on(cx);
    }
    // The upstream's settings come after the handshake, and may come again; they are seen with the next request.
    if line.outlet.has_heard() {
        line.most.store(connection.max_concurrent_send_streams(), Ordering::Relaxed);
    }
    ended
}

/// Asks a connection that is silent whether it is still there, and ends it if there is no answer.
async fn watch(mut pings: PingPong, line: Arc<Line>, connection: AbortHandle, patience: Patience) {
    while !connection.is_finished() {
        sleep(patience.silence).await;
        if line.outlet.take_heard() || line.carried.load(Ordering::Relaxed) == 0 {
            continue;
        }
        let mut answer = pin!(pings.ping(Ping::opaque()));
        loop {
            match timeout(patience.answer, answer.as_mut()).await {
                Ok(Ok(_)) => break,
                // It is over.
                Ok(Err(_)) => return,
                // Something else was said: the answer may come yet.
                Err(_) if line.outlet.take_heard() => {}
                Err(_) => {
                    line.was_silent.store(true, Ordering::Relaxed);
                    connection.abort();
                    return;
                }
            }
        }
        line.outlet.take_heard();
    }
}

/// Closes a connection, however it ends.
struct Over(Arc<Line>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.outlet.close();
    }
}
