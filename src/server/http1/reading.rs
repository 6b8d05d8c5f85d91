//! What is known of the bytes that come from a caller: whose they are, and who waits for them.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::Frame;

use crate::http1::framing::{Decoder, Piece};
use crate::http1::lines::Unclear;
use crate::server::content::ContentError;
use crate::server::socket::Reader;

/// How much is read at once while a head is expected…
pub(super) const HEAD_READ: usize = 8 * 1024;
/// …and while content is.
pub(super) const CONTENT_READ: usize = 32 * 1024;

/// The reading half of a conversation, for both who read. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Shared(Arc<Mutex<Reading>>);

#[derive(Debug)]
pub(super) struct Reading {
    /// Nobody reads any more once it is gone.
    pub(super) reader: Option<Reader>,
    pub(super) buffer: BytesMut,
    /// How much of `buffer` is known to hold no end of a head.
    pub(super) scanned: usize,
    /// Counts the requests: content and interim responses of an earlier one have no part in a later one.
    pub(super) request: u64,
    pub(super) content: State,
    /// Whether the caller waits to be told that its content is wanted.
    pub(super) permission: Permission,
    pub(super) interim: Vec<(StatusCode, HeaderMap)>,
    /// How much content was taken so far.
    pub(super) taken: u64,
    pub(super) content_waits: Option<Waker>,
    pub(super) conversation_waits: Option<Waker>,
}

#[derive(Debug)]
pub(super) enum State {
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
pub(super) enum Permission {
    NotAwaited,
    Awaited,
    Given,
}

impl Shared {
    pub(super) fn new(reader: Reader, buffer: BytesMut) -> Self {
        Self(Arc::new(Mutex::new(Reading {
            reader: Some(reader),
            buffer,
            scanned: 0,
            request: 0,
            content: State::Over,
            permission: Permission::NotAwaited,
            interim: Vec::new(),
            taken: 0,
            content_waits: None,
            conversation_waits: None,
        })))
    }

    /// A panic elsewhere leaves nothing half done in here.
    pub(super) fn open(&self) -> MutexGuard<'_, Reading> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading {
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        match &mut self.reader {
            Some(reader) => reader.poll_read(cx, &mut self.buffer, room),
            None => Poll::Ready(Ok(0)),
        }
    }

    /// The next piece of content.
    pub(super) fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ContentError>>> {
        loop {
            let decoder = match &mut self.content {
                State::Coming(decoder) => decoder,
                State::Over => return Poll::Ready(None),
                State::Abandoned(_) | State::Broken => return Poll::Ready(Some(Err(ContentError::GivenUp))),
            };
            let piece = decoder.next(&mut self.buffer);
            let over = decoder.has_ended();
            let most = decoder.left().and_then(|left| usize::try_from(left).ok()).unwrap_or(usize::MAX);
            match piece {
                Ok(piece) if piece.is_some() || over => {
                    if over {
                        self.content = State::Over;
                    }
                    if self.content_waits.take().is_some() || over {
                        // From now on it is the conversation that has to watch for the end.
                        wake_another(&mut self.conversation_waits, cx);
                    }
                    return Poll::Ready(piece.map(|piece| {
                        Ok(match piece {
                            Piece::Data(data) => {
                                self.taken += data.len() as u64;
                                Frame::data(data)
                            }
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
            match self.poll_read(cx, most.clamp(HEAD_READ, CONTENT_READ)) {
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

    /// Takes from the buffer what belongs to content that nobody wants: what follows it is the next request's.
    pub(super) fn pass_over(&mut self) {
        let State::Abandoned(decoder) = &mut self.content else { return };
        loop {
            match decoder.next(&mut self.buffer) {
                Ok(Some(_)) => {}
                Ok(None) if decoder.has_ended() => return self.content = State::Over,
                Ok(None) => return,
                Err(_) => return self.content = State::Broken,
            }
        }
    }
}

impl State {
    /// How many bytes are still to come, if that is known.
    pub(super) fn left(&self) -> Option<u64> {
        match self {
            Self::Over => Some(0),
            Self::Coming(decoder) => decoder.left(),
            Self::Abandoned(_) | Self::Broken => None,
        }
    }
}

/// Has whoever polls woken.
pub(super) fn remember(slot: &mut Option<Waker>, cx: &Context<'_>) {
    if !slot.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        *slot = Some(cx.waker().clone());
    }
}

/// Wakes whoever waits, but for the task that is at work already: a conversation looks after its caller each time that it has
/// looked for the answer.
fn wake_another(slot: &mut Option<Waker>, cx: &Context<'_>) {
    if slot.as_ref().is_some_and(|waker| !waker.will_wake(cx.waker())) {
        wake(slot);
    }
}

pub(super) fn wake(slot: &mut Option<Waker>) {
    if let Some(waker) = slot.take() {
        waker.wake();
    }
}
