//! The resource's content on its way to the caller: passed on as it arrives, never collected.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use super::fields;
use super::pool::Lease;
use super::silence::Silence;
use crate::telemetry::exchange::Exchange;

/// The resource's content on its way to the caller. Dropping it before its end cancels the upstream request.
pub struct ResponseBody {
    incoming: Incoming,
    /// Given back when the content has ended as it should; dropped otherwise, which closes the connection or stream.
    lease: Option<Lease>,
    silence: Silence,
    exchange: Option<Exchange>,
    /// Who accounts for what follows the switch to another protocol.
    tunnel: Option<oneshot::Sender<Exchange>>,
}

/// Why a response breaks off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The upstream broke off.
    #[error("the upstream broke off")]
    Upstream(#[source] hyper::Error),
    /// The upstream fell silent.
    #[error("the upstream was silent for {} s", .0.as_secs())]
    Silent(Duration),
}

impl ResponseBody {
    pub(super) fn new(incoming: Incoming, lease: Lease, longest_silence: Duration) -> Self {
        let silence = Silence::new(longest_silence);
        let mut body = Self { incoming, lease: Some(lease), silence, exchange: None, tunnel: None };
        body.settle_if_ended();
        body
    }

    /// The head says that another protocol follows: what passes then is accounted for by the tunnel.
    pub(super) fn switches(&mut self, tunnel: oneshot::Sender<Exchange>) {
        self.tunnel = Some(tunnel);
    }

    /// From now on, what passes is accounted to `exchange`, which ends with this content.
    pub fn account(&mut self, mut exchange: Exchange) {
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

    fn settle_if_ended(&mut self) {
        if self.incoming.is_end_stream() {
            self.settle();
        }
    }

    fn settle(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
        if let Some(exchange) = &mut self.exchange {
            exchange.completed();
        }
    }
}

impl ResponseBody {
    /// The connection is not used again, and the caller's response is not ended as if it were whole.
    fn break_off(&mut self, error: BodyError) -> BodyError {
        self.lease = None;
        if let Some(exchange) = &mut self.exchange {
            exchange.broke_off(&error);
        }
        error
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.silence.broken();
                if let Some(exchange) = &mut this.exchange {
                    exchange.passed(frame.data_ref().map_or(0, Bytes::len));
                }
                if frame.is_trailers() {
                    // Nobody asks for more after trailers.
                    this.settle();
                } else {
                    this.settle_if_ended();
                }
                Poll::Ready(Some(Ok(fields::clean_response_frame(frame))))
            }
            Poll::Ready(None) => {
                this.settle();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(this.break_off(BodyError::Upstream(error))))),
            Poll::Pending => {
                ready!(this.silence.poll(cx));
                Poll::Ready(Some(Err(this.break_off(BodyError::Silent(this.silence.longest())))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("ended", &self.is_end_stream()).finish_non_exhaustive()
    }
}
