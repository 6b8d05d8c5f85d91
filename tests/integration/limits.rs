//! What callers may cost: requests at once, connections at once, the length of content, the time that a head takes.

use std::net::SocketAddr;
use std::time::Duration;

use aoai_auth_proxy::emulator::{Action, Emulator, Fault, Route};
use axum::body::Body;
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::interval;

use crate::caller::Caller;
use crate::program::{Running, emulator, serve};
use crate::support::{chat, code, within};

async fn with(settings: &[&str]) -> (Emulator, Running) {
    let azure = emulator().await;
    let mut command = serve(&azure);
    for setting in settings {
        command.args(["--set", setting]);
    }
    let running = Running::start(&mut command).await;
    (azure, running)
}

async fn ends_well(running: Running) {
    let (code, log) = running.stop().await;
    assert_eq!(code, 0, "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

fn chat_request() -> Request<Body> {
    let request = Request::post("/v1/chat/completions").header("content-type", "application/json");
    request.body(Body::from(chat(true).to_string())).unwrap()
}

/// An answer to the end: its status and its error's `code`, if it is the proxy's.
async fn refusal(response: Response<Incoming>) -> (StatusCode, String) {
    let status = response.status();
    let content = within(response.into_body().collect()).await.unwrap().to_bytes();
    let content: serde_json::Value = serde_json::from_slice(&content).unwrap();
    (status, content["error"]["code"].as_str().unwrap_or_default().to_owned())
}

/// A stream that the resource holds back after its first event, on a connection of its own.
async fn held_stream(running: &Running, azure: &Emulator, http2: bool) -> (Caller, Incoming) {
    azure.control().fault(Fault::new(Route::Chat, Action::Hold { after_events: 1 }).times(1));
    let mut caller = Caller::connect(running.address(), http2).await;
    let response = within(caller.send(chat_request())).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut content = response.into_body();
    assert!(within(content.frame()).await.unwrap().is_ok(), "the first event");
    (caller, content)
}

/// Asks until the answer is 200: whoever left its place has done so a moment after its caller saw the end.
async fn is_answered_in_the_end(running: &Running) {
    within(async { while running.get("/v1/models").await.status() != 200 {} }).await;
}

#[tokio::test]
async fn a_request_too_many_is_told_to_come_back() {
    let (azure, running) = with(&["limits.max_in_flight=3"]).await;
    let mut streams = Vec::new();
    for http2 in [false, true, false] {
        streams.push(held_stream(&running, &azure, http2).await);
    }
    within(azure.control().until(|state| state.streams_held == 3)).await;

    let refused = running.get("/v1/models").await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert!(refused.headers()["proxy-status"].to_str().unwrap().starts_with("aoai-auth-proxy; error="));
    assert_eq!(code(refused).await, "overloaded");
    let mut caller = Caller::connect(running.address(), true).await;
    let refused = within(caller.send(chat_request())).await.unwrap();
    assert_eq!(refusal(refused).await, (StatusCode::SERVICE_UNAVAILABLE, "overloaded".to_owned()));
    assert_eq!(running.get("/healthz").await.status(), 200, "the process serves all the same");
    let state = azure.control().state();
    assert_eq!((state.count(Route::OpenAi), state.streams_open), (3, 3), "nothing of it reached the resource");

    // One goes away, the others are finished.
    let (caller, _) = streams.pop().unwrap();
    caller.vanish().await;
    is_answered_in_the_end(&running).await;
    azure.control().release();
    for (caller, content) in streams {
        let text = within(content.collect()).await.unwrap().to_bytes();
        assert!(text.ends_with(b"data: [DONE]\n\n"));
        drop(caller);
    }
    is_answered_in_the_end(&running).await;
    ends_well(running).await;
}

/// Bytes in, and what comes back until the connection ends. Whether all could be written does not matter; reading must end
/// well.
async fn said(address: SocketAddr, head: &str, content: &[u8]) -> String {
    let (mut read, mut write) = within(TcpStream::connect(address)).await.unwrap().into_split();
    let (head, content) = (head.to_owned(), content.to_vec());
    let writing = tokio::spawn(async move {
        let _ = write.write_all(head.as_bytes()).await;
        let _ = write.write_all(&content).await;
        write
    });
    let mut answer = Vec::new();
    within(read.read_to_end(&mut answer)).await.expect("an end, not a reset");
    drop(within(writing).await);
    String::from_utf8_lossy(&answer).into_owned()
}

/// A form with one file of `length` bytes.
fn form(length: usize) -> Vec<u8> {
    let beginning = "--b\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nassistants\r\n\
                     --b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n";
    [beginning.as_bytes(), &vec![b'x'; length], b"\r\n--b--\r\n"].concat()
}

fn upload(content: Body) -> Request<Body> {
    Request::post("/v1/files").header("content-type", "multipart/form-data; boundary=b").body(content).unwrap()
}

const UPLOAD: &str = "POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=b\r\n";
const MOST: usize = 64 << 10;

#[tokio::test]
async fn content_that_is_announced_as_too_long_is_refused_unread() {
    let (azure, running) = with(&["limits.max_body=64KiB"]).await;
    // Not a byte of it is sent: whoever waited for one would wait for ever.
    let mut caller = within(TcpStream::connect(running.address())).await.unwrap();
    let head = format!("{UPLOAD}content-length: {}\r\n\r\n", MOST + 1);
    caller.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    within(caller.read_exact(&mut answer)).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 413");
    drop(caller);
    let mut caller = Caller::connect(running.address(), true).await;
    let answer = within(caller.send(upload(Body::from(form(MOST))))).await.unwrap();
    assert_eq!(refusal(answer).await, (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large".to_owned()));
    assert_eq!(azure.control().count(Route::OpenAi), 0, "the resource has not heard of it");
    ends_well(running).await;
}

#[tokio::test]
async fn a_caller_that_is_still_sending_sees_the_refusal() {
    let (azure, running) = with(&["limits.max_body=64KiB"]).await;
    let content = form(8 << 20);
    let whole = format!("{UPLOAD}content-length: {}\r\n\r\n", content.len());
    let chunks: Vec<u8> = content.chunks(MOST / 4).flat_map(chunked).chain(*b"0\r\n\r\n").collect();
    let in_chunks = format!("{UPLOAD}transfer-encoding: chunked\r\n\r\n");
    let politely = format!("{UPLOAD}expect: 100-continue\r\ncontent-length: {}\r\n\r\n", content.len());
    for (head, content) in [(whole, &content), (in_chunks, &chunks), (politely, &content)] {
        let answer = said(running.address(), &head, content).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{head} {answer}");
        assert!(answer.contains(r#""code":"body_too_large""#), "{head} {answer}");
        assert!(answer.to_ascii_lowercase().contains("\r\nproxy-status: aoai-auth-proxy; error="), "{answer}");
    }
    nothing_was_taken_for_whole(&azure, &running).await;
    ends_well(running).await;
}

fn chunked(content: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", content.len()).as_bytes(), content, b"\r\n"].concat()
}

async fn nothing_was_taken_for_whole(azure: &Emulator, running: &Running) {
    within(azure.control().until(|state| state.requests_open == 0)).await;
    let files: serde_json::Value = within(running.get("/v1/files").await.json()).await.unwrap();
    assert_eq!(files["data"], serde_json::json!([]));
}

#[tokio::test]
async fn content_of_unknown_length_is_refused_where_the_limit_is() {
    let (azure, running) = with(&["limits.max_body=64KiB"]).await;
    for http2 in [false, true] {
        let mut caller = Caller::connect(running.address(), http2).await;
        let pieces: Vec<_> = form(MOST).chunks(1000).map(Bytes::copy_from_slice).map(Ok::<_, std::io::Error>).collect();
        let answer = within(caller.send(upload(Body::from_stream(stream::iter(pieces))))).await.unwrap();
        assert_eq!(refusal(answer).await, (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large".to_owned()), "{http2}");
    }
    nothing_was_taken_for_whole(&azure, &running).await;
    ends_well(running).await;
}

#[tokio::test]
async fn content_of_just_the_limit_passes() {
    let (_azure, running) = with(&["limits.max_body=64KiB"]).await;
    let content = form(MOST - form(0).len());
    assert_eq!(content.len(), MOST);
    for http2 in [false, true] {
        let mut caller = Caller::connect(running.address(), http2).await;
        let answer = within(caller.send(upload(Body::from(content.clone())))).await.unwrap();
        assert_eq!(refusal(answer).await.0, StatusCode::CREATED);
        let pieces: Vec<_> = content.chunks(1000).map(Bytes::copy_from_slice).map(Ok::<_, std::io::Error>).collect();
        let answer = within(caller.send(upload(Body::from_stream(stream::iter(pieces))))).await.unwrap();
        assert_eq!(refusal(answer).await.0, StatusCode::CREATED);
    }
    ends_well(running).await;
}

#[tokio::test]
async fn five_mebibytes_pass_by_default() {
    let (_azure, running) = with(&[]).await;
    for http2 in [false, true] {
        let mut caller = Caller::connect(running.address(), http2).await;
        let answer = within(caller.send(upload(Body::from(form(5 << 20))))).await.unwrap();
        assert_eq!(refusal(answer).await.0, StatusCode::CREATED);
    }
    ends_well(running).await;
}

const SLOW: &[u8] =
    b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nuser-agent: one that has a great deal of time for everything";

/// Sends a byte now and then; what came back before the connection ended, however it ended.
async fn dawdle(address: SocketAddr) -> String {
    let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    let mut answer = Vec::new();
    let mut now_and_then = interval(Duration::from_millis(100));
    let writing = async {
        for byte in SLOW.iter().cycle() {
            now_and_then.tick().await;
            if write.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        // A reset if a byte of ours came too late.
        _ = read.read_to_end(&mut answer) => {}
        () = writing => {}
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn slow_heads_hold_nobody_up_and_are_ended() {
    let (_azure, running) = with(&["limits.header_timeout=1s"]).await;
    let address = running.address();
    let slow: Vec<_> = (0..500).map(|_| tokio::spawn(dawdle(address))).collect();
    let mut caller = Caller::connect(address, false).await;
    let mut answered = 0;
    while !slow.iter().all(tokio::task::JoinHandle::is_finished) {
        let response = within(caller.send(chat_request())).await.unwrap();
        assert_eq!(response.status(), 200);
        within(response.into_body().collect()).await.unwrap();
        assert_eq!(running.get("/v1/models").await.status(), 200);
        answered += 2;
    }
    assert!(answered > 0);
    for answer in within(join_all(slow)).await {
        let answer = answer.unwrap();
        let says_so = answer.starts_with("HTTP/1.1 408 ") && answer.contains(r#""code":"request_timeout""#);
        assert!(answer.is_empty() || says_so, "{answer}");
    }
    ends_well(running).await;
}

#[tokio::test]
async fn a_head_that_stops_is_told_so() {
    let (_azure, running) = with(&["limits.header_timeout=200ms"]).await;
    for beginning in ["G", "GET /v1/models HTTP/1.1\r\nhost: local"] {
        let answer = said(running.address(), beginning, b"").await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{beginning:?}: {answer:?}");
        assert!(answer.contains(r#""code":"request_timeout""#), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("\r\nproxy-status: aoai-auth-proxy; error="), "{answer}");
    }
    // A connection that has said nothing has asked nothing.
    assert_eq!(said(running.address(), "", b"").await, "");
    ends_well(running).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let (_azure, running) = with(&["limits.max_connections=4"]).await;
    let mut inside = Vec::new();
    for http2 in [false, true, false, true] {
        let mut caller = Caller::connect(running.address(), http2).await;
        assert_eq!(ask(&mut caller).await, 200);
        inside.push(caller);
    }
    let mut waiting: Vec<_> = [false, false, true]
        .map(|http2| {
            let address = running.address();
            tokio::spawn(async move {
                let mut caller = Caller::connect(address, http2).await;
                ask(&mut caller).await
            })
        })
        .into();
    // Those inside are served on and on, and the others asked before that.
    for _ in 0..10 {
        for caller in &mut inside {
            assert_eq!(ask(caller).await, 200);
        }
    }
    assert!(waiting.iter().all(|waiting| !waiting.is_finished()), "nobody else is");
    // One place is enough for all of them, one after the other.
    inside.pop().unwrap().vanish().await;
    for waiting in &mut waiting {
        assert_eq!(within(waiting).await.unwrap(), 200);
    }
    for caller in &mut inside {
        assert_eq!(ask(caller).await, 200);
    }
    drop(inside);
    ends_well(running).await;
}

async fn ask(caller: &mut Caller) -> StatusCode {
    let response = within(caller.send(Request::get("/v1/models").body(Body::empty()).unwrap())).await.unwrap();
    let status = response.status();
    within(response.into_body().collect()).await.unwrap();
    status
}
