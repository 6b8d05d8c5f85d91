//! A caller with a connection of its own, over HTTP/1.1 or HTTP/2, that can go away whenever it likes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// One connection to the proxy. Dropping it closes the connection, whatever is under way on it.
#[derive(Debug)]
pub(crate) struct Caller {
    sender: Sender,
    tasks: Tasks,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// Whatever holds the connection.
#[derive(Debug, Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl Caller {
    pub(crate) async fn connect(address: SocketAddr, http2: bool) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("an option of the socket");
        Self::over(stream, http2).await
    }

    /// The same over a connection that is there.
    pub(crate) async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, http2: bool) -> Self {
        let (stream, tasks) = (TokioIo::new(stream), Tasks::default());
        let sender = if http2 {
            let (sender, connection) = http2::handshake(tasks.clone(), stream).await.expect("a handshake");
            tasks.execute(async { drop(connection.await) });
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(stream).await.expect("a handshake");
            tasks.execute(async { drop(connection.await) });
            Sender::Http1(sender)
        };
        Self { sender, tasks }
    }

    /// Sends a request to a path; returns once the head of the response is there.
    pub(crate) async fn send(&mut self, mut request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                let target = format!("http://localhost{}", request.uri());
                *request.uri_mut() = target.parse::<Uri>().expect("a path");
                sender.send_request(request).await
            }
        }
    }

    /// Closes the connection; returns once that is done.
    pub(crate) async fn vanish(self) {
        let mut tasks = self.tasks.take();
        tasks.shutdown().await;
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        drop(self.tasks.take());
    }
}

impl Tasks {
    /// All that there are. They end when this is dropped.
    fn take(&self) -> JoinSet<()> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.spawn(async { drop(task.await) });
    }
}
