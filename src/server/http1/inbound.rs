//! What comes from a caller: heads for the conversation, content for whoever has the request. Both read the same socket,
//! never at the same time.

use std::sync::MutexGuard;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use http::{HeaderMap, StatusCode};

use super::content::{Content, Interim};
use super::head::{self, Head};
use super::reading::{CONTENT_READ, HEAD_READ, Permission, Reading, Shared, State, remember, wake};
use crate::error::ProxyError;
use crate::http1::framing::{Decoder, Framing};
use crate::server::socket::Reader;

/// How much of what follows a request is taken before the request is answered.
const MOST_AHEAD: usize = 64 * 1024;
/// The reading half of a conversation, which ends with it.
#[derive(Debug)]
pub(super) struct Inbound(Shared);

/// What is known of a caller while its request is answered.
pub(super) enum Watched {
    /// It has gone away.
    Gone,
    /// Nothing more: what it sends is not read for now.
    NoMore,
}

/// What there is to know before a response begins.
pub(super) struct Before {
    /// The interim responses that are to be written first.
    pub(super) interim: Vec<(StatusCode, HeaderMap)>,
    /// Whether the caller still holds content back that nobody has asked for: whether it will ever come, nobody knows.
    pub(super) is_held_back: bool,
    /// Whether there is content to come, wanted or not.
    pub(super) is_coming: bool,
}

/// Why no head came.
pub(super) enum NoHead {
    /// The caller has nothing more to say, or cannot.
    End,
    /// What came is none.
    Refused(ProxyError),
}

impl Inbound {
    /// Reads on from `buffer`, which was read before.
    pub(super) fn new(reader: Reader, buffer: BytesMut) -> Self {
        Self(Shared::new(reader, buffer))
    }

    /// The next head. Must not be asked for while content is still to come. `begun` says whether one has begun, and
    /// goes on saying so: whoever begins again and again has no more time for it.
    pub(super) fn poll_head(&self, cx: &mut Context<'_>, begun: &mut bool) -> Poll<Result<Head, NoHead>> {
        let reading = &mut *self.open();
        loop {
            match head::take(&mut reading.buffer, &mut reading.scanned) {
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(NoHead::Refused(error))),
            }
            *begun |= !reading.buffer.is_empty();
            match ready!(reading.poll_read(cx, HEAD_READ)) {
                Ok(0) | Err(_) => return Poll::Ready(Err(NoHead::End)),
                Ok(_) => {}
            }
        }
    }

    /// The content that follows the head just taken, and a way to send interim responses ahead of the response.
    pub(super) fn content(&self, framing: Framing, expects_continue: bool) -> (Option<Content>, Interim) {
        let mut reading = self.open();
        reading.request += 1;
        reading.interim.clear();
        let decoder = Decoder::new(framing);
        // Content that came with the head was not held back (RFC 9110 §10.1.1).
        let waits = expects_continue && reading.buffer.is_empty() && !decoder.has_ended();
        reading.permission = if waits { Permission::Awaited } else { Permission::NotAwaited };
        let request = reading.request;
        let interim = Interim { shared: self.0.clone(), request };
        if decoder.has_ended() {
            return (None, interim);
        }
        let left = decoder.left();
        reading.content = State::Coming(decoder);
        (Some(Content { shared: self.0.clone(), request, waits, left, has_ended: false }), interim)
    }

    /// What there is to know before a response begins.
    pub(super) fn before_response(&self) -> Before {
        let reading = &mut *self.open();
        reading.pass_over();
        Before {
            interim: std::mem::take(&mut reading.interim),
            is_held_back: reading.permission == Permission::Awaited,
            is_coming: !matches!(reading.content, State::Over),
        }
    }

    /// Watches the caller while its request is answered; also has whoever polls woken when there are interim responses, which
    /// it takes, and when content changes hands. What comes that belongs to no content stays for later, up to a measure.
    pub(super) fn poll_gone(&self, cx: &mut Context<'_>, interim: &mut Vec<(StatusCode, HeaderMap)>) -> Poll<Watched> {
        let reading = &mut *self.open();
        remember(&mut reading.conversation_waits, cx);
        interim.append(&mut reading.interim);
        loop {
            reading.pass_over();
            match reading.content {
                // Whoever waits for it will see the end.
                State::Coming(_) if reading.content_waits.is_some() => return Poll::Pending,
                State::Coming(_) | State::Broken => return Poll::Ready(Watched::NoMore),
                State::Over if reading.buffer.len() >= MOST_AHEAD => return Poll::Ready(Watched::NoMore),
                State::Over | State::Abandoned(_) => {}
            }
            match ready!(reading.poll_read(cx, HEAD_READ)) {
                Ok(0) | Err(_) => return Poll::Ready(Watched::Gone),
                Ok(_) => {}
            }
        }
    }

    /// How much content was taken so far, of all requests.
    pub(super) fn taken(&self) -> u64 {
        self.open().taken
    }

    /// Whether another request can follow: all content has come, or the rest of it has and can be passed over. Waits while
    /// somebody still reads it.
    pub(super) fn poll_is_clear(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let reading = &mut *self.open();
        reading.pass_over();
        match reading.content {
            State::Over => Poll::Ready(true),
            State::Broken | State::Abandoned(_) => Poll::Ready(false),
            State::Coming(_) => {
                remember(&mut reading.conversation_waits, cx);
                Poll::Pending
            }
        }
    }

    /// Whether the caller has ended its side, whatever is left to read before that.
    pub(super) fn has_been_left(&self) -> bool {
        let reading = self.open();
        reading.reader.as_ref().is_none_or(Reader::has_been_ended)
    }

    /// Reads and forgets. Ready when something has come: with whether it was not the end.
    pub(super) fn poll_discard(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let reading = &mut *self.open();
        reading.buffer.clear();
        reading.poll_read(cx, CONTENT_READ).map(|read| !matches!(read, Ok(0) | Err(_)))
    }

    /// The socket, and what was read from it before its turn.
    pub(super) fn into_reader(self) -> (Option<Reader>, BytesMut) {
        let mut reading = self.open();
        (reading.reader.take(), std::mem::take(&mut reading.buffer))
    }

    fn open(&self) -> MutexGuard<'_, Reading> {
        self.0.open()
    }
}

impl Drop for Inbound {
    /// Whoever still reads content must not wait for more.
    fn drop(&mut self) {
        let mut reading = self.open();
        reading.reader = None;
        wake(&mut reading.content_waits);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use http_body::Body as _;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::server::socket::{Stream, Writer};

    /// What a caller writes, and where it is read.
    async fn conversation() -> (TcpStream, Inbound, Writer) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let caller = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a connection");
        let (stream, peer) = listener.accept().await.expect("a caller");
        let stream = Stream::Tcp { stream, peer };
        let (reader, writer) = stream.split();
        (caller, Inbound::new(reader, BytesMut::new()), writer)
    }

    async fn head(inbound: &Inbound) -> Head {
        match poll_fn(|cx| inbound.poll_head(cx, &mut false)).await {
            Ok(head) => head,
            Err(NoHead::Refused(error)) => panic!("{error}"),
            Err(NoHead::End) => panic!("the end"),
        }
    }

    /// Lets the conversation look at what happens until `done`.
    async fn until(inbound: &Inbound, mut done: impl FnMut(&Inbound) -> bool) {
        poll_fn(|cx| {
            assert!(!matches!(inbound.poll_gone(cx, &mut Vec::new()), Poll::Ready(Watched::Gone)));
            if done(inbound) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    #[tokio::test]
    async fn who_begins_again_and_again_has_begun_once() {
        let (mut caller, inbound, _writer) = conversation().await;
        let mut begun = false;
        // Together an empty line, which is passed over.
        for (part, left) in [("\r", 1), ("\n", 0)] {
            caller.write_all(part.as_bytes()).await.expect("writing");
            poll_fn(|cx| {
                assert!(inbound.poll_head(cx, &mut begun).is_pending());
                if inbound.open().buffer.len() == left { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            assert!(begun, "{part:?}");
        }
    }

    #[tokio::test]
    async fn what_nobody_wants_is_passed_over_to_the_byte() {
        for framing in
            ["content-length: 10\r\n\r\n0123456789", "transfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n"]
        {
            let (mut caller, inbound, _writer) = conversation().await;
            caller.write_all(b"POST /a HTTP/1.1\r\nhost: a\r\n").await.expect("writing");
            let (begun, rest) = framing.split_at(framing.len() - 7);
            caller.write_all(begun.as_bytes()).await.expect("writing");
            let first = head(&inbound).await;
            drop(inbound.content(first.framing, false).0);
            // What has come of it is thrown away while the response is written, and then the rest is.
            until(&inbound, |inbound| inbound.open().buffer.is_empty()).await;
            caller.write_all(rest.as_bytes()).await.expect("writing");
            caller.write_all(b"GET /b HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("writing");
            until(&inbound, |inbound| inbound.open().buffer.starts_with(b"GET /b")).await;
            assert!(poll_fn(|cx| inbound.poll_is_clear(cx)).await);
            assert_eq!(head(&inbound).await.request.uri(), "/b");
        }
    }

    #[tokio::test]
    async fn what_is_left_of_an_earlier_request_has_no_part_in_a_later_one() {
        let (mut caller, inbound, _writer) = conversation().await;
        let requests = "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab";
        caller.write_all(requests.repeat(2).as_bytes()).await.expect("writing");
        let first = head(&inbound).await;
        let (old, interim) = inbound.content(first.framing, false);
        let mut old = old.expect("content");
        let frame = poll_fn(|cx| Pin::new(&mut old).poll_frame(cx)).await.expect("a frame").expect("content");
        assert_eq!(frame.into_data().expect("data"), "ab");
        let second = head(&inbound).await;
        let new = inbound.content(second.framing, false).0.expect("content");
        interim.send(StatusCode::EARLY_HINTS, HeaderMap::new());
        assert!(old.is_end_stream() && poll_fn(|cx| Pin::new(&mut old).poll_frame(cx)).await.is_none());
        drop(old);
        assert!(matches!(inbound.open().content, State::Coming(_)));
        assert_eq!(new.size_hint().exact(), Some(2));
        assert!(inbound.before_response().interim.is_empty());
    }

    /// Counts how often somebody is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_task_that_is_at_work_is_not_woken_by_what_it_takes() {
        let (mut caller, inbound, _writer) = conversation().await;
        let request = "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab";
        caller.write_all(request.repeat(2).as_bytes()).await.expect("writing");
        let conversation = Arc::new(Woken::default());
        for (takes, woken) in [(conversation.clone(), 0), (Arc::new(Woken::default()), 1)] {
            let head = head(&inbound).await;
            let mut content = inbound.content(head.framing, false).0.expect("content");
            let waker = conversation.clone().into();
            let watched = inbound.poll_gone(&mut Context::from_waker(&waker), &mut Vec::new());
            assert!(matches!(watched, Poll::Ready(Watched::NoMore)), "somebody has the content");
            let waker = takes.into();
            let taken = Pin::new(&mut content).poll_frame(&mut Context::from_waker(&waker));
            assert!(taken.is_ready() && content.is_end_stream());
            drop(content);
            assert_eq!(conversation.0.load(Ordering::Relaxed), woken);
        }
    }

    #[tokio::test]
    async fn a_caller_that_has_left_is_noticed_behind_content_that_nobody_takes() {
        let (mut caller, inbound, _writer) = conversation().await;
        caller
            .write_all(b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nbeginning")
            .await
            .expect("writing");
        let head = head(&inbound).await;
        let _content = inbound.content(head.framing, false).0.expect("content");
        assert!(!inbound.has_been_left());
        drop(caller);
        while !inbound.has_been_left() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_is_said_ahead_of_its_turn_waits_outside() {
        let (mut caller, inbound, _writer) = conversation().await;
        caller.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("writing");
        let head = head(&inbound).await;
        assert!(inbound.content(head.framing, false).0.is_none());
        let much = tokio::spawn(async move { caller.write_all(&vec![b'x'; 16 << 20]).await });
        until(&inbound, |inbound| inbound.open().buffer.len() >= MOST_AHEAD).await;
        for _ in 0..100 {
            until(&inbound, |_| true).await;
            tokio::task::yield_now().await;
        }
        // A buffer that grows doubles.
        assert!(inbound.open().buffer.len() < 3 * MOST_AHEAD && !much.is_finished());
    }
}
