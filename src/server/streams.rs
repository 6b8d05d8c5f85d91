//! What runs on a connection of HTTP/2: each of its streams is a task, which ends with its response, or is given up.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use futures_util::FutureExt;
use hyper::rt::Executor;
use tokio::task_local;

use super::Expendable;
use crate::lifecycle::Held;
use crate::workers::Answering;

task_local! {
    /// Whether the response of the stream that this task is for may be given up, until that is known to it.
    static EXPENDABLE: Cell<Option<Expendable>>;
}

/// Runs the streams of one connection.
#[derive(Debug, Clone)]
pub(super) struct Streams(pub(super) Held);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let held = self.0.clone();
        // Boxed here: each future around it would have room for it twice.
        let stream = Box::pin(stream);
        tokio::spawn(async move {
            let _answering = Answering::begin();
            held.running().unless_cut_off(unless_given_up(stream)).await
        });
    }
}

/// Says of the response of this task's stream that it may be given up. The library's own body would not be asked for anything
/// while its caller takes nothing.
pub(super) fn is_expendable(until: Expendable) {
    // Without a stream there is nothing to give up.
    let _ = EXPENDABLE.try_with(|place| place.set(Some(until)));
}

async fn unless_given_up(stream: impl Future) {
    let stream = async {
        let (mut stream, mut expendable) = (pin!(stream), None);
        poll_fn(|cx| {
            if stream.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if let Some(until) = EXPENDABLE.with(Cell::take) {
                expendable = Some(until);
            }
            expendable.as_mut().map_or(Poll::Pending, |until| until.poll_unpin(cx))
        })
        .await;
    };
    EXPENDABLE.scope(Cell::new(None), stream).await;
}
