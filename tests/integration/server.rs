//! The server by itself: what it makes of responses that are not as they should be, and of callers over either version.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aoai_auth_proxy::clock::{ManualClock, SharedClock};
use aoai_auth_proxy::config::{Limits, Listen, PeerUsers};
use aoai_auth_proxy::error::ProxyError;
use aoai_auth_proxy::lifecycle::Lifecycle;
use aoai_auth_proxy::server::{Answer, Content, Drained, Listeners, serve};
use aoai_auth_proxy::workers::Workers;
use axum::body::Body;
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::{config, within};

/// Answers as the request's path says.
#[derive(Clone)]
struct Odd;

/// Content that comes in pieces, of no length that anybody knows.
fn pieces(pieces: &'static [&'static str]) -> Body {
    let frames =
        pieces.iter().map(|piece| Ok::<_, Infallible>(http_body::Frame::data(Bytes::from_static(piece.as_bytes()))));
    Body::new(StreamBody::new(stream::iter(frames)))
}

impl Answer for Odd {
    type Body = Body;

    async fn answer(&self, request: Box<Request<Content>>) -> Response<Body> {
        if request.uri().path() == "/whole" {
            return Response::new(Body::from("helloworld"));
        }
        let mut response = Response::new(pieces(&["hello", "", "world"]));
        let status = match request.uri().path() {
            "/short" => (200, Some("11")),
            "/long" => (200, Some("9")),
            "/exact" => (200, Some("10")),
            "/204" => (204, Some("10")),
            "/304" => (304, Some("10")),
            _ => (200, None),
        };
        *response.status_mut() = status.0.try_into().unwrap();
        if let Some(length) = status.1 {
            response.headers_mut().insert("content-length", length.parse().unwrap());
        }
        response
    }

    fn refuse(&self, error: ProxyError) -> Response<Body> {
        error.into_response()
    }
}

/// A server, its address, and what ends it.
fn odd(header_timeout: Duration) -> (JoinHandle<std::io::Result<Drained>>, SocketAddr, Lifecycle) {
    let settings = ["upstream.endpoint=http://127.0.0.1:9".to_owned()];
    let limits = Limits { header_timeout, ..config(&settings).limits };
    let here = Listen { tcp: Some("127.0.0.1:0".parse().unwrap()), unix: None, may_be_remote: false };
    let listeners = Listeners::bind(&here, &PeerUsers::Any).unwrap();
    let address = listeners.address().unwrap();
    let clock: SharedClock = Arc::new(ManualClock::stopped());
    let lifecycle = Lifecycle::new();
    let life = lifecycle.clone();
    let serving = tokio::spawn(async move { serve(listeners, Odd, limits, life, clock, &Workers::none()).await });
    (serving, address, lifecycle)
}

/// Everything that is answered to these requests, one behind the other.
async fn said(requests: &str) -> String {
    let mut stream = TcpStream::connect(odd(Duration::from_secs(15)).1).await.unwrap();
    stream.write_all(requests.as_bytes()).await.unwrap();
    let mut answers = Vec::new();
    let _ = within(stream.read_to_end(&mut answers)).await;
    String::from_utf8(answers).unwrap()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")
}

const LAST: &str = "GET /last HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn nothing_follows_content_of_another_length_than_was_said() {
    for (path, content) in [("/short", "helloworld"), ("/long", "hello")] {
        let answers = said(&(get(path) + LAST)).await;
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{path}: {answers}");
        assert!(answers.ends_with(&format!("\r\n\r\n{content}")), "{path}: {answers}");
    }
    let answers = said(&(get("/exact") + LAST)).await;
    assert!(answers.contains("\r\n\r\nhelloworldHTTP/1.1 200 OK\r\n"), "{answers}");
}

#[tokio::test]
async fn a_response_without_content_is_followed_by_the_next() {
    let cases = [
        (get("/204"), None),
        (get("/304"), Some("10")),
        (get("/exact").replace("GET", "HEAD"), Some("10")),
        (get("/").replace("GET", "HEAD"), None),
    ];
    for (request, length) in cases {
        let answers = said(&(request.clone() + LAST)).await;
        let (first, rest) = answers.split_once("\r\n\r\n").unwrap();
        assert!(rest.starts_with("HTTP/1.1 200 OK\r\n"), "{request}: {answers}");
        // No length where there must be none (RFC 9110 §8.6), and the one that a GET would get where there may be one.
        let given = first.lines().find_map(|line| line.strip_prefix("content-length: "));
        assert_eq!(given, length, "{request}: {answers}");
    }
}

#[tokio::test]
async fn an_older_caller_gets_content_of_unknown_length_to_the_end_of_the_connection() {
    for fields in ["", "connection: keep-alive\r\n"] {
        let answers = said(&format!("GET / HTTP/1.0\r\n{fields}\r\n")).await;
        assert!(answers.ends_with("\r\n\r\nhelloworld") && answers.contains("\r\nconnection: close\r\n"), "{answers}");
    }
    let again = "GET /exact HTTP/1.0\r\nconnection: keep-alive\r\n\r\n".repeat(2) + "GET / HTTP/1.0\r\n\r\n";
    let answers = said(&again).await;
    assert_eq!(answers.matches("\r\nconnection: keep-alive\r\n").count(), 2, "{answers}");
    assert_eq!(answers.matches("helloworld").count(), 3, "{answers}");
}

#[tokio::test]
async fn a_connection_of_http2_lives_as_long_as_it_is_used() {
    let deadline = Duration::from_millis(50);
    let mut caller = caller(odd(deadline).1).await;
    let began = Instant::now();
    while began.elapsed() < deadline * 4 {
        ask(&mut caller).await;
    }
}

/// Neither a connection that has said nothing, nor one that could say more, holds the end up.
#[tokio::test]
async fn the_end_does_not_wait_for_connections_that_wait() {
    let (serving, address, lifecycle) = odd(Duration::from_secs(600));
    let _silent = TcpStream::connect(address).await.unwrap();
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(get("/exact").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"helloworld") {
        answer.push(within(idle.read_u8()).await.unwrap());
    }
    let mut modern = caller(address).await;
    ask(&mut modern).await;
    lifecycle.end();
    assert_eq!(within(serving).await.unwrap().unwrap(), Drained::Completely);
}

#[tokio::test]
async fn over_http2_a_length_is_said_once_too() {
    let mut caller = caller(odd(Duration::from_secs(15)).1).await;
    let mut request = Request::post("http://localhost/whole").body(Body::from("ab")).unwrap();
    request.headers_mut().append("content-length", "2".parse().unwrap());
    request.headers_mut().append("content-length", "2".parse().unwrap());
    let response = within(caller.send_request(request)).await.unwrap();
    assert_eq!(response.status(), 400);
    let mut request = Request::get("http://localhost/whole").body(Body::empty()).unwrap();
    for _ in 0..200 {
        request.headers_mut().append("x-many", "x".parse().unwrap());
    }
    assert_eq!(within(caller.send_request(request)).await.unwrap().status(), 431);
    ask(&mut caller).await;
}

async fn caller(address: SocketAddr) -> http2::SendRequest<Body> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = within(http2::handshake(TokioExecutor::new(), TokioIo::new(stream))).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn ask(caller: &mut http2::SendRequest<Body>) {
    let request = Request::get("http://localhost/whole").body(Body::empty()).unwrap();
    let response = within(caller.send_request(request)).await.unwrap();
    assert_eq!(within(response.into_body().collect()).await.unwrap().to_bytes(), "helloworld");
}
