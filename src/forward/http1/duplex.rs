//! A resource that answers while a request is still being sent: both go on, and neither waits for the other. A caller may
//! send all that it has before it takes anything.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::content::Carried;
use super::{Error, Sending};
use crate::alarm::Alarm;
use crate::forward::LONGEST_REST;

/// The response's side of a connection that goes both ways.
#[derive(Debug)]
pub(in crate::forward) struct Duplex {
    /// The last is nothing: what ends otherwise was not whole.
    frames: mpsc::Receiver<Option<Result<Frame<Bytes>, Error>>>,
    /// How many bytes are still to come, if that is known.
    left: Option<u64>,
    pub(super) alarm: Alarm,
    task: Task,
}

/// What carries the connection, and ends with the response's side.
#[derive(Debug)]
struct Task(Option<AbortHandle>);

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}

impl Duplex {
    pub(super) fn begin(carried: Carried, sending: Sending) -> Self {
        let left = carried.left();
        let (give, frames) = mpsc::channel(1);
        let task = tokio::spawn(carry(carried, sending, give));
        Self { frames, left, alarm: Alarm::default(), task: Task((left != Some(0)).then(|| task.abort_handle())) }
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(self.frames.poll_recv(cx)).unwrap_or(Some(Err(Error::Short)));
        match &frame {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.left = self.left.map(|left| left.saturating_sub(length));
            }
            Some(Err(_)) => {}
            // The rest of the request may still be on its way, for the sake of the connection.
            None => self.task.0 = None,
        }
        if self.left == Some(0) {
            self.task.0 = None;
        }
        Poll::Ready(frame)
    }

    pub(super) fn left(&self) -> Option<u64> {
        self.left
    }
}

/// Carries a connection until both sides have ended.
async fn carry(carried: Carried, mut sending: Sending, give: mpsc::Sender<Option<Result<Frame<Bytes>, Error>>>) {
    let carried = Mutex::new(carried);
    let up = poll_fn(|cx| open(&carried).poll_send(&mut sending, cx));
    let reading = &carried;
    let down = async move {
        loop {
            let Some(frame) = poll_fn(|cx| open(reading).poll_frame(cx)).await else {
                // Whoever has all of it may have left.
                let _ = give.send(None).await;
                return true;
            };
            let is_fine = frame.is_ok();
            if give.send(Some(frame)).await.is_err() || !is_fine {
                return false;
            }
        }
    };
    let (mut up, mut down) = (pin!(up), pin!(down));
    let mut sent = false;
    let read = poll_fn(|cx| {
        if !sent && let Poll::Ready(outcome) = up.as_mut().poll(cx) {
            sent = true;
            if outcome.is_err() {
                // What follows would be taken for the rest of the request.
                open(&carried).closes();
            }
        }
        down.as_mut().poll(cx)
    });
    if !read.await {
        return;
    }
    if sent || matches!(timeout(LONGEST_REST, up).await, Ok(Ok(()))) {
        open(&carried).settle();
    }
}

/// A panic elsewhere leaves nothing half done in here.
fn open(carried: &Mutex<Carried>) -> MutexGuard<'_, Carried> {
    carried.lock().unwrap_or_else(PoisonError::into_inner)
}
