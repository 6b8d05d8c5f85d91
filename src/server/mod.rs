//! Connections from callers: accepted, limited, given deadlines, drained. Knows nothing of Azure.

mod conversation;

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::config::Limits;
use crate::error::Causes;
use crate::lifecycle::{Held, Lifecycle, Running};

use conversation::Conversation;

/// How long to wait after the system refused to accept a connection, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every running request had its end.
    Completely,
    /// The grace period was over first.
    CutOff,
}

/// Serves `service` on `listener` until `lifecycle` ends and what runs has finished, or `limits.shutdown_grace` is over.
pub async fn serve<S, B>(listener: TcpListener, service: S, limits: Limits, lifecycle: Lifecycle) -> Drained
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.header_timeout);
    builder.http2().timer(TokioTimer::new());
    let graceful = GracefulShutdown::new();
    let (running, stillness) = Running::first();
    let places = Arc::new(Semaphore::new(limits.max_connections));
    loop {
        let (stream, place) = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = lifecycle.ending() => break,
        };
        let conversation = Conversation::new(service.clone(), Held::new(place, running.clone()));
        let begun = conversation.begun();
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), conversation).into_owned();
        let connection = graceful.watch(connection);
        let lifecycle = lifecycle.clone();
        tokio::spawn(async move {
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(error = %Causes(error.as_ref()), "a caller's connection ended");
                },
                () = begun.never(limits.header_timeout, &lifecycle) => {}
            }
        });
    }
    // Callers that connect from now on are refused instead of left waiting.
    drop(listener);
    drop(running);
    let finished = async {
        graceful.shutdown().await;
        // Connections that have switched protocols are no longer the library's to watch.
        stillness.reached().await;
    };
    match timeout(limits.shutdown_grace, finished).await {
        Ok(()) => Drained::Completely,
        Err(_) => Drained::CutOff,
    }
}

/// The next connection, once there is a place for it: until then callers wait in the listen queue.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let Ok(place) = places.clone().acquire_owned().await else {
        // Nobody closes the semaphore.
        return pending().await;
    };
    loop {
        match listener.accept().await.and_then(|(stream, _)| without_delay(stream)) {
            Ok(stream) => return (stream, place),
            Err(error) if is_the_callers(&error) => {}
            Err(error) => {
                tracing::error!(%error, "cannot accept connections");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Small events of a stream leave at once.
fn without_delay(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The connection was gone before it was accepted.
fn is_the_callers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::NotConnected
    )
}
