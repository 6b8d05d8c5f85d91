//! What comes from a caller: heads for the conversation, content for whoever has the request. Both read the same socket,
//! never at the same time.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};

use super::framing::{Decoder, Framing, Piece};
use super::head::{self, Head};
use super::lines::Unclear;
use crate::error::ProxyError;
use crate::server::content::ContentError;
use crate::server::socket::Reader;

/// How much is read at once while a head is expected…
const HEAD_READ: usize = 8 * 1024;
/// …and while content is.
const CONTENT_READ: usize = 32 * 1024;
/// How much of what follows a request is taken before the request is answered.
const MOST_AHEAD: usize = 64 * 1024;
/// The most interim responses that wait to be written; more than that nobody sends for a reason.
const MOST_INTERIM: usize = 8;

/// The reading half of a conversation, which ends with it.
#[derive(Debug)]
pub(super) struct Inbound(Shared);

#[derive(Debug, Clone)]
struct Shared(Arc<Mutex<Reading>>);

#[derive(Debug)]
struct Reading {
    /// Nobody reads any more once it is gone.
    reader: Option<Reader>,
    buffer: BytesMut,
    /// How much of `buffer` is known to hold no end of a head.
    scanned: usize,
    /// Counts the requests: content and interim responses of an earlier one have no part in a later one.
    request: u64,
    content: State,
    /// Whether the caller waits to be told that its content is wanted.
    permission: Permission,
    interim: Vec<(StatusCode, HeaderMap)>,
    content_waits: Option<Waker>,
    conversation_waits: Option<Waker>,
}

#[derive(Debug)]
enum State {
    /// There is none, or no more.
    Over,
    /// Somebody has it.
    Coming(Decoder),
    /// Nobody wants the rest.
    Abandoned(Decoder),
    /// It broke off, or nobody knows where it ends.
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Permission {
    NotAwaited,
    Awaited,
    Given,
}

/// The content of a request.
#[derive(Debug)]
pub(in crate::server) struct Content {
    shared: Shared,
    request: u64,
}

/// Sends interim responses (RFC 9110 §15.2) ahead of the response to a request.
#[derive(Debug, Clone)]
pub struct Interim {
    shared: Shared,
    request: u64,
}

/// What happens to a conversation while a request is answered.
pub(super) enum Event {
    /// The caller has gone away.
    Gone,
    /// These interim responses are to be written.
    Interim(Vec<(StatusCode, HeaderMap)>),
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
        Self(Shared(Arc::new(Mutex::new(Reading {
            reader: Some(reader),
            buffer,
            scanned: 0,
            request: 0,
            content: State::Over,
            permission: Permission::NotAwaited,
            interim: Vec::new(),
            content_waits: None,
            conversation_waits: None,
        }))))
    }

    /// The next head. Must not be asked for while content is still to come.
    pub(super) fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<Head, NoHead>> {
        let reading = &mut *self.open();
        loop {
            match head::take(&mut reading.buffer, &mut reading.scanned) {
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(NoHead::Refused(error))),
            }
            match ready!(reading.poll_read(cx, HEAD_READ)) {
                Ok(0) | Err(_) => return Poll::Ready(Err(NoHead::End)),
                Ok(_) => {}
            }
        }
    }

    /// Whether a head has begun.
    pub(super) fn has_begun(&self) -> bool {
        !self.open().buffer.is_empty()
    }

    /// The content that follows the head just taken.
    pub(super) fn content(&self, framing: Framing, expects_continue: bool) -> Option<Content> {
        let mut reading = self.open();
        reading.request += 1;
        reading.interim.clear();
        let decoder = Decoder::new(framing);
        if decoder.has_ended() {
            return None;
        }
        // Content that came with the head was not held back (RFC 9110 §10.1.1).
        let waits = expects_continue && reading.buffer.is_empty();
        reading.permission = if waits { Permission::Awaited } else { Permission::NotAwaited };
        reading.content = State::Coming(decoder);
        Some(Content { shared: self.0.clone(), request: reading.request })
    }

    /// A way to send interim responses ahead of the response that comes next.
    pub(super) fn interim(&self) -> Interim {
        Interim { shared: self.0.clone(), request: self.open().request }
    }

    /// What happens next while a request is answered.
    pub(super) fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Event> {
        let reading = &mut *self.open();
        if !reading.interim.is_empty() {
            return Poll::Ready(Event::Interim(std::mem::take(&mut reading.interim)));
        }
        remember(&mut reading.conversation_waits, cx);
        let discard = match reading.content {
            // Whoever reads it will see the end.
            State::Coming(_) | State::Broken => return Poll::Pending,
            State::Over => false,
            State::Abandoned(_) => true,
        };
        loop {
            if discard {
                reading.buffer.clear();
            }
            if reading.buffer.len() >= MOST_AHEAD {
                return Poll::Pending;
            }
            match ready!(reading.poll_read(cx, HEAD_READ)) {
                Ok(0) | Err(_) => return Poll::Ready(Event::Gone),
                Ok(_) => {}
            }
        }
    }

    /// Whether another request can follow: all content has come, or the rest of it has and can be passed over. Waits while
    /// somebody still reads it.
    pub(super) fn poll_is_clear(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let reading = &mut *self.open();
        match &mut reading.content {
            State::Over => Poll::Ready(true),
            State::Broken => Poll::Ready(false),
            State::Abandoned(decoder) => {
                while let Ok(Some(_)) = decoder.next(&mut reading.buffer) {}
                let ended = decoder.has_ended();
                if ended {
                    reading.content = State::Over;
                }
                Poll::Ready(ended)
            }
            State::Coming(_) => {
                remember(&mut reading.conversation_waits, cx);
                Poll::Pending
            }
        }
    }

    /// Whether the caller still holds content back that nobody has asked for: whether it will ever come, nobody knows.
    pub(super) fn is_held_back(&self) -> bool {
        self.open().permission == Permission::Awaited
    }

    /// Whether somebody has content that has not all been read.
    pub(super) fn is_coming(&self) -> bool {
        matches!(self.open().content, State::Coming(_))
    }

    /// Whether nobody wants the content that is still to come.
    pub(super) fn is_unwanted(&self) -> bool {
        matches!(self.open().content, State::Abandoned(_) | State::Broken)
    }

    /// Whether the caller has ended its side while somebody has content that was not all read.
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
        if matches!(reading.content, State::Coming(_)) {
            reading.content = State::Broken;
        }
        wake(&mut reading.content_waits);
    }
}

impl Shared {
    /// A panic elsewhere leaves nothing half done in here.
    fn open(&self) -> MutexGuard<'_, Reading> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading {
    fn poll_read(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        match &mut self.reader {
            Some(reader) => reader.poll_read(cx, &mut self.buffer, room),
            None => Poll::Ready(Ok(0)),
        }
    }

    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ContentError>>> {
        loop {
            let decoder = match &mut self.content {
                State::Coming(decoder) => decoder,
                State::Over => return Poll::Ready(None),
                State::Abandoned(_) | State::Broken => return Poll::Ready(Some(Err(ContentError::Short))),
            };
            let piece = decoder.next(&mut self.buffer);
            let over = decoder.has_ended();
            let most = decoder.left().map_or(CONTENT_READ, |left| usize::try_from(left).unwrap_or(usize::MAX));
            match piece {
                Ok(piece) if piece.is_some() || over => {
                    if over {
                        self.content = State::Over;
                        wake(&mut self.conversation_waits);
                    }
                    return Poll::Ready(piece.map(|piece| {
                        Ok(match piece {
                            Piece::Data(data) => Frame::data(data),
                            Piece::Trailers(fields) => Frame::trailers(fields),
                        })
                    }));
                }
                Ok(_) => {}
                Err(Unclear(problem)) => return self.broken(ContentError::Malformed(problem)),
            }
            if self.permission == Permission::Awaited {
                self.permission = Permission::Given;
                self.interim.push((StatusCode::CONTINUE, HeaderMap::new()));
                wake(&mut self.conversation_waits);
            }
            // Not a byte more than the content's own end needs, so that what follows it stays in few pieces.
            let most = most.clamp(HEAD_READ, CONTENT_READ);
            match self.poll_read(cx, most) {
                Poll::Ready(Ok(0)) => return self.broken(ContentError::Short),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return self.broken(ContentError::Connection(error)),
                Poll::Pending => {
                    remember(&mut self.content_waits, cx);
                    return Poll::Pending;
                }
            }
        }
    }

    fn broken(&mut self, error: ContentError) -> Poll<Option<Result<Frame<Bytes>, ContentError>>> {
        self.content = State::Broken;
        wake(&mut self.conversation_waits);
        Poll::Ready(Some(Err(error)))
    }
}

impl Content {
    /// Whether the caller waits for a word before it sends anything.
    pub(in crate::server) fn is_held_back(&self) -> bool {
        self.open().is_some_and(|reading| reading.permission == Permission::Awaited)
    }

    /// What it is read from, unless a later request has that by now.
    fn open(&self) -> Option<MutexGuard<'_, Reading>> {
        Some(self.shared.open()).filter(|reading| reading.request == self.request)
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = ContentError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ContentError>>> {
        self.open().map_or(Poll::Ready(None), |mut reading| reading.poll_content(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.open().is_none_or(|reading| matches!(reading.content, State::Over))
    }

    fn size_hint(&self) -> SizeHint {
        match self.open().map(|reading| reading.content.left()) {
            None => SizeHint::with_exact(0),
            Some(left) => left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        let Some(mut reading) = self.open() else { return };
        reading.content = match std::mem::replace(&mut reading.content, State::Over) {
            State::Coming(decoder) => State::Abandoned(decoder),
            other => other,
        };
        reading.content_waits = None;
        wake(&mut reading.conversation_waits);
    }
}

impl Interim {
    /// Has an interim response written, unless too many wait already or the response itself has begun.
    pub fn send(&self, status: StatusCode, fields: HeaderMap) {
        let mut reading = self.shared.open();
        if reading.request == self.request && reading.interim.len() < MOST_INTERIM {
            reading.interim.push((status, fields));
            wake(&mut reading.conversation_waits);
        }
    }
}

impl State {
    /// How many bytes are still to come, if that is known.
    fn left(&self) -> Option<u64> {
        match self {
            Self::Over => Some(0),
            Self::Coming(decoder) => decoder.left(),
            Self::Abandoned(_) | Self::Broken => None,
        }
    }
}

fn remember(slot: &mut Option<Waker>, cx: &Context<'_>) {
    if !slot.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        *slot = Some(cx.waker().clone());
    }
}

fn wake(slot: &mut Option<Waker>) {
    if let Some(waker) = slot.take() {
        waker.wake();
    }
}
