//! A connection beside the library's own server: what was put on behind the library's back is what the other side reads.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::client;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response};
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::connection::Patience;
use super::frames::{Frames, Own};
use super::outlet::Outlet;
use super::*;
use crate::forward::upload::{Onlookers, Upload};
use crate::server::Content as CallersContent;

fn sensitive(value: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(value).expect("a value");
    value.set_sensitive(true);
    value
}

/// A request with content of this length, which says which one it is.
fn request(number: usize) -> Request<()> {
    Request::post(format!("https://resource.example/openai/v1/{number}")).body(()).expect("a request")
}

/// As its own, a request says this in `Authorization`.
fn own(authorization: &str) -> Own {
    Own { authorization: sensitive(authorization), client_request_id: None }
}

/// Answers each request with what it had in `Authorization` and in `x-ms-client-request-id`.
async fn answers(io: impl AsyncRead + AsyncWrite + Unpin) {
    let mut builder = h2::server::Builder::new();
    let mut connection = builder.max_header_list_size(1 << 20).handshake::<_, Bytes>(io).await.expect("a handshake");
    while let Some(asked) = connection.accept().await {
        let (request, mut answer) = asked.expect("a request");
        let values: Vec<_> = request.headers().get_all(AUTHORIZATION).iter().cloned().collect();
        let [value] = &*values else { panic!("{} values: {request:?}", values.len()) };
        let mut response = Response::builder().header("came", value.clone()).body(()).expect("a response");
        for id in request.headers().get_all(&CLIENT_REQUEST_ID) {
            response.headers_mut().append(&CLIENT_REQUEST_ID, id.clone());
        }
        let _ = answer.send_response(response, true);
    }
}

/// Asks with these values in both at once, each with content if that has a length, and says what came of those that were not taken back.
async fn came(values: &[String], content: usize, takes_some_back: bool) -> Vec<String> {
    // Less room than what is said, so that it is said in pieces.
    let (near, far) = duplex(3000);
    let outlet = Outlet::new(near);
    let mut builder = client::Builder::new();
    builder.max_header_list_size(1 << 20);
    let (sender, mut connection) = builder.handshake::<_, Bytes>(outlet.clone()).await.expect("a handshake");
    let mut answers = pin!(answers(far));
    let is_taken_back = |number: usize| takes_some_back && number % 2 == 1;
    let mut asked: Vec<_> = Vec::new();
    for (number, value) in values.iter().enumerate() {
        let (response, mut stream) = sender.clone().send_request(request(number), content == 0).expect("room");
        let client_request_id = Some(HeaderValue::from_str(value).expect("a value"));
        outlet.add(stream.stream_id().as_u32(), Own { client_request_id, ..own(value) });
        if content > 0 {
            stream.send_data(vec![b'x'; content].into(), true).expect("room");
        }
        // Every other one is taken back before anything was said: its head goes out all the same.
        if !is_taken_back(number) {
            asked.push((response, stream));
        }
    }
    let all = async {
        let mut came = Vec::new();
        for (response, ..) in asked {
            let response = response.await.expect("a response");
            let [value, id] = ["came", CLIENT_REQUEST_ID.as_str()].map(|name| &response.headers()[name]);
            assert_eq!(value, id);
            came.push(value.to_str().expect("text").to_owned());
        }
        came
    };
    let mut all = pin!(all);
    let came = poll_fn(|cx| {
        assert!(Pin::new(&mut connection).poll(cx).is_pending());
        assert!(!outlet.drains_in_vain(cx));
        assert!(answers.as_mut().poll(cx).is_pending());
        all.as_mut().poll(cx)
    })
    .await;
    drop(sender);
    assert!(outlet.unsent().is_empty());
    came
}

#[tokio::test]
async fn each_request_has_its_own_authorization() {
    let values: Vec<String> = [1, 3, 126, 127, 128, 1500, 16_360, 16_384, 40_000]
        .into_iter()
        .map(|length| "abcdefghijklmnopqrstuvwxyz".chars().cycle().skip(length % 26).take(length).collect())
        .collect();
    for content in [0, 100, 10_000, 60_000] {
        assert_eq!(came(&values, content, false).await, values, "with content of {content} bytes");
        let left: Vec<_> = values.iter().step_by(2).cloned().collect();
        assert_eq!(came(&values, content, true).await, left, "with content of {content} bytes");
    }
}

#[tokio::test]
async fn what_belongs_to_no_request_any_more_is_not_kept() {
    let outlet = Outlet::new(duplex(100).0);
    outlet.add(1, own("first"));
    outlet.add(3, Own { client_request_id: Some(HeaderValue::from_static("second")), ..own("key") });
    assert_eq!(outlet.unsent(), [1, 3]);
    assert!(!format!("{outlet:?}").contains("second"));
    outlet.close();
    assert!(outlet.unsent().is_empty());
}

/// Frames as the library writes them: a preface, settings, a head in two parts, one with the end of its request, content, and one
/// that nobody has anything to say to.
fn written() -> Vec<u8> {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).expect("short");
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, b"settin"),
        frame(1, 0, 1, b"head"),
        frame(9, 4, 1, b"more"),
        frame(0, 1, 1, b"content"),
        frame(1, 5, 3, b"head"),
        frame(0, 0, 5, b""),
        frame(1, 5, 7, b"trailers"),
    ]
    .concat()
}

#[test]
fn fields_grow_by_what_is_put_behind_them_and_nothing_else_changes() {
    let own_of = |stream| {
        let client_request_id = (stream == 3).then_some(HeaderValue::from_static("id"));
        matches!(stream, 1 | 3).then(|| Own { client_request_id, ..own("key") })
    };
    let mut out = BytesMut::new();
    Frames::new().write(&written(), &mut out, own_of);
    let expected = written();
    let grown = |from: &[u8], to: &[u8], text: &[u8]| {
        let at = text.windows(from.len()).position(|part| part == from).expect("a frame");
        [&text[..at], to, &text[at + from.len()..]].concat()
    };
    // A literal that is never indexed, with the 23rd name of the table, and a value of three bytes (RFC 7541 §6.2.3).
    let expected =
        grown(b"\0\0\x04\x09\x04\0\0\0\x01more", b"\0\0\x0a\x09\x04\0\0\0\x01more\x1f\x08\x03key", &expected);
    // The other one with its name, and not for the table (RFC 7541 §6.2.2).
    let both = b"\0\0\x25\x01\x05\0\0\0\x03head\x1f\x08\x03key\0\x16x-ms-client-request-id\x02id";
    let expected = grown(b"\0\0\x04\x01\x05\0\0\0\x03head", both, &expected);
    assert_eq!(out, expected);
}

#[test]
fn what_was_long_once_keeps_no_room() {
    let (mut frames, mut out) = (Frames::new(), BytesMut::new());
    frames.write(&written(), &mut out, |stream| (stream == 1).then(|| own(&"k".repeat(20_000))));
    assert_eq!(frames.kept(), 0);
    assert!(out.len() > 20_000);
}

proptest! {
    #[test]
    fn it_does_not_matter_in_which_pieces_frames_are_written(cuts in prop::collection::vec(0_usize..130, 0..20)) {
        let own_of = |stream| matches!(stream, 1 | 3).then(|| own(&"k".repeat(300)));
        let (mut whole, mut pieces) = (BytesMut::new(), BytesMut::new());
        Frames::new().write(&written(), &mut whole, own_of);
        let (mut frames, mut rest) = (Frames::new(), &*written());
        for cut in cuts {
            let (now, later) = rest.split_at(cut.min(rest.len()));
            // What could go on as it is, does at every other cut.
            let as_it_is = if cut % 2 == 0 { frames.passes(now) } else { 0 };
            pieces.extend_from_slice(&now[..as_it_is]);
            frames.passed(as_it_is);
            frames.write(&now[as_it_is..], &mut pieces, own_of);
            rest = later;
        }
        frames.write(rest, &mut pieces, own_of);
        prop_assert_eq!(whole, pieces);
    }
}

/// A connection to whoever `listener` accepts.
async fn connected(listener: &TcpListener) -> (Link, TcpStream) {
    let address = listener.local_addr().expect("an address");
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (Link::Plain(near.expect("a connection")), far.expect("a connection").0)
}

fn nothing() -> RequestBody {
    let upload = Upload::new(CallersContent::nothing(), 0, Duration::from_secs(1), Onlookers::default());
    upload.ok().and_then(|mut upload| upload.attempt()).expect("no content")
}

#[tokio::test]
async fn ids_of_callers_arrive_however_many_there_are() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let (near, far) = connected(&listener).await;
    let resource = tokio::spawn(answers(far));
    let session = Session::begin(near).await.expect("a session");
    for ids in [&["one"][..], &[], &["two", "three"], &["four"]] {
        let mut request = request(0);
        for id in ids {
            request.headers_mut().append(&CLIENT_REQUEST_ID, HeaderValue::from_static(id));
        }
        let asking = session.turn().ask(request, sensitive("key"), nothing()).expect("room");
        let response = asking.response().await.expect("a response");
        assert_eq!(response.headers().get_all(&CLIENT_REQUEST_ID).iter().collect::<Vec<_>>(), ids);
    }
    drop(session);
    resource.await.expect("the end");
}

#[tokio::test]
async fn the_id_of_a_caller_is_in_no_table() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let (near, mut far) = connected(&listener).await;
    let session = Session::begin(near).await.expect("a session");
    let mut request = request(0);
    request.headers_mut().append(&CLIENT_REQUEST_ID, HeaderValue::from_static("one"));
    let asking = session.turn().ask(request, sensitive("key"), nothing()).expect("room");
    let as_it_is = b"\0\x16x-ms-client-request-id\x03one";
    let mut read = BytesMut::new();
    let comes = async {
        while !read.windows(as_it_is.len()).any(|part| part == as_it_is) {
            assert_ne!(far.read_buf(&mut read).await.expect("bytes"), 0);
        }
    };
    tokio::select! {
        _ = asking.response() => panic!("nobody has answered"),
        came = timeout(Duration::from_secs(20), comes) => came.expect("the request, with the id as it is"),
    }
}

/// Whoever begins a request and whoever writes it are not always one thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_head_leaves_without_what_belongs_into_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let (near, far) = connected(&listener).await;
    let resource = tokio::spawn(answers(far));
    let session = Arc::new(Session::begin(near).await.expect("a session"));
    let callers = (0..4).map(|caller| {
        let session = session.clone();
        tokio::spawn(async move {
            for number in 0..250 {
                let value = format!("{caller} {number}");
                let asking = session.turn().ask(request(number), sensitive(&value), nothing()).expect("room");
                let response = asking.response().await.expect("a response");
                assert_eq!(response.headers()["came"], value);
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.expect("answers");
    }
    drop(session);
    resource.await.expect("the end");
}

#[tokio::test]
async fn a_place_that_is_shared_is_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let (near, _far) = connected(&listener).await;
    let session = Session::begin(near).await.expect("a session");
    let carried = || session.line.carried.load(Ordering::Relaxed);
    let (mut first, second) = (session.turn().place, session.turn().place);
    let others = [first.share(), first.share()];
    assert_eq!(carried(), 2);
    drop(first);
    drop(second);
    assert_eq!(carried(), 1);
    drop(others);
    assert_eq!(carried(), 0);
}

#[tokio::test]
async fn a_resource_that_answers_nothing_not_even_a_ping_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let (near, mut far) = connected(&listener).await;
    let patience = Patience { silence: Duration::from_millis(10), answer: Duration::from_millis(10) };
    let mut session = connection::begin(near, patience).await.expect("a session");
    let turn = session.turn();
    let asking = turn.ask(request(0), sensitive("Bearer text"), nothing()).expect("room");
    assert!(session.is_used() && !session.is_over());
    let error = asking.response().await.map(|_| ()).expect_err("no response");
    assert!(matches!(error, Error::Silent), "{error:?}");
    assert!(!session.is_used() && session.is_over());
    let mut all = Vec::new();
    far.read_to_end(&mut all).await.expect("the end");
    // A ping has eight bytes.
    assert!(all.windows(5).any(|head| head == b"\0\0\x08\x06\0"), "{all:?}");
}
