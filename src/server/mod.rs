//! Connections from callers: accepted, limited, given deadlines, drained. HTTP/1.1 and HTTP/2 in, requests out; knows
//! nothing of Azure.

mod content;
mod date;
mod http1;
mod http2;
pub mod list;
mod listen;
mod socket;
mod switch;

use std::future::{Future, pending, poll_fn};
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response};
use http_body::Body;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::clock::SharedClock;
use crate::config::Limits;
use crate::error::ProxyError;
use crate::lifecycle::{Held, Lifecycle, Running};

use date::Date;
use socket::{Reader, Writer};

pub use content::{Content, ContentError};
pub use http1::Interim;
pub use listen::{ListenError, Listeners};
pub use socket::Rewound;
pub use switch::Switch;

/// How long to wait after the system refused to accept a connection, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How much is read at once before it is known what is spoken.
const FIRST_READ: usize = 8 * 1024;
/// What every connection of HTTP/2 begins with (RFC 9113 §3.4), and none of HTTP/1.1.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Something that answers requests. Cheap to clone.
pub trait Answer: Clone + Send + Sync + 'static {
    /// The content of its responses.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static;

    /// The response to a request.
    fn answer(&self, request: Request<Content>) -> impl Future<Output = Response<Self::Body>> + Send;

    /// The response to what is no request, because of `error`.
    fn refuse(&self, error: ProxyError) -> Response<Self::Body>;
}

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every running request had its end.
    Completely,
    /// The grace period was over first.
    CutOff,
}

/// What all connections share.
struct Server<A> {
    answer: A,
    limits: Limits,
    lifecycle: Lifecycle,
    date: Date,
    places: Arc<Semaphore>,
}

/// Serves `answer` on `listeners` until `lifecycle` ends and what runs has finished, or `limits.shutdown_grace` is over.
///
/// # Errors
///
/// If the runtime cannot take the sockets over.
pub async fn serve<A: Answer>(
    listeners: Listeners,
    answer: A,
    limits: Limits,
    lifecycle: Lifecycle,
    clock: SharedClock,
) -> io::Result<Drained> {
    let listener = match listeners.tcp {
        Some(listener) => TcpListener::from_std(listener)?,
        None => return Ok(Drained::Completely),
    };
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let server = Arc::new(Server { answer, limits, lifecycle, date: Date::new(clock), places });
    let (running, stillness) = Running::first();
    loop {
        let (socket, place) = tokio::select! {
            accepted = server.accept(&listener) => accepted,
            () = server.lifecycle.ending() => break,
        };
        let held = Held::new(place, running.clone());
        tokio::spawn(converse(server.clone(), socket, held));
    }
    // Callers that connect from now on are refused instead of left waiting.
    drop(listener);
    drop(running);
    match timeout(limits.shutdown_grace, stillness.reached()).await {
        Ok(()) => Ok(Drained::Completely),
        Err(_) => Ok(Drained::CutOff),
    }
}

/// One connection, in whichever version the caller speaks.
async fn converse<A: Answer>(server: Arc<Server<A>>, (mut reader, writer): (Reader, Writer), held: Held) {
    let mut deadline = Box::pin(sleep(server.limits.header_timeout));
    let mut ending = Box::pin(server.lifecycle.ending());
    let mut ahead = BytesMut::new();
    let spoke = poll_fn(|cx| {
        // Until it is known which version is spoken: nothing else begins like HTTP/2.
        while PREFACE.starts_with(&ahead) && ahead.len() < PREFACE.len() {
            match reader.poll_read(cx, &mut ahead, FIRST_READ) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(false),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending if deadline.as_mut().poll(cx).is_ready() => return Poll::Ready(!ahead.is_empty()),
                // What has begun is let finish.
                Poll::Pending if ahead.is_empty() && ending.as_mut().poll(cx).is_ready() => return Poll::Ready(false),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(true)
    });
    if !spoke.await {
        return;
    }
    drop(ending);
    if ahead.starts_with(PREFACE) {
        http2::serve(&server, Rewound::new(ahead, reader, writer), held).await;
    } else {
        http1::Connection::new(&server, (reader, writer), ahead, held, deadline).serve().await;
    }
}

impl<A> Server<A> {
    /// The next connection, once there is a place for it: until then callers wait in the listen queue.
    async fn accept(&self, listener: &TcpListener) -> ((Reader, Writer), OwnedSemaphorePermit) {
        let Ok(place) = self.places.clone().acquire_owned().await else {
            // Nobody closes the semaphore.
            return pending().await;
        };
        let mut failing = false;
        loop {
            match listener.accept().await {
                // What cannot be set on a socket is set on none that is still open.
                Ok((stream, _)) => match socket::split(stream) {
                    Ok(socket) => return (socket, place),
                    Err(error) => tracing::debug!(%error, "a connection was gone before it was served"),
                },
                Err(error) if is_the_callers(&error) => {}
                Err(error) => {
                    if !failing {
                        tracing::error!(%error, "cannot accept connections; trying again until it works");
                    }
                    failing = true;
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// For responses that have none.
    fn date(&self) -> HeaderValue {
        self.date.now()
    }
}

/// The connection was gone before it was accepted.
fn is_the_callers(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::NotConnected
    )
}
