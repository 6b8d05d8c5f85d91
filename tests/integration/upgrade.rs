//! Connections that stop being HTTP pass as bytes, with our token at their beginning.

use aoai_auth_proxy::server::Drained;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::support::{azure, demo_settings, proxy, within};

const ASK: &str = "GET /v1/realtime?model=m&api-key=mine HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\nauthorization: Bearer mine\r\n\
                   sec-websocket-protocol: realtime, openai-insecure-api-key.mine\r\n\r\n";

/// Reads up to the end of a head.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within(stream.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

/// A resource that gives `answer` to the first request and then echoes what comes, and what it was asked.
async fn resource(answer: &'static str) -> (String, oneshot::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let (asked, was_asked) = oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        asked.send(head(&mut stream).await).unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    });
    (origin, was_asked)
}

async fn ask(
    origin: &str,
    settings: &[&str],
) -> (TcpStream, crate::support::Proxy, aoai_auth_proxy::emulator::Emulator) {
    let (azure, clock) = azure(true).await;
    let mut all = demo_settings(&azure);
    all.push(format!("upstream.endpoint={origin}"));
    all.extend(settings.iter().map(|setting| (*setting).to_owned()));
    let proxy = proxy(&all, &clock).await;
    let mut caller = TcpStream::connect(proxy.address).await.unwrap();
    caller.write_all(ASK.as_bytes()).await.unwrap();
    (caller, proxy, azure)
}

#[tokio::test]
async fn bytes_pass_both_ways_once_the_resource_agrees() {
    let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n";
    let (origin, was_asked) = resource(answer).await;
    let (mut caller, _proxy, _azure) = ask(&origin, &[]).await;
    let answered = head(&mut caller).await;
    assert!(answered.starts_with("http/1.1 101 "), "{answered}");
    for line in ["connection: upgrade", "upgrade: websocket", "sec-websocket-accept: x"] {
        assert!(answered.contains(line), "{answered}");
    }
    let asked = was_asked.await.unwrap();
    assert!(asked.starts_with("get /openai/v1/realtime?model=m http/1.1\r\n"), "{asked}");
    assert!(asked.contains("authorization: bearer eyj") && asked.contains("upgrade: websocket"), "{asked}");
    assert!(asked.contains("sec-websocket-protocol: realtime\r\n") && !asked.contains("mine"), "{asked}");

    for message in [&b"hello"[..], &[0, 255, 13, 10]] {
        caller.write_all(message).await.unwrap();
        let mut echo = vec![0; message.len()];
        within(caller.read_exact(&mut echo)).await.unwrap();
        assert_eq!(echo, message);
    }
    caller.shutdown().await.unwrap();
    let mut rest = Vec::new();
    within(caller.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty(), "the end of one side ends the other");
}

#[tokio::test]
async fn a_refusal_passes_as_a_plain_response() {
    let (origin, _was_asked) = resource("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}").await;
    let (mut caller, _proxy, _azure) = ask(&origin, &[]).await;
    let answered = head(&mut caller).await;
    assert!(answered.starts_with("http/1.1 404 ") && answered.contains("content-length: 2"), "{answered}");
}

#[tokio::test]
async fn silence_on_both_sides_ends_the_connection() {
    let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let (origin, _was_asked) = resource(answer).await;
    let (mut caller, _proxy, _azure) = ask(&origin, &["upstream.idle_timeout=100ms"]).await;
    assert!(head(&mut caller).await.starts_with("http/1.1 101 "));
    let mut rest = Vec::new();
    within(caller.read_to_end(&mut rest)).await.unwrap();
}

#[tokio::test]
async fn the_end_waits_for_connections_that_have_switched() {
    let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let (origin, _was_asked) = resource(answer).await;
    let (mut caller, mut proxy, _azure) = ask(&origin, &[]).await;
    assert!(head(&mut caller).await.starts_with("http/1.1 101 "));
    proxy.lifecycle.end();
    for _ in 0..10 {
        caller.write_all(b"still here").await.unwrap();
        let mut echo = [0; 10];
        within(caller.read_exact(&mut echo)).await.unwrap();
        assert!(!proxy.serving.is_finished());
    }
    drop(caller);
    assert_eq!(within(&mut proxy.serving).await.unwrap().unwrap(), Drained::Completely);
}

#[tokio::test]
async fn a_connection_that_has_switched_keeps_its_place() {
    let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let (origin, _was_asked) = resource(answer).await;
    let (mut caller, proxy, _azure) = ask(&origin, &["limits.max_connections=1"]).await;
    assert!(head(&mut caller).await.starts_with("http/1.1 101 "));
    let mut second = TcpStream::connect(proxy.address).await.unwrap();
    second.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    // The first connection is still served, and that is what shows that the second one is not: it was sent before.
    for _ in 0..10 {
        caller.write_all(b"ping").await.unwrap();
        let mut echo = [0; 4];
        within(caller.read_exact(&mut echo)).await.unwrap();
        assert!(second.try_read(&mut [0; 1]).is_err(), "the second connection waits");
    }
    drop(caller);
    assert!(head(&mut second).await.starts_with("http/1.1 200 "));
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_no_answer() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ] {
        let (origin, _was_asked) = resource(answer).await;
        let (mut caller, proxy, _azure) = ask(&origin, &[]).await;
        assert!(head(&mut caller).await.starts_with("http/1.1 502 "));
        drop(proxy);
        let (origin, _was_asked) = resource(answer).await;
        let (azure, clock) = azure(true).await;
        let mut settings = demo_settings(&azure);
        settings.push(format!("upstream.endpoint={origin}"));
        let proxy = crate::support::proxy(&settings, &clock).await;
        let response = within(crate::support::client().get(format!("http://{}/v1/x", proxy.address)).send()).await;
        assert_eq!(response.unwrap().status(), 502);
    }
}
