//! What passes besides requests and responses: 103 and its kin, the resource's 100, and how a connection goes on.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Proxy, azure, demo_settings, proxy, within};

/// A proxy in front of a resource that the test plays itself, and a caller.
async fn scene() -> (TcpListener, Proxy, TcpStream, aoai_auth_proxy::emulator::Emulator) {
    let (azure, clock) = azure(true).await;
    let resource = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = demo_settings(&azure);
    settings.push(format!("upstream.endpoint=http://{}", resource.local_addr().unwrap()));
    let proxy = proxy(&settings, &clock).await;
    let caller = TcpStream::connect(proxy.address).await.unwrap();
    (resource, proxy, caller, azure)
}

/// Reads until `end` has come; everything that has.
async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let byte = within(stream.read_u8()).await.unwrap_or_else(|error| {
            panic!("{error} after {}", String::from_utf8_lossy(&text));
        });
        text.push(byte);
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn early_hints_come_before_the_response() {
    let (resource, _proxy, mut caller, _azure) = scene().await;
    caller.write_all(b"GET /v1/x HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let (mut resource, _) = within(resource.accept()).await.unwrap();
    until(&mut resource, "\r\n\r\n").await;
    let hints =
        "HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\nlink: </b>\r\nconnection: x-gone\r\nx-gone: 1\r\n\r\n";
    resource.write_all(hints.as_bytes()).await.unwrap();
    let seen = until(&mut caller, "\r\n\r\n").await;
    assert_eq!(seen, "HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\nlink: </b>\r\n\r\n");
    resource.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
    assert!(until(&mut caller, "{}").await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn an_older_caller_gets_no_interim_response() {
    let (resource, _proxy, mut caller, _azure) = scene().await;
    caller.write_all(b"GET /v1/x HTTP/1.0\r\nhost: localhost\r\n\r\n").await.unwrap();
    let (mut resource, _) = within(resource.accept()).await.unwrap();
    until(&mut resource, "\r\n\r\n").await;
    resource
        .write_all(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        .await
        .unwrap();
    assert!(until(&mut caller, "{}").await.starts_with("HTTP/1.1 200 OK\r\n"));
}

const EXPECTING: &[u8] = b"POST /v1/x HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 7\r\n\r\n";

#[tokio::test]
async fn content_is_sent_once_the_resource_wants_it() {
    let (resource, _proxy, mut caller, _azure) = scene().await;
    caller.write_all(EXPECTING).await.unwrap();
    let (mut resource, _) = within(resource.accept()).await.unwrap();
    assert!(until(&mut resource, "\r\n\r\n").await.contains("\r\nexpect: 100-continue\r\n"));
    resource.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
    assert_eq!(until(&mut caller, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    caller.write_all(b"content").await.unwrap();
    assert_eq!(until(&mut resource, "content").await, "content");
    resource.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
    let response = until(&mut caller, "{}").await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && !response.contains("connection: close"), "{response}");
}

#[tokio::test]
async fn content_that_the_resource_does_not_want_is_never_sent() {
    let (resource, _proxy, mut caller, _azure) = scene().await;
    caller.write_all(EXPECTING).await.unwrap();
    let (mut resource, _) = within(resource.accept()).await.unwrap();
    until(&mut resource, "\r\n\r\n").await;
    resource.write_all(b"HTTP/1.1 413 Too Much\r\ncontent-length: 4\r\n\r\n{").await.unwrap();
    let head = until(&mut caller, "\r\n\r\n").await;
    // Nobody could tell content that comes after all from the next request.
    assert!(head.starts_with("HTTP/1.1 413 Too Much\r\n") && head.contains("connection: close\r\n"), "{head}");
    assert_eq!(until(&mut caller, "{").await, "{");
    resource.write_all(b"  }").await.unwrap();
    assert_eq!(until(&mut caller, "}").await, "  }", "the connection to the resource lives as long as its response");
    let mut rest = Vec::new();
    within(caller.read_to_end(&mut rest)).await.unwrap();
    drop(caller);
    assert_eq!(within(resource.read_to_end(&mut rest)).await.unwrap_or(0), 0, "not a byte of content");
}

#[tokio::test]
async fn a_resource_that_does_not_know_the_expectation_gets_content_all_the_same() {
    for http2 in [false, true] {
        let world = crate::support::World::over(http2, &[], |_| ()).await;
        let mut caller = TcpStream::connect(world.proxy.address).await.unwrap();
        let head = "POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nexpect: 100-continue\r\n";
        let content = r#"{"model":"text-embedding-3-small","input":"x"}"#;
        let head = format!("{head}content-length: {}\r\n\r\n", content.len());
        caller.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(until(&mut caller, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n", "{http2}");
        caller.write_all(content.as_bytes()).await.unwrap();
        assert!(until(&mut caller, "\r\n\r\n").await.starts_with("HTTP/1.1 200 OK\r\n"), "{http2}");
    }
}

/// Whoever expects must not wait for ever (RFC 9110 §10.1.1): some servers never say that they want content.
#[tokio::test]
async fn content_is_sent_in_the_end_to_a_resource_that_says_nothing() {
    let (resource, _proxy, mut caller, _azure) = scene().await;
    caller.write_all(EXPECTING).await.unwrap();
    let (mut resource, _) = within(resource.accept()).await.unwrap();
    until(&mut resource, "\r\n\r\n").await;
    assert_eq!(until(&mut caller, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    caller.write_all(b"content").await.unwrap();
    assert_eq!(until(&mut resource, "content").await, "content");
}

/// Also where no content follows that could be read by one of them.
#[tokio::test]
async fn of_several_equal_lengths_one_answers_a_head() {
    for (lengths, passed) in [
        ("content-length: 2, 2\r\n", "content-length: 2\r\n"),
        ("content-length: 2\r\ncontent-length: 2\r\n", "content-length: 2\r\n"),
    ] {
        let (resource, _proxy, mut caller, _azure) = scene().await;
        caller.write_all(b"HEAD /v1/x HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let (mut resource, _) = within(resource.accept()).await.unwrap();
        until(&mut resource, "\r\n\r\n").await;
        resource.write_all(format!("HTTP/1.1 200 OK\r\n{lengths}\r\n").as_bytes()).await.unwrap();
        let head = until(&mut caller, "\r\n\r\n").await;
        assert!(head.contains(passed) && head.matches("content-length").count() == 1, "{head}");
    }
}

#[tokio::test]
async fn a_caller_that_does_not_wait_is_not_told_to_go_on() {
    let (resource, _proxy, mut caller, _azure) = scene().await;
    caller.write_all(&[EXPECTING, b"content"].concat()).await.unwrap();
    let (mut resource, _) = within(resource.accept()).await.unwrap();
    let head = until(&mut resource, "\r\n\r\n").await;
    assert!(!head.contains("expect:"), "{head}");
    assert_eq!(until(&mut resource, "content").await, "content");
    resource.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
    assert!(until(&mut caller, "{}").await.starts_with("HTTP/1.1 200 OK\r\n"));
}

/// HTTP/1.0 knows no expectation (RFC 9110 §10.1.1).
#[tokio::test]
async fn an_older_caller_is_not_told_to_go_on() {
    let (resource, _proxy, mut caller, _azure) = scene().await;
    let head = String::from_utf8(EXPECTING.to_vec()).unwrap().replace("HTTP/1.1", "HTTP/1.0");
    caller.write_all(head.as_bytes()).await.unwrap();
    let (mut resource, _) = within(resource.accept()).await.unwrap();
    assert!(!until(&mut resource, "\r\n\r\n").await.contains("expect:"));
    caller.write_all(b"content").await.unwrap();
    until(&mut resource, "content").await;
    resource.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
    assert!(until(&mut caller, "{}").await.starts_with("HTTP/1.1 200 OK\r\n"));
}

/// Interim responses that come in one piece with the response are passed on, too.
#[tokio::test]
async fn hints_right_before_the_response_are_not_lost() {
    let (resource, _proxy, mut caller, _azure) = scene().await;
    caller.write_all(b"GET /v1/x HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let (mut resource, _) = within(resource.accept()).await.unwrap();
    until(&mut resource, "\r\n\r\n").await;
    let both = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    resource.write_all(both).await.unwrap();
    let seen = until(&mut caller, "{}").await;
    assert!(seen.starts_with("HTTP/1.1 103 Early Hints\r\n"), "{seen}");
}

/// A caller that was not told to go on may say something else next; that must not be taken for the content.
#[tokio::test]
async fn a_permission_that_was_never_written_keeps_no_connection() {
    let (resource, _proxy, mut caller, _azure) = scene().await;
    let head = b"POST /v1/x HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 7\r\n\r\n";
    caller.write_all(head).await.unwrap();
    let (mut resource, _) = within(resource.accept()).await.unwrap();
    until(&mut resource, "\r\n\r\n").await;
    let both = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    resource.write_all(both).await.unwrap();
    let seen = until(&mut caller, "{}").await;
    assert!(
        seen.starts_with("HTTP/1.1 100 Continue\r\n") || seen.contains("connection: close\r\n"),
        "neither told to go on nor that the connection ends: {seen}"
    );
}

/// However much it has said ahead of its turn, a caller that is gone is noticed.
#[tokio::test]
async fn a_caller_that_has_said_much_ahead_may_go_away_too() {
    let (resource, _proxy, mut caller, _azure) = scene().await;
    caller.write_all(b"GET /v1/x HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let (mut resource, _) = within(resource.accept()).await.unwrap();
    until(&mut resource, "\r\n\r\n").await;
    let ahead = b"GET /v1/x HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(3000);
    caller.write_all(&ahead).await.unwrap();
    drop(caller);
    let mut rest = Vec::new();
    let _ = within(resource.read_to_end(&mut rest)).await;
}

/// A byte that is no text hides no option beside it.
#[tokio::test]
async fn close_beside_an_odd_byte_closes() {
    let (resource, _proxy, mut caller, _azure) = scene().await;
    drop(resource);
    caller.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: \xff, close\r\n\r\n").await.unwrap();
    let head = until(&mut caller, "\r\n\r\n").await;
    assert!(head.contains("connection: close\r\n"), "{head}");
}

/// A connection whose request was still to be answered when the end began does not wait for another.
#[tokio::test]
async fn the_last_response_says_that_it_is() {
    let (resource, proxy, mut caller, _azure) = scene().await;
    caller.write_all(b"GET /v1/x HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let (mut resource, _) = within(resource.accept()).await.unwrap();
    until(&mut resource, "\r\n\r\n").await;
    proxy.lifecycle.end();
    resource.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
    assert!(until(&mut caller, "{}").await.contains("\r\nconnection: close\r\n"));
    assert_eq!(within(caller.read_to_end(&mut Vec::new())).await.unwrap(), 0);
    drop(caller);
    assert_eq!(within(proxy.serving).await.unwrap().unwrap(), aoai_auth_proxy::server::Drained::Completely);
}
