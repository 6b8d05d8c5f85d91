//! A response's content as it comes.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Frame, SizeHint};

use super::sending::Rest;
use super::{Error, Place};
use crate::alarm::Alarm;

/// So much is taken before the library is told. What each piece is told by costs a lock, and what is not told of is missing in what
/// the resource may send: a fraction of it, which is there again once nobody has a handle of the stream any more.
const MOST_UNTOLD: usize = 64 * 1024;

/// Content that comes. Dropped before its end, it cancels the request.
#[derive(Debug)]
pub(in crate::forward) struct Content {
    stream: RecvStream,
    /// How much is still to come, if that was said.
    left: Option<u64>,
    /// How much was taken that the library was not told of, which it does not let come again.
    untold: usize,
    /// Whether more than trailers may come.
    has_data: bool,
    /// Whether nothing more comes, as it was known with what came last.
    has_ended: bool,
    /// What the request still sends.
    rest: Option<Rest>,
    /// Until all of it has come.
    place: Option<Place>,
    /// For whoever waits for what comes next.
    pub(in crate::forward) alarm: Alarm,
}

impl Content {
    pub(super) fn new(stream: RecvStream, length: Option<u64>, rest: Option<Rest>, place: Place) -> Self {
        let mut content = Self {
            has_ended: stream.is_end_stream(),
            stream,
            left: length,
            untold: 0,
            has_data: true,
            rest,
            place: Some(place),
            alarm: Alarm::default(),
        };
        if content.has_ended {
            content.end();
        }
        content
    }

    pub(in crate::forward) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(self.poll_next(cx));
        self.has_ended = self.stream.is_end_stream();
        // Nobody asks for more after the end, an error, or trailers.
        if frame.as_ref().is_none_or(|frame| frame.as_ref().map_or(true, Frame::is_trailers)) || self.has_ended {
            self.end();
        }
        Poll::Ready(frame)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.has_data {
            match self.stream.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    self.untold += data.len();
                    if self.untold >= MOST_UNTOLD {
                        self.tell()?;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(self.explain(error)))),
                Poll::Ready(None) => self.has_data = false,
                Poll::Pending => return Poll::Pending,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
            Err(error) => Poll::Ready(Some(Err(self.explain(error)))),
        }
    }

    /// The resource may send as much again as was taken: the caller asks for more when it has room.
    fn tell(&mut self) -> Result<(), Error> {
        let taken = std::mem::take(&mut self.untold);
        self.stream.flow_control().release_capacity(taken).map_err(|error| self.explain(error))
    }

    fn explain(&self, error: h2::Error) -> Error {
        match &self.place {
            Some(place) => place.line.explain(error),
            None => Error::Protocol(error),
        }
    }

    fn end(&mut self) {
        self.place = None;
        if let Some(rest) = &mut self.rest {
            rest.detach();
        }
    }

    /// Whether nothing more comes. What comes late and says only that, shows at the next attempt.
    pub(in crate::forward) fn is_end_stream(&self) -> bool {
        self.has_ended
    }

    pub(in crate::forward) fn size_hint(&self) -> SizeHint {
        match self.left {
            _ if self.is_end_stream() => SizeHint::with_exact(0),
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::default(),
        }
    }
}
