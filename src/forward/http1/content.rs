//! A response's content as it comes, and what becomes of its connection afterwards.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::duplex::Duplex;
use super::head::Extent;
use super::{Answer, Error, Wire};
use crate::alarm::Alarm;
use crate::forward::pool::Pool;
use crate::http1::framing::{Decoder, Framing, Piece};

/// So much of what has come goes on at once, at most.
const MOST_AT_ONCE: usize = 64 * 1024;

/// A response's content. Dropped before its end, it closes the connection.
#[derive(Debug)]
pub(in crate::forward) enum Content {
    /// The request was sent to its end: who asks for the response reads it from the connection.
    Alone(Carried),
    /// The request is still being sent: the connection is carried in a task of its own.
    Both(Duplex),
}

/// A response's content, and the connection that it comes on.
#[derive(Debug)]
pub(in crate::forward) struct Carried {
    /// Nothing once the content is over.
    wire: Option<Box<Wire>>,
    reading: Reading,
    /// Whether the head has said how long the content is.
    has_length: bool,
    trailers: Option<Box<HeaderMap>>,
    /// What ends the content behind what has come.
    failed: Option<Error>,
    keeps_alive: bool,
    /// Where the connection goes when it may carry another request.
    pool: Option<Arc<Pool>>,
    /// For what has no connection any more.
    alarm: Alarm,
}

/// What is known of content whose bytes come one after the other.
#[derive(Debug)]
enum Reading {
    Framed(Decoder),
    UntilClose,
    Over,
}

impl Content {
    /// What follows the head of `answer` on `wire`, which goes back to `pool` when it is over and may be used again.
    pub(in crate::forward) fn new(wire: Box<Wire>, answer: Answer, pool: Option<Arc<Pool>>) -> Self {
        let Answer { extent, keeps_alive, sending, .. } = answer;
        let reading = match extent {
            Extent::Framed(Framing::Length(0)) => Reading::Over,
            Extent::Framed(framing) => Reading::Framed(Decoder::new(framing)),
            Extent::UntilClose => Reading::UntilClose,
        };
        // Content that was not asked for is not sent any more; what follows would be taken for it.
        let gives_up = sending.is_held_back();
        let keeps_alive = keeps_alive && !gives_up;
        let has_length = matches!(extent, Extent::Framed(Framing::Length(_)));
        let mut carried = Carried {
            wire: Some(wire),
            reading,
            has_length,
            trailers: None,
            failed: None,
            keeps_alive,
            pool,
            alarm: Alarm::default(),
        };
        if !sending.is_done() && !gives_up {
            return Self::Both(Duplex::begin(carried, sending));
        }
        if carried.is_over() {
            carried.settle();
        }
        Self::Alone(carried)
    }

    pub(in crate::forward) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self {
            Self::Alone(carried) => {
                let frame = ready!(carried.poll_frame(cx));
                if carried.is_over() {
                    carried.settle();
                }
                Poll::Ready(frame)
            }
            Self::Both(duplex) => duplex.poll_frame(cx),
        }
    }

    pub(in crate::forward) fn is_end_stream(&self) -> bool {
        match self {
            Self::Alone(carried) => carried.is_over(),
            Self::Both(duplex) => duplex.left() == Some(0),
        }
    }

    /// For whoever waits for what comes next.
    pub(in crate::forward) fn alarm(&mut self) -> &mut Alarm {
        match self {
            Self::Alone(carried) => match &mut carried.wire {
                Some(wire) => &mut wire.alarm,
                None => &mut carried.alarm,
            },
            Self::Both(duplex) => &mut duplex.alarm,
        }
    }

    pub(in crate::forward) fn size_hint(&self) -> SizeHint {
        let left = match self {
            Self::Alone(carried) => carried.left(),
            Self::Both(duplex) => duplex.left(),
        };
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Carried {
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(self.poll_content(cx));
        if matches!(frame, Some(Err(_))) {
            self.give_up();
        }
        Poll::Ready(frame)
    }

    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            if let Some(trailers) = self.trailers.take() {
                return Poll::Ready(Some(Ok(Frame::trailers(*trailers))));
            }
            if let Some(error) = self.failed.take() {
                return Poll::Ready(Some(Err(error)));
            }
            let Some(wire) = &mut self.wire else { return Poll::Ready(None) };
            let come = match &mut self.reading {
                Reading::Over => return Poll::Ready(None),
                Reading::UntilClose => Some(wire.inbound.split().freeze()),
                Reading::Framed(decoder) => {
                    let come = together(decoder, &mut wire.inbound, &mut self.trailers, &mut self.failed);
                    if decoder.has_ended() {
                        self.reading = Reading::Over;
                    }
                    come
                }
            };
            if let Some(data) = come.filter(|data| !data.is_empty()) {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if self.trailers.is_some() || self.failed.is_some() || matches!(self.reading, Reading::Over) {
                continue;
            }
            match ready!(wire.link.poll_append(cx, &mut wire.inbound)) {
                Ok(0) if matches!(self.reading, Reading::UntilClose) => self.reading = Reading::Over,
                Ok(0) => return Poll::Ready(Some(Err(Error::Short))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(Error::Connection(error)))),
            }
        }
    }

    /// Goes on sending.
    pub(super) fn poll_send(&mut self, sending: &mut super::Sending, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.wire.as_deref_mut().map_or(Poll::Ready(Ok(())), |wire| sending.poll(wire, cx))
    }

    /// Whether all of the response has come and was taken.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.reading, Reading::Over) && self.trailers.is_none()
    }

    /// How many bytes are still to come, if the head has said how many there are.
    pub(super) fn left(&self) -> Option<u64> {
        match &self.reading {
            Reading::Over if self.has_length => Some(0),
            Reading::Framed(decoder) => decoder.left(),
            Reading::Over | Reading::UntilClose => None,
        }
    }

    /// The connection may carry another request, if it is fit to.
    pub(super) fn settle(&mut self) {
        let (Some(wire), Some(pool)) = (self.wire.take(), self.pool.take()) else { return };
        if self.keeps_alive && !wire.is_deaf && wire.inbound.is_empty() {
            pool.keep(wire);
        }
    }

    /// The connection is of no use once the response is over.
    pub(super) fn closes(&mut self) {
        self.keeps_alive = false;
    }

    /// The connection is closed.
    fn give_up(&mut self) {
        self.wire = None;
        self.reading = Reading::Over;
    }
}

/// The content at the beginning of `buffer`, of all chunks that are there; what ends it comes behind.
fn together(
    decoder: &mut Decoder,
    buffer: &mut BytesMut,
    trailers: &mut Option<Box<HeaderMap>>,
    failed: &mut Option<Error>,
) -> Option<Bytes> {
    let (mut first, mut gathered) = (None, BytesMut::new());
    while gathered.len() < MOST_AT_ONCE {
        match decoder.next(buffer) {
            Ok(None) => break,
            Ok(Some(Piece::Trailers(fields))) => {
                *trailers = Some(Box::new(fields));
                break;
            }
            Ok(Some(Piece::Data(data))) if gathered.is_empty() && first.is_none() => first = Some(data),
            Ok(Some(Piece::Data(data))) => {
                if let Some(first) = first.take() {
                    gathered.reserve(first.len() + data.len() + buffer.len());
                    gathered.extend_from_slice(&first);
                }
                gathered.extend_from_slice(&data);
            }
            Err(unclear) => {
                *failed = Some(unclear.into());
                break;
            }
        }
    }
    first.or_else(|| (!gathered.is_empty()).then(|| gathered.freeze()))
}
