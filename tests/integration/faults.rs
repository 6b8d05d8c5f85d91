//! What goes wrong with a resource: told from each other, told in time, never taken for a whole answer, and never paid for by
//! anybody else's request.

use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{join_all, poll_fn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::authority::{Authority, acceptor};
use crate::http2::{
    CANCEL, DATA, END_HEADERS, END_STREAM, HEADERS, INTERNAL_ERROR, MAX_CONCURRENT_STREAMS, NO_ERROR, REFUSED_STREAM,
    STATUS_200, Server,
};
use crate::support::within;
use crate::wire::{Caller, Front, Kind, Message, read};

const GET: &[u8] = b"GET /v1/x HTTP/1.1\r\nhost: localhost\r\n\r\n";
const OLD_GET: &[u8] = b"GET /v1/x HTTP/1.0\r\nhost: localhost\r\n\r\n";

/// A resource that reads a request and then does as told, once a connection.
async fn scripted<S, F>(script: S) -> String
where
    S: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while matches!(read(&request, Kind::Request, false), Ok(None)) {
                if !matches!(stream.read_buf(&mut request).await, Ok(1..)) {
                    break;
                }
            }
            tokio::spawn(script(stream));
        }
    });
    origin
}

/// Says something and ends the connection in an orderly way.
async fn says(bytes: &'static [u8]) -> String {
    scripted(move |mut stream| async move {
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        // Until the proxy has gone too: an unread byte would turn the end into a reset.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await
}

/// Ends the connection with a reset.
fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

/// Says something again and again for as long as anybody listens; counts the bytes.
async fn says_forever(beginning: &'static [u8], again: &'static [u8]) -> (String, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = taken.clone();
    let much = again.repeat(64 * 1024 / again.len() + 1);
    let origin = scripted(move |mut stream| {
        let (counted, much) = (counted.clone(), much.clone());
        async move {
            let mut said = stream.write_all(beginning).await;
            while said.is_ok() {
                said = stream.write_all(&much).await;
                counted.fetch_add(much.len(), Ordering::Relaxed);
            }
        }
    })
    .await;
    (origin, taken)
}

async fn answer_to(front: &Front, request: &[u8]) -> Result<Message, String> {
    let mut caller = front.call().await;
    caller.say(request).await;
    loop {
        let answer = within(caller.hear(false)).await?;
        // Hints that came before it may have been passed on.
        if answer.status() != 103 {
            return Ok(answer);
        }
    }
}

/// An error of the proxy's own.
fn is_error(answer: &Message, status: u16, code: &str, proxy_status: &str) {
    assert_eq!((answer.status(), &*answer.code()), (status, code), "{}", answer.text());
    assert_eq!(answer.values("proxy-status"), [format!("aoai-auth-proxy; error={proxy_status}")]);
}

#[tokio::test]
async fn what_is_no_response_is_told_so() {
    let beginnings: &[&[u8]] = &[
        b"",
        b"220 mail ready\r\n\r\n",
        b"\x15\x03\x01\0\x02\x02\x46",
        b"\0\0\x12\x04\0\0\0\0\0",
        b"HTTP/1.1",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx\0: y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\ncontent-length: five\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551616\r\n\r\nhello",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 103 Early",
    ];
    for beginning in beginnings {
        let origin = says(beginning).await;
        let front = Front::of(&origin, &[]).await;
        let answer = answer_to(&front, GET).await.unwrap();
        println!("{}", String::from_utf8_lossy(beginning));
        is_error(&answer, 502, "upstream_protocol", "http_protocol_error");
    }
}

#[tokio::test]
async fn a_reset_before_the_response_or_in_its_head() {
    for beginning in [&b""[..], b"HTTP/1.1 200 OK\r\nx-"] {
        let origin = scripted(move |mut stream| async move {
            stream.write_all(beginning).await.unwrap();
            reset(stream);
        })
        .await;
        let front = Front::of(&origin, &[]).await;
        let answer = answer_to(&front, GET).await.unwrap();
        is_error(&answer, 502, "upstream_protocol", "http_protocol_error");
    }
}

#[tokio::test]
async fn a_head_without_end_is_given_up_early() {
    for again in ["x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n", "y", "\r\n ", "x:\r\n"] {
        let (origin, taken) = says_forever(b"HTTP/1.1 200 OK\r\nx: y", again.as_bytes()).await;
        let front = Front::of(&origin, &[]).await;
        let answer = answer_to(&front, GET).await.unwrap();
        is_error(&answer, 502, "upstream_protocol", "http_protocol_error");
        // What the proxy reads and what the system holds between the two.
        assert!(taken.load(Ordering::Relaxed) < 32 << 20, "{again:?}: {taken:?}");
    }
}

#[tokio::test]
async fn a_flood_of_hints_does_no_harm() {
    let hints = b"HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n".repeat(100_000);
    let flood = Arc::new([&*hints, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"].concat());
    let origin = scripted(move |mut stream| {
        let flood = flood.clone();
        async move {
            let _ = stream.write_all(&flood).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    })
    .await;
    let front = Front::of(&origin, &[]).await;
    let mut caller = front.call().await;
    caller.say(GET).await;
    let answer = loop {
        let answer = within(caller.hear(false)).await.unwrap();
        if answer.status() >= 200 {
            break answer;
        }
    };
    match answer.status() {
        200 => assert_eq!(answer.text(), "ok"),
        _ => is_error(&answer, 502, "upstream_protocol", "http_protocol_error"),
    }
}

#[tokio::test]
async fn hints_without_end_are_no_answer() {
    let (origin, _) = says_forever(b"", b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n").await;
    let front = Front::of(&origin, &["upstream.response_timeout=300ms"]).await;
    let mut caller = front.call().await;
    caller.say(GET).await;
    let answer = loop {
        let answer = within(caller.hear(false)).await.unwrap();
        if answer.status() >= 200 {
            break answer;
        }
    };
    match answer.status() {
        504 => is_error(&answer, 504, "upstream_timeout", "http_response_timeout"),
        _ => is_error(&answer, 502, "upstream_protocol", "http_protocol_error"),
    }
}

#[tokio::test]
async fn a_resource_that_never_answers() {
    for beginning in [&b""[..], b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: "] {
        let origin = scripted(move |mut stream| async move {
            stream.write_all(beginning).await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        })
        .await;
        let front = Front::of(&origin, &["upstream.response_timeout=200ms"]).await;
        let mut caller = front.call().await;
        caller.say(GET).await;
        let mut answer = within(caller.hear(false)).await.unwrap();
        if answer.status() < 200 {
            answer = within(caller.hear(false)).await.unwrap();
        }
        is_error(&answer, 504, "upstream_timeout", "http_response_timeout");
    }
}

#[tokio::test]
async fn nobody_listens() {
    // Bound, so that nobody else gets the port, and not listening.
    let taken = TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    for scheme in ["http", "https"] {
        let front = Front::of(&format!("{scheme}://{}", taken.local_addr().unwrap()), &[]).await;
        let answer = answer_to(&front, GET).await.unwrap();
        is_error(&answer, 502, "upstream_unreachable", "connection_refused");
    }
}

/// A port whose queue of connections is full: whoever connects hears nothing.
async fn black_hole() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(connected) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        queued.push(connected.unwrap());
        assert!(queued.len() < 100, "this system's queues are never full");
    }
    (address, listener, queued)
}

#[tokio::test]
async fn packets_vanish() {
    let (address, _listener, _queued) = black_hole().await;
    for scheme in ["http", "https"] {
        let front = Front::of(&format!("{scheme}://{address}"), &["upstream.connect_timeout=200ms"]).await;
        let answer = answer_to(&front, GET).await.unwrap();
        is_error(&answer, 502, "upstream_unreachable", "connection_timeout");
    }
}

#[tokio::test]
async fn a_certificate_that_does_not_convince() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let cases = [
        ("UnknownIssuer", theirs.vouch("127.0.0.1", 2999)),
        ("expired", ours.vouch("127.0.0.1", 2021)),
        ("not valid for name", ours.vouch("resource.example", 2999)),
        ("not valid for name", ours.vouch("127.0.0.2", 2999)),
    ];
    for (told, identity) in cases {
        let acceptor = acceptor(identity, &["h2", "http/1.1"]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("https://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                assert!(acceptor.accept(stream).await.is_err(), "the proxy has agreed to it");
            }
        });
        let front = Front::of(&origin, &[&ours.trusted()]).await;
        let answer = answer_to(&front, GET).await.unwrap();
        is_error(&answer, 502, "upstream_tls", "tls_certificate_error");
        assert!(answer.text().contains(told), "{told}: {}", answer.text());
    }
}

#[tokio::test]
async fn what_answers_has_no_tls() {
    let ours = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    let front = Front::of(&origin, &[&ours.trusted()]).await;
    let answer = answer_to(&front, GET).await.unwrap();
    is_error(&answer, 502, "upstream_tls", "tls_protocol_error");
}

#[tokio::test]
async fn a_redirect_is_handed_back_and_followed_by_nobody() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let location = format!("http://{}/openai/v1/x", elsewhere.local_addr().unwrap());
    for status in [301, 302, 303, 307, 308] {
        let told = location.clone();
        let origin = scripted(move |mut stream| {
            let head = format!("HTTP/1.1 {status} Go away\r\nlocation: {told}\r\ncontent-length: 0\r\n\r\n");
            async move { stream.write_all(head.as_bytes()).await.unwrap() }
        })
        .await;
        let front = Front::of(&origin, &[]).await;
        for request in [GET, b"POST /v1/x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}"] {
            let answer = answer_to(&front, request).await.unwrap();
            assert_eq!((answer.status(), answer.values("location")), (status, vec![location.clone()]));
        }
    }
    assert!(elsewhere.accept().now_or_never().is_none(), "somebody has followed it");
}

/// How a resource may break off behind a head and the first bytes.
#[derive(Debug, Clone, Copy)]
enum Break {
    End,
    Reset,
    Say(&'static [u8]),
}

/// Beginnings of responses that each caller gets to see, and how they break off then.
const BREAKS: &[(&[u8], Break)] = &[
    (b"content-length: 100\r\n\r\nhello", Break::End),
    (b"content-length: 100\r\n\r\nhello", Break::Reset),
    (b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", Break::End),
    (b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", Break::Reset),
    (b"transfer-encoding: chunked\r\n\r\n9\r\nhello", Break::End),
    (b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", Break::Say(b"zz\r\n")),
    (b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", Break::Say(b"-1\r\nx\r\n0\r\n\r\n")),
    (b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", Break::Say(b"10000000000000000\r\nx\r\n0\r\n\r\n")),
    (b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", Break::Say(b"1\r\nxyz0\r\n\r\n")),
    (b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", Break::Say(b"0\r\nno colon\r\n\r\n")),
    // Nothing says how long this is, and only an orderly end is an end.
    (b"connection: close\r\n\r\nhello", Break::Reset),
];

/// A resource that breaks off once it is told to.
async fn breaking(beginning: &'static [u8], end: Break) -> (String, Arc<Semaphore>) {
    let told = Arc::new(Semaphore::new(0));
    let waiting = told.clone();
    let origin = scripted(move |mut stream| {
        let waiting = waiting.clone();
        async move {
            let _ = stream.write_all(&[b"HTTP/1.1 200 OK\r\n", beginning].concat()).await;
            waiting.acquire().await.unwrap().forget();
            match end {
                Break::End => {}
                Break::Reset => return reset(stream),
                Break::Say(bytes) => _ = stream.write_all(bytes).await,
            }
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    })
    .await;
    (origin, told)
}

/// Reads until `hello` has come.
async fn greeted(stream: &mut TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    while !heard.windows(5).any(|window| window == b"hello") {
        assert!(within(stream.read_buf(&mut heard)).await.unwrap() > 0, "{}", String::from_utf8_lossy(&heard));
    }
    heard
}

#[tokio::test]
async fn a_response_that_breaks_off_has_no_end_over_1_1() {
    for (beginning, end) in BREAKS {
        let (origin, told) = breaking(beginning, *end).await;
        let front = Front::of(&origin, &[]).await;
        let mut caller = front.call().await;
        caller.say(GET).await;
        let mut heard = greeted(&mut caller.stream).await;
        told.add_permits(1);
        let _ = within(caller.stream.read_to_end(&mut heard)).await;
        let told = String::from_utf8_lossy(&heard);
        assert!(heard.starts_with(b"HTTP/1.1 200 "), "{told}");
        let whole = read(&heard, Kind::Response { to_head: false }, false);
        assert!(matches!(whole, Ok(None)), "{end:?} was passed on as an end: {told}");
    }
}

#[tokio::test]
async fn a_response_that_breaks_off_is_reset_over_1_0() {
    for (beginning, end) in BREAKS {
        let (origin, told) = breaking(beginning, *end).await;
        let front = Front::of(&origin, &[]).await;
        let mut caller = front.call().await;
        caller.say(OLD_GET).await;
        let mut heard = greeted(&mut caller.stream).await;
        told.add_permits(1);
        let ended = within(caller.stream.read_to_end(&mut heard)).await;
        let told = String::from_utf8_lossy(&heard).to_lowercase();
        assert!(!told.contains("transfer-encoding"), "an old caller knows no chunks: {told}");
        // A length that is not reached says as much.
        if !told.contains("content-length") {
            assert_eq!(ended.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset), "{end:?}: {told}");
        }
    }
}

/// A caller that speaks HTTP/2 without TLS.
async fn modern(front: &Front) -> h2::client::SendRequest<bytes::Bytes> {
    let stream = Caller::to(front.proxy.address).await.stream;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    within(sender.ready()).await.unwrap()
}

fn modern_get(front: &Front) -> http::Request<()> {
    http::Request::get(format!("http://localhost:{}/v1/x", front.proxy.address.port())).body(()).unwrap()
}

#[tokio::test]
async fn a_response_that_breaks_off_is_reset_over_2() {
    for (beginning, end) in BREAKS {
        let (origin, told) = breaking(beginning, *end).await;
        let front = Front::of(&origin, &[]).await;
        let mut caller = modern(&front).await;
        let response = within(caller.send_request(modern_get(&front), true).unwrap().0).await.unwrap();
        assert_eq!(response.status(), 200);
        let mut content = response.into_body();
        assert_eq!(within(content.data()).await.unwrap().unwrap(), "hello");
        told.add_permits(1);
        let after = loop {
            match within(content.data()).await {
                Some(Ok(_)) => {}
                ended => break ended,
            }
        };
        assert!(
            after.as_ref().is_some_and(|after| after.as_ref().is_err_and(h2::Error::is_reset)),
            "{end:?}: {after:?}"
        );
    }
}

/// A request whose first content is `half`, over HTTP/2.
async fn half_said(front: &Front) -> (h2::client::ResponseFuture, h2::SendStream<bytes::Bytes>) {
    let mut request = modern_get(front);
    *request.method_mut() = http::Method::POST;
    let (response, mut content) = modern(front).await.send_request(request, false).unwrap();
    content.send_data("half".into(), false).unwrap();
    (response, content)
}

/// The resource's side of such a request, once it has heard so much.
async fn half_heard(listener: &TcpListener) -> (tokio::net::TcpStream, Vec<u8>) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(b"half\r\n") {
        assert_ne!(stream.read_buf(&mut heard).await.unwrap(), 0);
    }
    (stream, heard)
}

#[tokio::test]
async fn content_that_a_caller_gives_up_without_an_error_is_not_taken_for_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let (begun, begins) = tokio::sync::oneshot::channel();
    let heard = tokio::spawn(async move {
        let (mut stream, mut heard) = half_heard(&listener).await;
        begun.send(()).unwrap();
        // Whether it ends with a reset makes no difference.
        let _ = stream.read_to_end(&mut heard).await;
        String::from_utf8_lossy(&heard).into_owned()
    });
    let front = Front::of(&origin, &[]).await;
    let (response, mut content) = half_said(&front).await;
    within(begins).await.unwrap();
    content.send_reset(h2::Reason::NO_ERROR);
    drop(response);
    let heard = within(heard).await.unwrap();
    assert!(heard.ends_with("4\r\nhalf\r\n"), "{heard}");
}

#[tokio::test]
async fn content_goes_on_behind_an_early_answer_that_has_none() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let heard = tokio::spawn(async move {
        let (mut stream, mut heard) = half_heard(&listener).await;
        stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        while !heard.ends_with(b"0\r\n\r\n") && stream.read_buf(&mut heard).await.unwrap() > 0 {}
        String::from_utf8_lossy(&heard).into_owned()
    });
    let front = Front::of(&origin, &[]).await;
    let (response, mut content) = half_said(&front).await;
    assert_eq!(within(response).await.unwrap().status(), 202);
    content.send_data("rest".into(), true).unwrap();
    let heard = within(heard).await.unwrap();
    assert!(heard.ends_with("4\r\nhalf\r\n4\r\nrest\r\n0\r\n\r\n"), "{heard}");
}

#[tokio::test]
async fn chunks_that_hold_nothing_but_trifles_do_not_fill_the_memory() {
    let cases: [(&[u8], &[u8]); 2] = [
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;a=", b"aaaaaaaaaaaaaaaa"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n"),
    ];
    for (beginning, again) in cases {
        let (origin, taken) = says_forever(beginning, again).await;
        let front = Front::of(&origin, &[]).await;
        let mut caller = front.call().await;
        caller.say(GET).await;
        let mut heard = Vec::new();
        let _ = within(caller.stream.read_to_end(&mut heard)).await;
        let whole = read(&heard, Kind::Response { to_head: false }, false);
        let told = String::from_utf8_lossy(&heard);
        assert!(matches!(whole, Ok(None)) || heard.starts_with(b"HTTP/1.1 502 "), "{told}");
        assert!(taken.load(Ordering::Relaxed) < 32 << 20, "{taken:?}");
    }
}

#[tokio::test]
async fn a_size_without_end_is_silence() {
    let (origin, _) =
        says_forever(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0", b"0000000000000000").await;
    let front = Front::of(&origin, &["upstream.idle_timeout=300ms"]).await;
    let mut caller = front.call().await;
    caller.say(GET).await;
    let mut heard = Vec::new();
    let _ = within(caller.stream.read_to_end(&mut heard)).await;
    let whole = read(&heard, Kind::Response { to_head: false }, false);
    assert!(matches!(whole, Ok(None)) || heard.starts_with(b"HTTP/1.1 502 "), "{}", String::from_utf8_lossy(&heard));
}

/// A resource over TLS that ends a connection without saying so to TLS.
#[tokio::test]
async fn tls_that_is_cut_off_is_no_end() {
    let authority = Authority::new();
    let acceptor = authority.acceptor("127.0.0.1", &["http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").await.unwrap();
        stream.flush().await.unwrap();
        let (mut tcp, _) = stream.into_inner();
        tcp.shutdown().await.unwrap();
        let _ = tcp.read_to_end(&mut Vec::new()).await;
    });
    let front = Front::of(&origin, &[&authority.trusted()]).await;
    let mut caller = front.call().await;
    caller.say(GET).await;
    let heard = within(caller.hear(false)).await;
    assert!(heard.is_err(), "was passed on as an end: {heard:?}");
}

/// A resource that speaks HTTP/2, and what it does with the connection of this number, from 0.
async fn modern_resource<S, F>(settings: &'static [(u16, u32)], script: S) -> (Front, Arc<AtomicUsize>)
where
    S: Fn(Server, usize) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let authority = Authority::new();
    let acceptor = authority.acceptor("127.0.0.1", &["h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("https://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let stream = acceptor.accept(stream).await.unwrap();
            let number = counted.fetch_add(1, Ordering::Relaxed);
            let server = Server::new(stream, settings).await;
            tokio::spawn(script(server, number));
        }
    });
    (Front::of(&origin, &[&authority.trusted()]).await, connections)
}

async fn answers_all(mut server: Server) {
    while let Some(stream) = server.request().await {
        server.answer(stream, b"ok").await;
    }
}

async fn is_ok(front: &Front) {
    let answer = answer_to(front, GET).await.unwrap();
    assert_eq!((answer.status(), &*answer.text()), (200, "ok"));
}

#[tokio::test]
async fn a_connection_that_goes_away_between_requests_costs_no_error() {
    let (front, connections) = modern_resource(&[], |mut server, _| async move {
        if let Some(stream) = server.request().await {
            server.answer(stream, b"ok").await;
            server.go_away(stream).await;
        }
        // Whatever comes now is not looked at.
        while server.frame().await.is_some() {}
    })
    .await;
    for _ in 0..5 {
        is_ok(&front).await;
    }
    assert_eq!(connections.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn a_connection_that_goes_away_carries_what_it_has_begun_to_its_end() {
    let finish = Arc::new(Semaphore::new(0));
    let waiting = finish.clone();
    let (front, connections) = modern_resource(&[], move |mut server, number| {
        let waiting = waiting.clone();
        async move {
            if number > 0 {
                return answers_all(server).await;
            }
            let Some(stream) = server.request().await else { return };
            server.send(HEADERS, END_HEADERS, stream, STATUS_200).await;
            server.send(DATA, 0, stream, b"hello").await;
            server.go_away(stream).await;
            // Nothing more begins on this connection once it has been heard.
            server.round_trip().await;
            waiting.acquire().await.unwrap().forget();
            server.send(DATA, END_STREAM, stream, b", world").await;
            while server.frame().await.is_some() {}
        }
    })
    .await;
    let mut first = front.call().await;
    first.say(GET).await;
    greeted(&mut first.stream).await;
    is_ok(&front).await;
    is_ok(&front).await;
    finish.add_permits(1);
    let mut rest = Vec::new();
    while !rest.ends_with(b"0\r\n\r\n") {
        assert!(within(first.stream.read_buf(&mut rest)).await.unwrap() > 0);
    }
    assert!(String::from_utf8_lossy(&rest).contains(", world"));
    assert_eq!(connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn two_connections_that_go_away_cost_no_error_either() {
    let (front, connections) = modern_resource(&[(MAX_CONCURRENT_STREAMS, 1)], move |mut server, number| async move {
        if number > 1 {
            return answers_all(server).await;
        }
        let Some(stream) = server.request().await else { return };
        server.send(HEADERS, END_HEADERS, stream, STATUS_200).await;
        server.go_away(stream).await;
        // Whoever has this has heard that, too.
        server.send(DATA, 0, stream, b"hello").await;
        while server.frame().await.is_some() {}
    })
    .await;
    let mut callers = Vec::new();
    for _ in 0..2 {
        let mut caller = front.call().await;
        caller.say(GET).await;
        greeted(&mut caller.stream).await;
        callers.push(caller);
    }
    is_ok(&front).await;
    assert_eq!(connections.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_stream_that_a_departing_connection_never_looked_at_is_sent_on_another() {
    let (front, _) = modern_resource(&[], |mut server, number| async move {
        if number > 0 {
            return answers_all(server).await;
        }
        let Some(first) = server.request().await else { return };
        server.answer(first, b"ok").await;
        if server.request().await.is_some() {
            server.go_away(first).await;
        }
        while server.frame().await.is_some() {}
    })
    .await;
    is_ok(&front).await;
    is_ok(&front).await;
}

/// A resource that refuses its first connection's request of this number, from 0, before it has looked at it.
async fn refusing(refused: usize) -> Front {
    let (front, _) = modern_resource(&[], move |mut server, number| async move {
        let mut request = 0;
        while let Some(stream) = server.request().await {
            if (number, request) == (0, refused) {
                server.reset(stream, REFUSED_STREAM).await;
            } else {
                server.answer(stream, b"ok").await;
            }
            request += 1;
        }
    })
    .await;
    front
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_on_another_connection() {
    let front = refusing(1).await;
    for _ in 0..3 {
        is_ok(&front).await;
    }
}

#[tokio::test]
async fn also_if_the_connection_was_new() {
    is_ok(&refusing(0).await).await;
}

#[tokio::test]
async fn a_stream_that_the_resource_gives_up_on_is_not_sent_again() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    let (front, _) = modern_resource(&[], move |mut server, _| {
        let counted = counted.clone();
        async move {
            while let Some(stream) = server.request().await {
                match counted.fetch_add(1, Ordering::Relaxed) {
                    0 => server.answer(stream, b"ok").await,
                    _ => server.reset(stream, INTERNAL_ERROR).await,
                }
            }
        }
    })
    .await;
    is_ok(&front).await;
    let answer = answer_to(&front, GET).await.unwrap();
    is_error(&answer, 502, "upstream_protocol", "http_protocol_error");
    // It may have been acted upon.
    assert_eq!(requests.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_stream_that_is_reset_in_its_content_breaks_off() {
    // `content-length: 100` as a literal that is not indexed (RFC 7541 §6.2.2, name 28 of the static table).
    const LENGTH_100: &[u8] = b"\x0f\x0d\x03100";
    let resets = [INTERNAL_ERROR, CANCEL, NO_ERROR].map(Some);
    let ways = resets.into_iter().flat_map(|reset| [(&b""[..], reset), (LENGTH_100, reset)]);
    for (length, reset) in ways.chain([(LENGTH_100, None)]) {
        let told = Arc::new(Semaphore::new(0));
        let waiting = told.clone();
        let (front, connections) = modern_resource(&[], move |mut server, _| {
            let waiting = waiting.clone();
            async move {
                while let Some(stream) = server.request().await {
                    server.send(HEADERS, END_HEADERS, stream, &[STATUS_200, length].concat()).await;
                    server.send(DATA, 0, stream, b"hello").await;
                    waiting.acquire().await.unwrap().forget();
                    match reset {
                        Some(reason) => server.reset(stream, reason).await,
                        None => server.send(DATA, END_STREAM, stream, b"").await,
                    }
                }
            }
        })
        .await;
        let mut caller = front.call().await;
        caller.say(GET).await;
        let mut heard = greeted(&mut caller.stream).await;
        told.add_permits(1);
        let _ = within(caller.stream.read_to_end(&mut heard)).await;
        let whole = read(&heard, Kind::Response { to_head: false }, false);
        assert!(matches!(whole, Ok(None)), "was passed on as an end: {}", String::from_utf8_lossy(&heard));

        let mut caller = modern(&front).await;
        let response = within(caller.send_request(modern_get(&front), true).unwrap().0).await.unwrap();
        let mut content = response.into_body();
        assert_eq!(within(content.data()).await.unwrap().unwrap(), "hello");
        told.add_permits(1);
        assert!(within(content.data()).await.is_some_and(|after| after.is_err()));
        assert_eq!(connections.load(Ordering::Relaxed), 1, "the other streams of a connection live on");
    }
}

#[tokio::test]
async fn no_more_streams_begin_than_the_resource_allows() {
    const CALLERS: usize = 10;
    let too_many = Arc::new(AtomicUsize::new(0));
    let counted = too_many.clone();
    let (front, _) = modern_resource(&[(MAX_CONCURRENT_STREAMS, 1)], move |mut server, _| {
        let counted = counted.clone();
        async move {
            let mut knows = false;
            let mut waiting = std::collections::VecDeque::new();
            while let Some(stream) = match waiting.pop_front() {
                Some(stream) => Some(stream),
                None => server.request().await,
            } {
                let begun = server.round_trip().await;
                server.answer(stream, b"ok").await;
                // Before it has heard of it, nobody can keep to it.
                if knows {
                    counted.fetch_add(begun.len(), Ordering::Relaxed);
                    waiting.extend(begun);
                } else {
                    for stream in begun {
                        server.reset(stream, REFUSED_STREAM).await;
                    }
                }
                knows = true;
            }
        }
    })
    .await;
    let answers = join_all((0..CALLERS).map(|_| answer_to(&front, GET))).await;
    let statuses: Vec<u16> = answers.into_iter().map(|answer| answer.unwrap().status()).collect();
    assert_eq!(statuses, [200; CALLERS]);
    assert_eq!(too_many.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_caller_that_takes_every_request_back_disturbs_nobody() {
    let origin = scripted(|mut stream| async move {
        loop {
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
                return;
            }
            let mut request = Vec::new();
            while matches!(read(&request, Kind::Request, false), Ok(None)) {
                if !matches!(stream.read_buf(&mut request).await, Ok(1..)) {
                    return;
                }
            }
        }
    })
    .await;
    let front = Arc::new(Front::of(&origin, &[]).await);
    let hasty = tokio::spawn({
        let front = front.clone();
        async move {
            let mut caller = modern(&front).await;
            for _ in 0..2000 {
                // The proxy may send such a caller away.
                if poll_fn(|cx| caller.poll_ready(cx)).await.is_err() {
                    return;
                }
                let Ok((response, mut stream)) = caller.send_request(modern_get(&front), false) else { return };
                stream.send_reset(h2::Reason::CANCEL);
                drop(response);
            }
        }
    });
    let mut others = front.call().await;
    for _ in 0..100 {
        others.say(GET).await;
        let answer = within(others.hear(false)).await.unwrap();
        assert_eq!((answer.status(), &*answer.text()), (200, "ok"));
    }
    within(hasty).await.unwrap();
    is_ok(&front).await;
}
