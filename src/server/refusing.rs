//! Callers that may not connect: told so, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep, timeout};

use super::content::Content;
use super::socket::{Rewound, Stream};
use super::{Answer, Entrance, PREFACE, Server, beginning, http1, http2};
use crate::alarm::Alarm;
use crate::error::ProxyError;
use crate::lifecycle::{Held, Lifecycle, Running};

/// How many are told at once; the others are closed as they are. They have places of their own: those who may connect lose
/// none to them.
pub(super) const PLACES: usize = 64;
/// How long one may go on asking. Not once only: callers that keep their connection take its sudden end for a failure.
const PATIENCE: Duration = Duration::from_secs(3);
/// And how long its last answer may take from then on.
const LAST: Duration = Duration::from_secs(2);
/// For how long of it content is taken that nobody wants.
const CONTENT: Duration = Duration::from_secs(2);

/// Refuses whatever is asked.
#[derive(Clone)]
struct Refusing<A> {
    answer: A,
    uid: Option<u32>,
}

impl<A: Answer> Answer for Refusing<A> {
    type Body = A::Body;

    async fn answer(&self, request: Box<Request<Content>>) -> Response<A::Body> {
        // What is unread when its stream ends could cost the caller its answer.
        let mut content = request.into_body();
        let _ = timeout(CONTENT, async { while let Some(Ok(_)) = content.frame().await {} }).await;
        self.refuse(ProxyError::PeerDenied { uid: self.uid })
    }

    /// Whatever is wrong besides: who may not connect learns nothing of it.
    fn refuse(&self, _: ProxyError) -> Response<A::Body> {
        self.answer.refuse(ProxyError::PeerDenied { uid: self.uid })
    }
}

/// Tells the caller that `uid` may not connect, in whichever version it speaks. Nothing that it sends is taken for a request.
pub(super) async fn turn_away<A: Answer>(
    server: Arc<Server<A>>,
    entrance: Arc<Entrance>,
    stream: Stream,
    uid: Option<u32>,
    running: Running,
) {
    server.answer.denied(uid);
    let Ok(place) = entrance.refusals.clone().try_acquire_owned() else { return };
    let (mut reader, writer) = stream.split();
    let held = Held::new(place, running, server.answer.connections().enter());
    let lifecycle = Lifecycle::new();
    let answer = Refusing { answer: server.answer.clone(), uid };
    let (limits, date) = (server.limits, server.date.clone());
    let refusing = Arc::new(Server { answer, limits, lifecycle: lifecycle.clone(), date, crew: None });
    let told = async {
        let (mut alarm, deadline) = (Alarm::default(), Instant::now() + PATIENCE);
        let Some(ahead) = beginning(&refusing, &mut reader, &mut alarm, deadline).await else { return };
        if ahead.starts_with(PREFACE) {
            http2::serve(&refusing, Rewound::new(ahead, reader, writer), None, held).await;
        } else {
            let connection = http1::Connection::new(&refusing, (reader, writer), None, ahead, held, (alarm, deadline));
            connection.refuse(ProxyError::PeerDenied { uid }).await;
        }
    };
    tokio::select! {
        () = told => {}
        () = async {
            sleep(PATIENCE).await;
            lifecycle.end();
            sleep(LAST).await;
        } => {}
        // The end does not wait for them.
        () = server.lifecycle.ending() => {}
    }
}
