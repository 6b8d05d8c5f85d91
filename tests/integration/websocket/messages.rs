//! Whatever two ends of a WebSocket may say to each other arrives, and what they agreed upon stays agreed.

use futures_util::SinkExt;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::{AGREED, Before, HANDSHAKE, Socket, head, next};
use crate::support::{client, within};

/// Longer than any buffer on the way.
const LARGE: usize = 16 << 20;

async fn send(socket: &mut Socket, message: impl Into<Message>) {
    within(socket.send(message.into())).await.unwrap();
}

#[tokio::test]
async fn texts_bytes_pings_and_pongs_arrive_on_either_side() {
    let before = Before::a_socket(&[]).await;
    let (mut caller, mut resource, _) = before.open(&[]).await;
    for turn in 0..2 {
        let (from, to) = if turn == 0 { (&mut caller, &mut resource) } else { (&mut resource, &mut caller) };
        for message in [
            Message::text("a text: ü"),
            Message::text(""),
            Message::binary(vec![0, 255, 13, 10]),
            Message::Ping("are you there?".into()),
            Message::Pong("unasked".into()),
        ] {
            send(from, message.clone()).await;
            assert_eq!(next(to).await, message);
        }
        // The library answers the ping once it is asked for something.
        within(to.flush()).await.unwrap();
        assert_eq!(next(from).await, Message::Pong("are you there?".into()));
    }
}

#[tokio::test]
async fn a_message_in_fragments_arrives_with_what_came_between_them() {
    let before = Before::a_socket(&[]).await;
    let (mut caller, mut resource, _) = before.open(&[]).await;
    let fragment = |text: &'static str, code, last| Message::Frame(Frame::message(text, OpCode::Data(code), last));
    for turn in 0..2 {
        let (from, to) = if turn == 0 { (&mut caller, &mut resource) } else { (&mut resource, &mut caller) };
        send(from, fragment("one ", Data::Text, false)).await;
        send(from, fragment("two ", Data::Continue, false)).await;
        send(from, Message::Ping("between".into())).await;
        assert_eq!(next(to).await, Message::Ping("between".into()));
        send(from, fragment("three", Data::Continue, true)).await;
        assert_eq!(next(to).await, Message::text("one two three"));
        assert_eq!(next(from).await, Message::Pong("between".into()));
    }
}

#[tokio::test]
async fn large_messages_pass_both_ways_at_once() {
    let before = Before::a_socket(&[]).await;
    let (mut caller, mut resource, _) = before.open(&[]).await;
    // No two pieces that buffers are made of are alike.
    let content = |beginning| -> Vec<u8> { (beginning..=250).cycle().take(LARGE).collect() };
    let (up, down): (Vec<u8>, Vec<u8>) = (content(0), content(1));
    let ((), ()) = tokio::join!(
        async {
            send(&mut caller, up.clone()).await;
            assert!(next(&mut caller).await.into_data() == down);
        },
        async {
            assert!(next(&mut resource).await.into_data() == up);
            send(&mut resource, down.clone()).await;
        }
    );
}

#[tokio::test]
async fn what_either_side_says_with_its_handshake_is_not_lost() {
    let before = Before::a_socket(&[]).await;
    let mut caller = TcpStream::connect(before.proxy.address).await.unwrap();
    caller.write_all(format!("{HANDSHAKE}from the caller").as_bytes()).await.unwrap();
    let (mut resource, _) = within(before.listener.accept()).await.unwrap();
    head(&mut resource).await;
    resource.write_all(format!("{AGREED}from the resource").as_bytes()).await.unwrap();
    head(&mut caller).await;
    let (mut heard, mut also_heard) = ([0; 15], [0; 17]);
    within(resource.read_exact(&mut heard)).await.unwrap();
    within(caller.read_exact(&mut also_heard)).await.unwrap();
    assert_eq!((&heard, &also_heard), (b"from the caller", b"from the resource"));
}

#[tokio::test]
async fn the_subprotocol_is_the_one_that_the_resource_chose() {
    let before = Before::a_socket(&[]).await;
    let offered = [("sec-websocket-protocol", "realtime, openai-beta.realtime-v1")];
    let (_caller, _resource, answer) = before.open(&offered).await;
    assert_eq!(answer.headers()[SEC_WEBSOCKET_PROTOCOL], "realtime");
    let (_caller, _resource, answer) = before.open(&[]).await;
    assert!(!answer.headers().contains_key(SEC_WEBSOCKET_PROTOCOL));
}

#[tokio::test]
async fn extensions_are_offered_and_agreed_upon_by_the_two_ends_alone() {
    let before = Before::a_socket(&[]).await;
    let ((_caller, answered), (_resource, asked)) = before.open_plainly().await;
    let line = |head: &str| {
        let mut lines = head.split("\r\n").filter_map(|line| line.split_once(": "));
        let found = lines.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-extensions"));
        found.map(|(_, value)| value.to_owned())
    };
    let offer = "permessage-deflate; client_max_window_bits, x-other;a=\"b\"";
    assert_eq!(line(&asked).as_deref(), Some(offer), "{asked}");
    assert_eq!(line(&answered).as_deref(), Some("permessage-deflate;server_no_context_takeover"), "{answered}");
    assert!(answered.to_ascii_lowercase().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{answered}");
}

/// A conversation whose messages are compressed, as both sides have agreed: what it cost is not known, and that is told.
#[tokio::test]
async fn a_compressed_conversation_is_of_unknown_cost() {
    let before = Before::a_socket(&[]).await;
    let ((mut caller, _), (mut resource, _)) = before.open_plainly().await;
    // A text, complete and compressed; then the end.
    resource.write_all(&[0xc1, 3, 1, 2, 3, 0x88, 0]).await.unwrap();
    let mut heard = [0; 7];
    within(caller.read_exact(&mut heard)).await.unwrap();
    drop((caller, resource));
    let metrics = || async {
        let url = format!("http://{}/metrics", before.proxy.address);
        within(within(client().get(url).send()).await.unwrap().text()).await.unwrap()
    };
    let text = within(async {
        loop {
            let text = metrics().await;
            if text.contains(r#"route="/v1/realtime",status="101""#) {
                break text;
            }
        }
    })
    .await;
    assert!(text.contains("aoai_proxy_responses_of_unknown_usage_total{"), "{text}");
}
