//! A request's content on its way to the resource.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as _;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Error, Place};
use crate::forward::LONGEST_REST;
use crate::forward::upload::RequestBody;

/// Content that has not been handed over to its end.
pub(super) struct Sending {
    body: RequestBody,
    stream: SendStream<Bytes>,
    /// What waits until the resource takes more, and whether it is the last.
    waiting: Option<(Bytes, bool)>,
    /// Whether anything was handed over.
    has_begun: bool,
}

/// Content that is still sent after the response's head has come. Dropped, it is not.
#[derive(Debug)]
pub(super) struct Rest(Option<JoinHandle<()>>);

impl Sending {
    pub(super) fn new(body: RequestBody, stream: SendStream<Bytes>) -> Self {
        Self { body, stream, waiting: None, has_begun: false }
    }

    /// Hands over what is there. Ready once nothing is left, or no more is wanted: the response will say why.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            if let Some((data, is_last)) = self.waiting.take() {
                if !data.is_empty() && !ready!(self.poll_room(cx, &data, is_last)) {
                    return Poll::Ready(Ok(()));
                }
                self.has_begun = true;
                if self.stream.send_data(data, is_last).is_err() || is_last {
                    return Poll::Ready(Ok(()));
                }
            }
            // Room is asked for when there is something to send: what one stream holds, others cannot have.
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                return self.stream.poll_reset(cx).map(|_| Ok(()));
            };
            match frame.map(|frame| frame.map(http_body::Frame::into_data)) {
                Some(Ok(Ok(data))) => self.waiting = Some((data, self.body.is_end_stream())),
                Some(Ok(Err(frame))) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    // If the stream is gone, the response will say why.
                    let _ = self.stream.send_trailers(trailers);
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => {
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(Error::Upload(error)));
                }
                None => self.waiting = Some((Bytes::new(), true)),
            }
        }
    }

    /// Waits until the resource takes more. The first piece does not wait here: it is short, and the library holds it back if
    /// it must. Whether any more is wanted.
    fn poll_room(&mut self, cx: &mut Context<'_>, data: &Bytes, is_last: bool) -> Poll<bool> {
        if !self.has_begun {
            return Poll::Ready(true);
        }
        self.stream.reserve_capacity(1);
        while self.stream.capacity() == 0 {
            match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(false),
                Poll::Pending => {
                    self.waiting = Some((data.clone(), is_last));
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(true)
    }

    /// Sends the rest while the response is passed on.
    pub(super) fn go_on(mut self, place: Place) -> Rest {
        let task = tokio::spawn(async move {
            // Whoever reads the response learns what is wrong.
            let _ = poll_fn(|cx| self.poll(cx)).await;
            drop(place);
        });
        Rest(Some(task))
    }
}

impl Rest {
    /// The response is over: what is still to be sent is sent for the sake of the resource, if it takes that soon.
    pub(super) fn detach(&mut self) {
        let Some(mut task) = self.0.take().filter(|task| !task.is_finished()) else { return };
        tokio::spawn(async move {
            if timeout(LONGEST_REST, &mut task).await.is_err() {
                task.abort();
            }
        });
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}
