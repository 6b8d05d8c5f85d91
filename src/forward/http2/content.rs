//! A response's content as it comes.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Frame, SizeHint};

use super::sending::Rest;
use super::{Error, Place};
use crate::alarm::Alarm;

/// Content that comes. Dropped before its end, it cancels the request.
#[derive(Debug)]
pub(in crate::forward) struct Content {
    stream: RecvStream,
    /// How much is still to come, if that was said.
    left: Option<u64>,
    /// Whether more than trailers may come.
    has_data: bool,
    /// What the request still sends.
    rest: Option<Rest>,
    /// Until all of it has come.
    place: Option<Place>,
    /// For whoever waits for what comes next.
    pub(in crate::forward) alarm: Alarm,
}

impl Content {
    pub(super) fn new(stream: RecvStream, length: Option<u64>, rest: Option<Rest>, place: Place) -> Self {
        let mut content =
            Self { stream, left: length, has_data: true, rest, place: Some(place), alarm: Alarm::default() };
        if content.is_end_stream() {
            content.end();
        }
        content
    }

    pub(in crate::forward) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(self.poll_next(cx));
        // Nobody asks for more after the end, an error, or trailers.
        if frame.as_ref().is_none_or(|frame| frame.as_ref().map_or(true, Frame::is_trailers)) || self.is_end_stream() {
            self.end();
        }
        Poll::Ready(frame)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.has_data {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    // The resource may send as much again: the caller asks for this when it has room.
                    return Poll::Ready(match self.stream.flow_control().release_capacity(data.len()) {
                        Ok(()) => Some(Ok(Frame::data(data))),
                        Err(error) => Some(Err(self.explain(error))),
                    });
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(self.explain(error)))),
                None => self.has_data = false,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
            Err(error) => Poll::Ready(Some(Err(self.explain(error)))),
        }
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

    pub(in crate::forward) fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    pub(in crate::forward) fn size_hint(&self) -> SizeHint {
        match self.left {
            _ if self.is_end_stream() => SizeHint::with_exact(0),
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::default(),
        }
    }
}
