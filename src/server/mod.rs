//! Connections from callers: accepted, limited, given deadlines, drained. HTTP/1.1 and HTTP/2 in, requests out; knows
//! nothing of Azure.

mod brief;
mod content;
mod date;
mod expendable;
mod http1;
mod http2;
pub mod list;
mod listen;
mod moving;
mod peer;
mod refusing;
mod socket;
mod streams;
mod switch;
#[cfg(test)]
mod tests;
mod unix;

use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response};
use http_body::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::alarm::Alarm;
use crate::clock::SharedClock;
use crate::config::Limits;
use crate::error::ProxyError;
use crate::lifecycle::{Held, Lifecycle, Running};
use crate::workers::{self, Count, Crew, Workers};

use date::Date;
use listen::Accepting;
use moving::Moving;
use peer::{Denied, Peers};
use socket::{Accepted, Reader, Stream};

pub use content::{Content, ContentError};
pub use expendable::Expendable;
pub use http1::Interim;
pub use listen::{ListenError, Listeners};
pub use peer::LookupError;
pub use socket::Rewound;
pub use switch::Switch;

/// How long to wait after the system refused to accept a connection, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How much is read at once before it is known what is spoken.
const FIRST_READ: usize = 8 * 1024;
/// How long what is cut off may take to go: it has nothing to wait for.
const LAST_MOMENT: Duration = Duration::from_secs(1);
/// What every connection of HTTP/2 begins with (RFC 9113 §3.4), and none of HTTP/1.1.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Something that answers requests. Cheap to clone.
pub trait Answer: Clone + Send + Sync + 'static {
    /// The content of its responses.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static;

    /// The response to a request, which is boxed because it goes from hand to hand.
    fn answer(&self, request: Box<Request<Content>>) -> impl Future<Output = Response<Self::Body>> + Send;

    /// The response to what is no request, because of `error`.
    fn refuse(&self, error: ProxyError) -> Response<Self::Body>;

    /// Hears of a connection that is refused, of the user `uid` if that is known.
    fn denied(&self, uid: Option<u32>) {
        let _ = uid;
    }

    /// How long a connection may last at most, if there are so few that none may be kept.
    fn longest(&self) -> Option<Duration> {
        None
    }

    /// Where callers' connections are counted.
    fn connections(&self) -> Count {
        Count::default()
    }
}

/// That a caller is on another machine.
#[derive(Debug, Clone, Copy)]
struct Remote;

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every running request had its end.
    Completely,
    /// The grace period was over first. What still ran runs no more.
    CutOff,
}

/// What all connections share.
struct Server<A> {
    answer: A,
    limits: Limits,
    lifecycle: Lifecycle,
    date: Arc<Date>,
    /// Who could go on with a connection, where it may go to others.
    crew: Option<Crew>,
}

/// What a connection has to pass.
struct Entrance {
    places: Arc<Semaphore>,
    peers: Peers,
    /// Places of those who may not pass.
    refusals: Arc<Semaphore>,
}

/// Serves `answer` on `listeners`, each connection in one of `workers`, until `lifecycle` ends and what runs has finished, or `limits.shutdown_grace` is over.
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
    workers: &Workers,
) -> io::Result<Drained> {
    let (mut door, crew) = (JoinSet::new(), workers.crew().clone());
    let date = Arc::new(Date::new(clock));
    let server = Arc::new(Server { answer, limits, lifecycle, date, crew: Some(crew.clone()) });
    let (running, mut stillness) = Running::first();
    // Where connections are served, too: half of the way to another thread is to wake it.
    workers.crew().host(keep_door(listeners, server.clone(), running, crew), &mut door);
    tokio::select! {
        Some(kept) = door.join_next() => kept??,
        () = server.lifecycle.ending() => {}
    }
    if timeout(limits.shutdown_grace, stillness.reached()).await.is_ok() {
        return Ok(Drained::Completely);
    }
    stillness.cut_off();
    // What was cut off is told of as it goes: whoever sums up afterwards should have heard of all.
    let _ = timeout(LAST_MOMENT, stillness.reached()).await;
    Ok(Drained::CutOff)
}

/// Accepts connections until the end begins. Callers that connect from then on are refused instead of left waiting.
async fn keep_door<A: Answer>(
    listeners: Listeners,
    server: Arc<Server<A>>,
    running: Running,
    crew: Crew,
) -> io::Result<()> {
    let (mut listeners, peers) = listeners.accepting()?;
    let places = Arc::new(Semaphore::new(server.limits.max_connections));
    let entrance = Arc::new(Entrance { places, peers, refusals: Arc::new(Semaphore::new(refusing::PLACES)) });
    let ending = server.lifecycle.clone();
    let mut ending = pin!(ending.ending());
    loop {
        let (accepted, place) = tokio::select! {
            accepted = entrance.accept(&mut listeners) => accepted,
            () = &mut ending => return Ok(()),
        };
        let (server, alive) = (server.clone(), running.clone());
        let (entrance, running) = (entrance.clone(), running.clone());
        let admitted = move |server| admit(server, entrance, accepted, place, running);
        // Boxed here: what is handed on as it is has room for itself once more with each who hands it on.
        let conversation: BoxFuture<'static, ()> = match server.answer.longest() {
            Some(longest) => Box::pin(brief::converse(server, longest, admitted)),
            None => Box::pin(admitted(server)),
        };
        crew.serve(async move {
            alive.unless_cut_off(conversation).await;
        });
    }
}

/// One connection, if whoever made it may.
async fn admit<A: Answer>(
    server: Arc<Server<A>>,
    entrance: Arc<Entrance>,
    accepted: Accepted,
    place: OwnedSemaphorePermit,
    running: Running,
) {
    let stream = match accepted.into_stream() {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%error, "a connection was gone before it was served"),
    };
    // Before anything is read: whoever may not connect is not heard.
    if let Err(Denied { uid }) = entrance.peers.admit(&stream) {
        drop(place);
        // Boxed: its memory should not be kept for those who may.
        return Box::pin(refusing::turn_away(server, entrance, stream, uid, running)).await;
    }
    drop(entrance);
    let present = server.answer.connections().enter();
    converse(server, stream, Held::new(place, running, present)).await;
}

/// One connection, in whichever version the caller speaks.
async fn converse<A: Answer>(server: Arc<Server<A>>, stream: Stream, held: Held) {
    let remote = stream.remote();
    let (mut reader, writer) = stream.split();
    let (mut alarm, deadline) = (Alarm::default(), Instant::now() + server.limits.header_timeout);
    let Some(ahead) = beginning(&server, &mut reader, &mut alarm, deadline).await else { return };
    let moving = if ahead.starts_with(PREFACE) {
        match server.crew.as_ref().and_then(Crew::settle) {
            Some((to, stays)) if to != workers::index() => {
                Moving::begin(to, (reader, writer), ahead, held, Some(stays))
            }
            _stays => {
                http2::serve(&server, Rewound::new(ahead, reader, writer), remote, held).await;
                None
            }
        }
    } else {
        http1::Connection::new(&server, (reader, writer), remote, ahead, held, (alarm, deadline)).serve().await
    };
    if let Some(moving) = moving {
        moving.hand_over(&server);
    }
}

/// What a caller begins with, until it is known which version it speaks; nothing if it says nothing.
async fn beginning<A>(
    server: &Server<A>,
    reader: &mut Reader,
    alarm: &mut Alarm,
    deadline: Instant,
) -> Option<BytesMut> {
    let mut ending = pin!(server.lifecycle.ending());
    let mut ahead = BytesMut::new();
    let spoke = poll_fn(|cx| {
        // Until it is known which version is spoken: nothing else begins like HTTP/2.
        while PREFACE.starts_with(&ahead) && ahead.len() < PREFACE.len() {
            match reader.poll_read(cx, &mut ahead, FIRST_READ) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(false),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending if alarm.poll_until(cx, deadline).is_ready() => return Poll::Ready(!ahead.is_empty()),
                // What has begun is let finish.
                Poll::Pending if ahead.is_empty() && ending.as_mut().poll(cx).is_ready() => return Poll::Ready(false),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(true)
    });
    spoke.await.then_some(ahead)
}

impl Entrance {
    /// The next connection, once there is a place for it: until then callers wait in the listen queue.
    async fn accept(&self, listeners: &mut Accepting) -> (Accepted, OwnedSemaphorePermit) {
        let Ok(place) = self.places.clone().acquire_owned().await else {
            // Nobody closes the semaphore.
            return pending().await;
        };
        let mut failing = false;
        loop {
            match listeners.accept().await {
                Ok(accepted) => return (accepted, place),
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
}

impl<A> Server<A> {
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
