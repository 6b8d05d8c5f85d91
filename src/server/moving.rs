//! Connections that another worker goes on with.

use std::sync::Arc;

use bytes::BytesMut;
use futures_util::future::BoxFuture;
use tokio::task::yield_now;

use super::socket::{Accepted, Reader, Rewound, Writer};
use super::{Answer, Server, http1, http2};
use crate::lifecycle::Held;
use crate::workers::Present;

/// A connection that another worker is to go on with.
pub(super) struct Moving {
    /// Which one.
    to: usize,
    accepted: Accepted,
    /// What was read of what follows.
    ahead: BytesMut,
    held: Held,
    /// That it stays there, if it speaks HTTP/2.
    stays: Option<Present>,
}

impl Moving {
    /// Gives a connection up, of which nothing is left to write; nothing if it was gone.
    pub(super) fn begin(
        to: usize,
        (reader, writer): (Reader, Writer),
        ahead: BytesMut,
        held: Held,
        stays: Option<Present>,
    ) -> Option<Self> {
        match Accepted::again(reader, writer) {
            Ok(accepted) => Some(Self { to, accepted, ahead, held, stays }),
            Err(error) => {
                tracing::debug!(%error, "a connection was gone before another worker had it");
                None
            }
        }
    }

    /// Has the other worker go on.
    pub(super) fn hand_over<A: Answer>(self, server: &Arc<Server<A>>) {
        let Some(crew) = &server.crew else { return };
        let (to, running) = (self.to, self.held.running().clone());
        // Boxed by one that says so: the future would be a part of itself.
        let resumed = self.resume(server.clone());
        crew.serve_by(to, async move {
            running.unless_cut_off(resumed).await;
        });
    }

    /// Goes on.
    fn resume<A: Answer>(self, server: Arc<Server<A>>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let Self { accepted, ahead, held, stays, .. } = self;
            let stream = match accepted.into_stream() {
                Ok(stream) => stream,
                Err(error) => return tracing::debug!(%error, "a connection was gone before this worker had it"),
            };
            // Until the runtime has heard of what has come meanwhile: a request must not be taken for silence, after which the
            // connection may be closed. (Who yields is polled again only after tokio has looked for events: not promised, but
            // so in the version that we have, and a test of the server fails when it no longer is.)
            yield_now().await;
            let remote = stream.remote();
            let (reader, writer) = stream.split();
            if let Some(_stays) = stays {
                return http2::serve(&server, Rewound::new(ahead, reader, writer), remote, held).await;
            }
            let connection = http1::Connection::resumed(&server, (reader, writer), remote, ahead, held);
            if let Some(moving) = connection.serve().await {
                moving.hand_over(&server);
            }
        })
    }
}
