//! What whoever has a request holds of its connection: its content, and a way to say something before the response.

use std::pin::Pin;
use std::sync::MutexGuard;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};

use super::reading::{Permission, Reading, Shared, State, wake};
use crate::server::content::ContentError;

/// The most interim responses that wait to be written; more than that nobody sends for a reason.
const MOST_INTERIM: usize = 8;

/// The content of a request.
#[derive(Debug)]
pub(in crate::server) struct Content {
    pub(super) shared: Shared,
    pub(super) request: u64,
    /// Whether the caller held it back when it was promised.
    pub(super) waits: bool,
    /// How much is still to come, if that is known. Nobody but us takes of it.
    pub(super) left: Option<u64>,
    pub(super) has_ended: bool,
}

/// Sends interim responses (RFC 9110 §15.2) ahead of the response to a request.
#[derive(Debug, Clone)]
pub struct Interim {
    pub(super) shared: Shared,
    pub(super) request: u64,
}

impl Content {
    /// Whether the caller waits for a word before it sends anything.
    pub(in crate::server) fn is_held_back(&self) -> bool {
        self.waits && self.open().is_some_and(|reading| reading.permission == Permission::Awaited)
    }

    /// What it is read from, unless a later request has that by now.
    fn open(&self) -> Option<MutexGuard<'_, Reading>> {
        Some(self.shared.open()).filter(|reading| reading.request == self.request)
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = ContentError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ContentError>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let (frame, has_ended, left) = match self.open() {
            Some(mut reading) => {
                let frame = ready!(reading.poll_content(cx));
                (frame, matches!(reading.content, State::Over), reading.content.left())
            }
            None => (Some(Err(ContentError::GivenUp)), false, None),
        };
        (self.has_ended, self.left) = (has_ended, left);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let Some(mut reading) = self.open() else { return };
        reading.content = match std::mem::replace(&mut reading.content, State::Over) {
            State::Coming(decoder) => State::Abandoned(decoder),
            other => other,
        };
        reading.content_waits = None;
        wake(&mut reading.conversation_waits);
    }
}

impl Interim {
    /// Has an interim response written, unless too many wait already or the response itself has begun.
    pub fn send(&self, status: StatusCode, fields: HeaderMap) {
        let mut reading = self.shared.open();
        if reading.request == self.request && reading.interim.len() < MOST_INTERIM {
            reading.interim.push((status, fields));
            wake(&mut reading.conversation_waits);
        }
    }
}
