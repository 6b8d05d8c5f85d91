//! A request's content on its way to the resource.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::HeaderMap;
use http_body::Body;

use super::{Error, Wire};
use crate::forward::upload::RequestBody;
use crate::http1::encoding::{Coding, Encoder};
use crate::http1::outgoing::Outgoing;

/// Content that has not been sent to its end.
#[derive(Debug)]
pub(super) struct Sending {
    /// Nothing once no more of it is wanted: whoever brings it is told by its drop.
    body: Option<RequestBody>,
    encoder: Encoder,
    /// Whether all of it was written, the head before it too.
    is_done: bool,
}

impl Sending {
    pub(super) fn new(body: RequestBody, coding: Coding) -> Self {
        let encoder = Encoder::new(coding);
        Self { body: (!encoder.has_ended()).then_some(body), encoder, is_done: false }
    }

    /// Whether nothing is left of it.
    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Whether it is not known whether the resource wants it.
    pub(super) fn is_held_back(&self) -> bool {
        self.body.as_ref().is_some_and(RequestBody::is_held_back)
    }

    /// The resource wants the content.
    pub(super) fn permit(&mut self) {
        if let Some(body) = &mut self.body {
            body.permit();
        }
    }

    /// Writes what is there, until all has been: what was gathered before goes first, and with it.
    pub(super) fn poll(&mut self, wire: &mut Wire, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            let gathered = self.poll_gather(&mut wire.outgoing, cx);
            // At once, whatever waits to be written: nobody could be told later.
            if let Poll::Ready(Err(error)) = gathered {
                return Poll::Ready(Err(error));
            }
            ready!(wire.poll_write(cx))?;
            if wire.is_deaf || ready!(gathered)? {
                (self.body, self.is_done) = (None, true);
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Gathers what is there. Ready once that should be written: with whether it is the end of the content.
    fn poll_gather(&mut self, outgoing: &mut Outgoing, cx: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(true)) };
        while !self.encoder.has_ended() {
            if outgoing.is_full() {
                return Poll::Ready(Ok(false));
            }
            match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.encoder.data(data, outgoing)?;
                        if body.is_end_stream() {
                            self.encoder.end(&HeaderMap::new(), outgoing)?;
                        }
                    }
                    Err(frame) => self.encoder.end(&frame.into_trailers().unwrap_or_default(), outgoing)?,
                },
                Some(Err(error)) => return Poll::Ready(Err(Error::Upload(error))),
                None => self.encoder.end(&HeaderMap::new(), outgoing)?,
            }
        }
        Poll::Ready(Ok(true))
    }
}
