//! Connections that last no longer than they should, for places that are few: whoever keeps one open must not keep others out.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{Answer, Server};
use crate::lifecycle::Lifecycle;

/// How long what is under way then may take to end.
const LAST: Duration = Duration::from_secs(1);

/// Serves one connection for no longer than `longest`, if that is said: then it ends as all do when the server does, with the
/// response that is under way. `conversation` makes it, for a server whose end is the connection's.
pub(super) async fn converse<A: Answer, C: Future<Output = ()>>(
    server: Arc<Server<A>>,
    longest: Duration,
    conversation: impl FnOnce(Arc<Server<A>>) -> C,
) {
    let Server { answer, limits, lifecycle, date, .. } = &*server;
    let end = Lifecycle::new();
    let brief =
        Server { answer: answer.clone(), limits: *limits, lifecycle: end.clone(), date: date.clone(), crew: None };
    let mut conversation = pin!(conversation(Arc::new(brief)));
    tokio::select! {
        () = &mut conversation => return,
        () = sleep(longest) => {}
        () = lifecycle.ending() => {}
    }
    end.end();
    let _ = timeout(LAST, conversation).await;
}
