//! HTTP/1.1 with a caller (RFC 9112): one request after the other, each with its response.
//!
//! Written here and not taken from a library because this is where a proxy is fooled, and where it must not stand in the
//! way: heads and content are read strictly, what is wrong is answered in our own shape, and everything that a response is
//! made of passes, as it comes.

mod answer;
mod content;
mod head;
mod inbound;
mod reading;
mod sending;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::content::Content as AnyContent;
use super::moving::Moving;
use super::socket::{Reader, Rewound, Writer};
use super::{Answer, Expendable, Remote, Server, Switch};
use crate::alarm::Alarm;
use crate::error::{ProxyError, RequestPart};
use crate::http1::encoding::Coding;
use crate::http1::outgoing::Outgoing;
use crate::lifecycle::Held;
use crate::workers::Answering;

use answer::{Afterwards, Asked};
use head::Head;
use inbound::{Before, Inbound, NoHead, Watched};
use sending::{Interrupted, Sending};

pub(super) use content::Content;
pub use content::Interim;

/// How long a connection may wait for its next request. Longer than callers keep theirs, so that it is they who close.
const IDLE: Duration = Duration::from_secs(300);
/// How long a caller may go on sending what nobody wants, once it was told so and the connection is at its end: closed any
/// sooner, the connection would be reset and the response could be lost (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(30);
/// And how long it may say nothing meanwhile.
const LINGER_QUIET: Duration = Duration::from_secs(2);
/// How long content may stand still once its request has been answered.
const STANDSTILL: Duration = Duration::from_secs(30);

/// How often to look whether a caller has gone away while nobody takes the content that it has sent.
const LOOK: Duration = Duration::from_millis(50);

/// A connection of HTTP/1.1.
pub(super) struct Connection<'server, A> {
    server: &'server Server<A>,
    inbound: Inbound,
    writer: Writer,
    remote: Option<Remote>,
    outgoing: Outgoing,
    held: Held,
    alarm: Alarm,
    /// When to look whether the caller is still there, if that is to be done.
    look: Option<Instant>,
    /// Until when the first head must have come.
    first: Option<Instant>,
    /// How this worker knows whether it has had a request lately.
    counted: u32,
}

/// How an exchange ended.
enum Ended {
    /// Another may follow.
    Kept,
    /// The caller was told that none will.
    Closing,
    /// Nothing more can be said: the caller has gone, or must not take what it has for the whole.
    Broken,
    /// The same, and the end of the connection would be the end of the content: there must not be one.
    Reset,
    /// Another protocol follows, for whoever waits for the connection.
    Switched(oneshot::Sender<Rewound>),
}

impl<'server, A: Answer> Connection<'server, A> {
    /// A connection from which `ahead` was read, and whose first head has until `deadline`.
    pub(super) fn new(
        server: &'server Server<A>,
        (reader, writer): (Reader, Writer),
        remote: Option<Remote>,
        ahead: BytesMut,
        held: Held,
        (alarm, deadline): (Alarm, Instant),
    ) -> Self {
        let inbound = Inbound::new(reader, ahead);
        let outgoing = Outgoing::default();
        Self { server, inbound, writer, remote, outgoing, held, alarm, look: None, first: Some(deadline), counted: 0 }
    }

    /// A connection that has carried requests before, for which another worker had no time. `ahead` was read from it.
    pub(super) fn resumed(
        server: &'server Server<A>,
        (reader, writer): (Reader, Writer),
        remote: Option<Remote>,
        ahead: BytesMut,
        held: Held,
    ) -> Self {
        let (inbound, outgoing) = (Inbound::new(reader, ahead), Outgoing::default());
        let alarm = Alarm::default();
        Self { server, inbound, writer, remote, outgoing, held, alarm, look: None, first: None, counted: 0 }
    }

    /// Reads requests and writes responses until there are no more, or another worker should.
    pub(super) async fn serve(mut self) -> Option<Moving> {
        let server = self.server;
        // Waited for once for all requests: this is one task from beginning to end.
        let (mut ending, mut waits) = (pin!(server.lifecycle.ending()), false);
        loop {
            let ends = |cx: &mut Context<'_>| {
                if waits && !server.lifecycle.is_ending() {
                    return Poll::Pending;
                }
                waits = true;
                ending.as_mut().poll(cx)
            };
            let ended = match self.head(ends).await {
                Ok(head) => {
                    let _answering = Answering::begin();
                    self.exchange(head).await
                }
                Err(NoHead::End) => {
                    self.close();
                    return None;
                }
                Err(NoHead::Refused(error)) => self.tell(error).await,
            };
            match ended {
                Ended::Kept => {
                    if let Some(to) = server.crew.as_ref().and_then(|crew| crew.elsewhere(&mut self.counted)) {
                        let (Some(reader), ahead) = self.inbound.into_reader() else { return None };
                        return Moving::begin(to, (reader, self.writer), ahead, self.held, None);
                    }
                }
                Ended::Closing => {
                    self.linger().await;
                    return None;
                }
                Ended::Broken => return None,
                Ended::Reset => {
                    self.writer.reset();
                    return None;
                }
                Ended::Switched(taker) => {
                    let (Some(reader), ahead) = self.inbound.into_reader() else { return None };
                    // Whoever wanted it may be gone: then it closes here.
                    let _ = taker.send(Rewound::new(ahead, reader, self.writer));
                    return None;
                }
            }
        }
    }

    /// Refuses whatever the caller sends, unread.
    pub(super) async fn refuse(mut self, error: ProxyError) {
        if matches!(self.tell(error).await, Ended::Closing) {
            self.linger().await;
        }
    }

    /// The response to what is no request, and the last one.
    async fn tell(&mut self, error: ProxyError) -> Ended {
        let asked = Asked { method: Method::GET, version: Version::HTTP_11 };
        let response = self.server.answer.refuse(error);
        self.respond(asked, response, false).await
    }

    /// The next request's head, if one comes in time, and before `ends` says that no more should.
    async fn head(&mut self, mut ends: impl FnMut(&mut Context<'_>) -> Poll<()>) -> Result<Head, NoHead> {
        let (inbound, alarm) = (&self.inbound, &mut self.alarm);
        let head_timeout = self.server.limits.header_timeout;
        // Counts from the first byte, on a connection's first request from its beginning.
        let first = self.first.take();
        let (mut begun, mut end) = (false, None);
        poll_fn(|cx| {
            let had_begun = begun;
            if let Poll::Ready(head) = inbound.poll_head(cx, &mut begun) {
                return Poll::Ready(head);
            }
            if begun && !had_begun {
                end = None;
            }
            let time = if begun { head_timeout } else { IDLE };
            let end = *end.get_or_insert_with(|| first.unwrap_or_else(|| Instant::now() + time));
            if alarm.poll_until(cx, end).is_ready() {
                let (part, seconds) = (RequestPart::Head, head_timeout.as_secs());
                let slow = NoHead::Refused(ProxyError::RequestTimeout { part, seconds });
                return Poll::Ready(Err(if begun { slow } else { NoHead::End }));
            }
            if !begun && ends(cx).is_ready() {
                return Poll::Ready(Err(NoHead::End));
            }
            Poll::Pending
        })
        .await
    }

    /// One request, and its response.
    async fn exchange(&mut self, head: Head) -> Ended {
        let Head { request, framing, keeps_alive, expects_continue, upgrades } = head;
        let asked = Asked { method: request.method().clone(), version: request.version() };
        let (content, interim) = self.inbound.content(framing, expects_continue);
        self.look = None;
        let mut request = Box::new(request.map(|()| AnyContent::of_http1(content, self.remote)));
        if asked.version == Version::HTTP_11 {
            request.body_mut().tells_by(interim);
        }
        let mut taker = None;
        if upgrades {
            let (give, connection) = oneshot::channel();
            request.body_mut().may_switch(Switch::new(connection, self.held.clone()));
            taker = Some(give);
        }
        let Some(response) = self.answer(request).await else { return Ended::Broken };
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let ended = self.respond(asked, response, keeps_alive).await;
        match (ended, taker) {
            (Ended::Kept | Ended::Closing, Some(taker)) if switches => Ended::Switched(taker),
            (ended, _) => ended,
        }
    }

    /// The response to `request`, unless the caller goes away first. Interim responses are written meanwhile.
    async fn answer(&mut self, request: Box<Request<AnyContent>>) -> Option<Response<A::Body>> {
        // Boxed: most of a connection's time is not spent here, and its memory should not be kept for it.
        let mut answering = Box::pin(self.server.answer.answer(request));
        poll_fn(|cx| {
            if let Poll::Ready(response) = answering.as_mut().poll(cx) {
                return Poll::Ready(Some(response));
            }
            let mut interim = Vec::new();
            if self.poll_gone(cx, &mut interim).is_ready() {
                return Poll::Ready(None);
            }
            self.announce(interim);
            match self.outgoing.poll_write(&mut self.writer, cx) {
                Poll::Ready(Err(_)) => Poll::Ready(None),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Writes interim responses.
    fn announce(&mut self, interim: Vec<(StatusCode, HeaderMap)>) {
        for (status, fields) in interim {
            answer::interim(&mut self.outgoing, status, &fields);
        }
    }

    /// Writes a response, content and all.
    async fn respond(&mut self, asked: Asked, response: Response<A::Body>, keeps_alive: bool) -> Ended {
        let Before { interim, is_held_back, is_coming } = self.inbound.before_response();
        // Those that came with the response go before it, too.
        self.announce(interim);
        let (mut parts, body) = response.into_parts();
        let expendable = parts.extensions.remove::<Expendable>();
        let coding = answer::coding(&asked, &parts, &body.size_hint());
        let closes = !keeps_alive
            || coding == Coding::UntilClose
            || self.server.lifecycle.is_ending()
            || is_held_back
            || is_coming;
        let afterwards = match parts.status {
            StatusCode::SWITCHING_PROTOCOLS => Afterwards::Switch,
            _ if closes => Afterwards::Close,
            _ => Afterwards::Keep,
        };
        answer::write(&mut self.outgoing, &asked, &parts, coding, afterwards, || self.server.date());
        // What the fields share memory with need not live as long as the content.
        drop(parts);
        if self.write_content(body, coding, expendable).await.is_err() {
            return if coding == Coding::UntilClose { Ended::Reset } else { Ended::Broken };
        }
        match if is_coming { self.clear().await } else { Ended::Kept } {
            Ended::Kept if closes => Ended::Closing,
            ended => ended,
        }
    }

    /// Writes `body`, each part as soon as it is there.
    async fn write_content(
        &mut self,
        body: A::Body,
        coding: Coding,
        mut expendable: Option<Expendable>,
    ) -> Result<(), Interrupted> {
        let body = pin!(body);
        let mut sending = Sending::new(body, coding);
        poll_fn(|cx| {
            if let Poll::Ready(sent) = sending.poll(&mut self.outgoing, &mut self.writer, cx) {
                return Poll::Ready(sent);
            }
            if expendable.as_mut().is_some_and(|until| until.poll_unpin(cx).is_ready()) {
                return Poll::Ready(Err(Interrupted));
            }
            // A caller that is gone is noticed while there is nothing to write, too. Interim responses come too late.
            self.poll_gone(cx, &mut Vec::new()).map(|()| Err(Interrupted))
        })
        .await
    }

    /// Ready once the caller has gone away while a request is answered. Takes interim responses that are to be written.
    fn poll_gone(&mut self, cx: &mut Context<'_>, interim: &mut Vec<(StatusCode, HeaderMap)>) -> Poll<()> {
        match self.inbound.poll_gone(cx, interim) {
            Poll::Ready(Watched::Gone) => return Poll::Ready(()),
            Poll::Ready(Watched::NoMore) => {}
            Poll::Pending => return Poll::Pending,
        }
        // What nobody takes hides the end behind it.
        loop {
            let look = *self.look.get_or_insert_with(|| Instant::now() + LOOK);
            ready!(self.alarm.poll_until(cx, look));
            if self.inbound.has_been_left() {
                return Poll::Ready(());
            }
            self.look = None;
        }
    }

    /// Waits until the request's content is out of the way: as long as somebody goes on taking it.
    async fn clear(&mut self) -> Ended {
        loop {
            let taken = self.inbound.taken();
            let cleared = poll_fn(|cx| match self.inbound.poll_is_clear(cx) {
                Poll::Ready(true) => Poll::Ready(Ended::Kept),
                Poll::Ready(false) => Poll::Ready(Ended::Closing),
                Poll::Pending => self.poll_gone(cx, &mut Vec::new()).map(|()| Ended::Broken),
            });
            match timeout(STANDSTILL, cleared).await {
                Ok(ended) => return ended,
                Err(_) if self.inbound.taken() == taken => return Ended::Closing,
                Err(_) => {}
            }
        }
    }

    /// Ends the connection, of which nobody expects anything.
    fn close(self) {
        if let (Some(reader), _) = self.inbound.into_reader() {
            self.writer.close(reader);
        }
    }

    /// Ends the connection so that the response is not lost.
    async fn linger(mut self) {
        if poll_fn(|cx| self.writer.poll_end(cx)).await.is_err() {
            return;
        }
        let goes_on = async || timeout(LINGER_QUIET, poll_fn(|cx| self.inbound.poll_discard(cx))).await;
        let _ = timeout(LINGER, async { while let Ok(true) = goes_on().await {} }).await;
    }
}
