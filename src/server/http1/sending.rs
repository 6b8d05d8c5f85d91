//! A response's content on its way to the caller: what is there is written, and nothing waits for more.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;

use super::answer::Coding;
use super::outgoing::Outgoing;
use crate::server::socket::Writer;

/// The content was not written to its end.
pub(super) struct Interrupted;

/// Content on its way out.
pub(super) struct Sending<'body, B> {
    body: Pin<&'body mut B>,
    coding: Coding,
    ended: bool,
    failed: bool,
}

impl<'body, B: Body<Data = Bytes>> Sending<'body, B> {
    pub(super) fn new(body: Pin<&'body mut B>, coding: Coding) -> Self {
        Self { body, coding, ended: coding == Coding::Nothing, failed: false }
    }

    /// Writes what is there, until all has been.
    pub(super) fn poll(
        &mut self,
        outgoing: &mut Outgoing,
        writer: &mut Writer,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Interrupted>> {
        loop {
            let gathered = self.poll_gather(outgoing, cx);
            ready!(outgoing.poll_write(writer, cx)).map_err(|_: io::Error| Interrupted)?;
            if ready!(gathered)? {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Gathers what is there. Ready once that should be written: with whether it is the end of the content.
    fn poll_gather(&mut self, outgoing: &mut Outgoing, cx: &mut Context<'_>) -> Poll<Result<bool, Interrupted>> {
        while !self.ended && !self.failed {
            if outgoing.is_full() {
                return Poll::Ready(Ok(false));
            }
            match ready!(self.body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.data(data, outgoing),
                    Err(frame) => self.end(&frame.into_trailers().unwrap_or_default(), outgoing),
                },
                Some(Err(_)) => self.failed = true,
                None => self.end(&HeaderMap::new(), outgoing),
            }
        }
        Poll::Ready(if self.failed { Err(Interrupted) } else { Ok(true) })
    }

    fn end(&mut self, trailers: &HeaderMap, outgoing: &mut Outgoing) {
        self.ended = true;
        match self.coding {
            Coding::Chunked => {
                outgoing.text(b"0\r\n");
                outgoing.fields(trailers);
                outgoing.text(b"\r\n");
            }
            Coding::Length(left) => self.failed = left > 0,
            Coding::Nothing | Coding::UntilClose => {}
        }
    }

    fn data(&mut self, data: Bytes, outgoing: &mut Outgoing) {
        if data.is_empty() {
            return;
        }
        match &mut self.coding {
            Coding::Chunked => outgoing.chunk(data),
            Coding::Length(left) => match left.checked_sub(data.len() as u64) {
                Some(rest) => {
                    *left = rest;
                    outgoing.content(data);
                }
                // More than the head has promised: nobody could tell the rest from the next response.
                None => self.failed = true,
            },
            Coding::UntilClose => outgoing.content(data),
            Coding::Nothing => {}
        }
    }
}
