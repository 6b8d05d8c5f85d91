//! The resource's content on its way to the caller: passed on as it arrives, never collected.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::fields;
use super::incoming::{self, Incoming};
use crate::telemetry::exchange::Exchange;

/// How long content is waited for that is looked at before its turn: a refusal comes at once.
const LOOK_AHEAD: Duration = Duration::from_secs(1);

/// The resource's content on its way to the caller. Dropping it before its end cancels the upstream request.
pub struct ResponseBody {
    incoming: Incoming,
    /// What was looked at before its turn; it goes first.
    ahead: VecDeque<Frame<Bytes>>,
    /// What ended the looking, and comes behind it.
    failed: Option<BodyError>,
    /// Whether what comes before the end has had time to be written.
    paused: bool,
    /// Since when nothing has come that is waited for, and for how long nothing may.
    silent_since: Option<Instant>,
    longest_silence: Duration,
    exchange: Option<Box<Exchange>>,
    /// Who accounts for what follows the switch to another protocol.
    tunnel: Option<oneshot::Sender<Box<Exchange>>>,
}

/// Why a response breaks off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The upstream broke off.
    #[error("the upstream broke off")]
    Upstream(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The upstream fell silent.
    #[error("the upstream was silent for {} s", .0.as_secs())]
    Silent(Duration),
}

impl ResponseBody {
    pub(super) fn new(incoming: Incoming, longest_silence: Duration) -> Self {
        Self {
            incoming,
            ahead: VecDeque::new(),
            failed: None,
            paused: false,
            silent_since: None,
            longest_silence,
            exchange: None,
            tunnel: None,
        }
    }

    /// The head says that another protocol follows: what passes then is accounted for by the tunnel.
    pub(super) fn switches(&mut self, tunnel: oneshot::Sender<Box<Exchange>>) {
        self.tunnel = Some(tunnel);
    }

    /// From now on, what passes is accounted to `exchange`, which ends with this content.
    pub fn account(&mut self, mut exchange: Box<Exchange>) {
        if let Some(tunnel) = self.tunnel.take() {
            // A tunnel that is gone already has dropped its end: the exchange ends here.
            let _ = tunnel.send(exchange);
            return;
        }
        if self.is_end_stream() {
            exchange.completed();
        }
        self.exchange = Some(exchange);
    }

    /// All of the content, if it comes soon and is no longer than `longest`; it is passed on all the same. To be asked once:
    /// content that broke off has no more to come.
    pub(super) async fn look_ahead(&mut self, longest: usize) -> Option<Vec<u8>> {
        let all = timeout(LOOK_AHEAD, async {
            while !self.incoming.is_end_stream() {
                match poll_fn(|cx| self.poll_incoming(cx)).await {
                    Some(Ok(frame)) => self.ahead.push_back(frame),
                    Some(Err(error)) => {
                        self.failed = Some(error);
                        return false;
                    }
                    None => break,
                }
                if self.bytes_ahead() > longest {
                    return false;
                }
            }
            true
        });
        let all = all.await.unwrap_or(false);
        all.then(|| self.ahead.iter().filter_map(Frame::data_ref).flatten().copied().collect())
    }

    /// Passes `content` on instead of what was looked at, which was all.
    pub(super) fn replace(&mut self, content: Bytes) {
        self.ahead.retain(Frame::is_trailers);
        self.ahead.push_front(Frame::data(content));
    }

    fn bytes_ahead(&self) -> usize {
        self.ahead.iter().filter_map(Frame::data_ref).map(Bytes::len).sum()
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.incoming.poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.silent_since = None;
                Poll::Ready(Some(Ok(fields::clean_response_frame(frame))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Pending => {
                // The clock is read once for all that came together.
                let end = *self.silent_since.get_or_insert_with(Instant::now) + self.longest_silence;
                self.incoming.alarm().poll_until(cx, end).map(|()| {
                    self.incoming.give_up();
                    Some(Err(BodyError::Silent(self.longest_silence)))
                })
            }
        }
    }
}

impl From<incoming::Error> for BodyError {
    fn from(error: incoming::Error) -> Self {
        Self::Upstream(error.into())
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let frame = match (this.ahead.pop_front(), this.failed.take()) {
            (Some(frame), failed) => {
                this.failed = failed;
                Some(Ok(frame))
            }
            (None, Some(error)) if !this.paused => {
                // The caller's side drops what it has not yet written when content fails.
                (this.failed, this.paused) = (Some(error), true);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            (None, Some(error)) => Some(Err(error)),
            (None, None) => ready!(this.poll_incoming(cx)),
        };
        let Some(exchange) = &mut this.exchange else { return Poll::Ready(frame) };
        match &frame {
            Some(Ok(frame)) => {
                exchange.passes(frame.data_ref().map_or(&[], AsRef::as_ref));
                // Nobody asks for more after the last frame.
                if this.ahead.is_empty() && (frame.is_trailers() || this.incoming.is_end_stream()) {
                    exchange.completed();
                }
            }
            Some(Err(error)) => exchange.broke_off(error),
            None => exchange.completed(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.failed.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = self.bytes_ahead() as u64;
        let rest = self.incoming.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + ahead);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + ahead);
        }
        hint
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("ended", &self.is_end_stream()).finish_non_exhaustive()
    }
}
