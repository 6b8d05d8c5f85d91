//! Connections as callers have them, over sockets.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::body::Body as AnyBody;
use axum::response::IntoResponse;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::*;
use crate::clock::ManualClock;
use crate::config::{Config, Overrides};

/// Says whether a request comes from another machine.
#[derive(Clone)]
struct Where;

impl Answer for Where {
    type Body = AnyBody;

    async fn answer(&self, request: Box<Request<Content>>) -> Response<AnyBody> {
        Response::new(AnyBody::from(if request.body().is_remote() { "there" } else { "here" }))
    }

    fn refuse(&self, error: ProxyError) -> Response<AnyBody> {
        error.into_response()
    }
}

fn server() -> Arc<Server<Where>> {
    let assignments = vec!["upstream.endpoint=http://127.0.0.1:9".to_owned()];
    let config = Config::isolated(&Overrides { assignments, ..Overrides::default() }).expect("a configuration");
    let date = Arc::new(Date::new(Arc::new(ManualClock::stopped())));
    Arc::new(Server { answer: Where, limits: config.limits, lifecycle: Lifecycle::new(), date, crew: None })
}

/// What a caller is answered whose address is said to be `peer`.
async fn from(peer: SocketAddr, is_http2: bool) -> Bytes {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let caller = TcpStream::connect(listener.local_addr().expect("its address")).await.expect("a connection");
    let (stream, _) = listener.accept().await.expect("a caller");
    let server = server();
    let place = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("a place");
    let held = Held::new(place, Running::first().0, Count::default().enter());
    tokio::spawn(converse(server, Stream::Tcp { stream, peer }, held));
    let request = Request::get("http://localhost/").header("host", "localhost");
    let request = request.body(Empty::<Bytes>::new().map_err(|never: Infallible| never)).expect("a request");
    let io = TokioIo::new(caller);
    let response = if is_http2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.expect("a handshake");
        tokio::spawn(connection);
        sender.send_request(request).await
    } else {
        let (mut sender, connection) = http1::handshake(io).await.expect("a handshake");
        tokio::spawn(connection);
        sender.send_request(request).await
    };
    response.expect("an answer").into_body().collect().await.expect("content").to_bytes()
}

#[tokio::test]
async fn a_connection_keeps_no_room_for_what_happens_seldom() {
    let (server, place) = (server(), Arc::new(Semaphore::new(1)).try_acquire_owned().expect("a place"));
    let (stream, _other) = UnixStream::pair().expect("a connection");
    let held = Held::new(place, Running::first().0, Count::default().enter());
    let size = size_of_val(&converse(server, Stream::Unix(stream), held));
    assert!(size < 3 << 10, "{size} bytes");
}

/// Says which worker answers.
#[derive(Clone)]
struct Who;

impl Answer for Who {
    type Body = AnyBody;

    async fn answer(&self, request: Box<Request<Content>>) -> Response<AnyBody> {
        let text = match request.uri().path() {
            "/answering" => format!("{} answered here", workers::answering()),
            _ => format!("{} of {}", request.uri(), workers::index()),
        };
        Response::new(AnyBody::from(text))
    }

    fn refuse(&self, error: ProxyError) -> Response<AnyBody> {
        error.into_response()
    }
}

/// Reads until `end` has come.
async fn read_until(caller: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        let more = timeout(Duration::from_secs(20), caller.read_buf(&mut read)).await;
        assert!(matches!(more, Ok(Ok(1..))), "{}", read.escape_ascii());
    }
    String::from_utf8(read).expect("text")
}

/// So many workers, and a server that says which of them answers.
fn at_work(count: usize) -> (Workers, Arc<Server<Who>>) {
    let workers = Workers::start_some(count).expect("threads");
    let Server { limits, lifecycle, date, .. } = &*server();
    let (lifecycle, date, crew) = (lifecycle.clone(), date.clone(), Some(workers.crew().clone()));
    let server = Server { answer: Who, limits: *limits, lifecycle, date, crew };
    (workers, Arc::new(server))
}

/// A caller, and its connection.
async fn connection() -> (TcpStream, Accepted) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let caller = TcpStream::connect(listener.local_addr().expect("its address")).await.expect("a connection");
    let (stream, peer) = listener.accept().await.expect("a caller");
    (caller, Accepted::Tcp { stream: stream.into_std().expect("a stream"), peer })
}

/// What a connection holds.
fn held() -> Held {
    let place = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("a place");
    Held::new(place, Running::first().0, Count::default().enter())
}

#[tokio::test]
async fn connections_that_stay_where_they_are_are_shared_out() {
    let (workers, server) = at_work(3);
    (0..3).for_each(|number| workers.crew().pretend(number, 0));
    let mut senders = Vec::new();
    for expected in ["0", "1", "2", "0"] {
        let mut sender = speaks_http2(&workers, &server).await;
        assert_eq!(asks(&mut sender, "/").await, format!("http://localhost/ of {expected}"));
        senders.push(sender);
    }
}

type Sender = http2::SendRequest<Empty<Bytes>>;

/// A caller's connection, which the first worker is given.
async fn speaks_http2(workers: &Workers, server: &Arc<Server<Who>>) -> Sender {
    let (caller, accepted) = connection().await;
    let server = server.clone();
    workers.crew().serve_by(0, async move {
        converse(server, accepted.into_stream().expect("a stream"), held()).await;
    });
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(caller)).await.expect("a handshake");
    tokio::spawn(connection);
    sender
}

async fn asks(sender: &mut Sender, path: &str) -> Bytes {
    let request = Request::get(format!("http://localhost{path}")).body(Empty::new()).expect("a request");
    let answer = sender.send_request(request).await.expect("an answer").into_body().collect().await;
    answer.expect("content").to_bytes()
}

#[tokio::test]
async fn a_worker_knows_what_it_answers() {
    let (workers, server) = at_work(1);
    let (mut caller, accepted) = connection().await;
    let its_server = server.clone();
    workers.crew().serve_by(0, async move {
        converse(its_server, accepted.into_stream().expect("a stream"), held()).await;
    });
    for _ in 0..2 {
        caller.write_all(b"GET /answering HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("writing");
        let answer = read_until(&mut caller, "answered here").await;
        assert!(answer.ends_with("\r\n\r\n1 answered here"), "{answer}");
    }
    let mut sender = speaks_http2(&workers, &server).await;
    assert_eq!(asks(&mut sender, "/answering").await, "1 answered here");
}

#[tokio::test]
async fn what_comes_while_a_connection_is_handed_over_is_answered_though_the_end_has_begun() {
    let (workers, server) = at_work(2);
    let (crew, lifecycle) = (workers.crew(), server.lifecycle.clone());
    crew.pretend(0, 999);
    crew.pretend(1, 100);
    let (mut caller, accepted) = connection().await;
    crew.relieve(0).await;
    let (release, stuck) = std::sync::mpsc::channel::<()>();
    crew.serve_by(1, async move {
        let _ = stuck.recv();
    });
    crew.serve_by(0, async move {
        converse(server, accepted.into_stream().expect("a stream"), held()).await;
    });
    caller.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("writing");
    read_until(&mut caller, "/a of 0").await;
    caller.write_all(b"GET /b HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("writing");
    // Once it is on its way, so that the first worker has not answered that as well.
    crew.relieve(0).await;
    lifecycle.end();
    release.send(()).expect("somebody who waits");
    let answer = read_until(&mut caller, "/b of 1").await;
    assert!(answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn a_connection_goes_on_with_another_worker_where_it_was() {
    let (workers, server) = at_work(2);
    let (crew, places) = (workers.crew(), Arc::new(Semaphore::new(1)));
    crew.pretend(0, 999);
    crew.pretend(1, 100);
    let (mut caller, accepted) = connection().await;
    let place = places.clone().try_acquire_owned().expect("a place");
    let (running, mut stillness) = Running::first();
    let held = Held::new(place, running, Count::default().enter());
    crew.serve_by(0, async move {
        converse(server, accepted.into_stream().expect("a stream"), held).await;
    });

    caller.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("writing");
    assert!(read_until(&mut caller, "/a of 0").await.starts_with("HTTP/1.1 200"));
    // With the beginning of the next one.
    crew.relieve(0).await;
    caller.write_all(b"GET /b HTTP/1.1\r\nhost: a\r\n\r\nGET /c HTTP/1.1\r\nho").await.expect("writing");
    read_until(&mut caller, "/b of 0").await;
    caller.write_all(b"st: a\r\n\r\n").await.expect("writing");
    read_until(&mut caller, "/c of 1").await;
    // And back, as long as there is somebody who has room.
    crew.pretend(0, 100);
    crew.pretend(1, 999);
    crew.relieve(1).await;
    for (request, answer) in [("/d", "/d of 1"), ("/e", "/e of 0")] {
        let request = format!("GET {request} HTTP/1.1\r\nhost: a\r\n\r\n");
        caller.write_all(request.as_bytes()).await.expect("writing");
        read_until(&mut caller, answer).await;
    }
    crew.pretend(0, 999);
    crew.relieve(0).await;
    for _ in 0..2 {
        caller.write_all(b"GET /f HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("writing");
        read_until(&mut caller, "/f of 0").await;
    }

    assert_eq!(places.available_permits(), 0);
    drop(caller);
    // It held its place all the time, and the end would have waited for it.
    stillness.reached().await;
    assert_eq!(places.available_permits(), 1);
}

#[tokio::test]
async fn requests_from_other_machines_are_marked() {
    for is_http2 in [false, true] {
        for (peer, answer) in [
            ("127.0.0.1:1", "here"),
            ("127.9.9.9:1", "here"),
            ("[::1]:1", "here"),
            ("[::ffff:127.0.0.1]:1", "here"),
            ("192.0.2.1:1", "there"),
            ("[2001:db8::1]:1", "there"),
            ("[::ffff:192.0.2.1]:1", "there"),
            ("0.0.0.0:1", "there"),
        ] {
            assert_eq!(from(peer.parse().expect("an address"), is_http2).await, answer, "{peer} {is_http2}");
        }
    }
}
