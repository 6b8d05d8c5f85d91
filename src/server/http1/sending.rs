//! A response's content on its way to the caller: what is there is written, and nothing waits for more.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use tokio::time::{Sleep, sleep};

use crate::http1::encoding::{Coding, Encoder};
use crate::http1::outgoing::Outgoing;
use crate::server::socket::Writer;

/// How long a caller may take nothing of what is there for it: it holds a connection to the resource, and a place.
const STALLED: Duration = Duration::from_secs(300);

/// The content was not written to its end.
pub(super) struct Interrupted;

/// Content on its way out.
pub(super) struct Sending<'body, B> {
    body: Pin<&'body mut B>,
    encoder: Encoder,
    failed: bool,
    /// When to give up a caller that takes nothing, while it takes nothing.
    patience: Option<Pin<Box<Sleep>>>,
}

impl<'body, B: Body<Data = Bytes>> Sending<'body, B> {
    pub(super) fn new(body: Pin<&'body mut B>, coding: Coding) -> Self {
        Self { body, encoder: Encoder::new(coding), failed: false, patience: None }
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
            let waiting = outgoing.len();
            match outgoing.poll_write(writer, cx) {
                Poll::Ready(Ok(())) => self.patience = None,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Interrupted)),
                Poll::Pending => {
                    if outgoing.len() < waiting {
                        self.patience = None;
                    }
                    let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(STALLED)));
                    return patience.as_mut().poll(cx).map(|()| Err(Interrupted));
                }
            }
            if ready!(gathered)? {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Gathers what is there. Ready once that should be written: with whether it is the end of the content.
    fn poll_gather(&mut self, outgoing: &mut Outgoing, cx: &mut Context<'_>) -> Poll<Result<bool, Interrupted>> {
        while !self.encoder.has_ended() && !self.failed {
            if outgoing.is_full() {
                return Poll::Ready(Ok(false));
            }
            let written = match ready!(self.body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.encoder.data(data, outgoing).and_then(|()| {
                        if self.body.is_end_stream() { self.encoder.end(&HeaderMap::new(), outgoing) } else { Ok(()) }
                    }),
                    Err(frame) => self.encoder.end(&frame.into_trailers().unwrap_or_default(), outgoing),
                },
                Some(Err(_)) => {
                    self.failed = true;
                    break;
                }
                None => self.encoder.end(&HeaderMap::new(), outgoing),
            };
            self.failed = written.is_err();
        }
        Poll::Ready(if self.failed { Err(Interrupted) } else { Ok(true) })
    }
}
