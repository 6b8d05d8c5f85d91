//! One request to the resource: over an open connection or a new one, within the deadline for a response.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, UPGRADE};
use http::uri::{self, Authority, Scheme};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version};
use hyper::ext::ReasonPhrase;
use rustls::ClientConfig;
use tokio::time::Instant;

use super::body::ResponseBody;
use super::connect::Connector;
use super::http1::{self, Content as Http1Content, RequestHead, Wire};
use super::http2::{self, Line, Turn};
use super::incoming::{Error, Incoming};
use super::pool::{Checkout, Connection, Pool};
use super::upload::{Onlookers, RequestBody, Stall, Upload};
use super::{Ready, fields, upgrade};
use crate::alarm::Alarm;
use crate::apps::models::Screening;
use crate::clock::SharedClock;
use crate::config::Config;
use crate::error::{Causes, ProxyError, RequestPart};
use crate::server::{Content, list};
use crate::workers::{Apart, PerWorker};

/// A connection that failed.
struct Dead {
    error: Error,
    /// Whether any of a response had come.
    has_been_heard: bool,
    /// Which one it was, if others share it.
    shared: Option<Arc<Line>>,
}

/// The resource, as something that answers requests.
#[derive(Debug)]
pub struct Upstream {
    pools: PerWorker<Arc<Pool>>,
    name: String,
    scheme: Scheme,
    /// Copies, as each is cloned for every request.
    authorities: PerWorker<Authority>,
    host: HeaderValue,
    response_timeout: Duration,
    idle_timeout: Duration,
    max_body: u64,
}

impl Upstream {
    /// Connections are made when they are needed.
    ///
    /// # Errors
    ///
    /// If the endpoint cannot be written as an HTTP field.
    pub fn new(config: &Config, tls: ClientConfig, clock: &SharedClock) -> Result<Self, http::Error> {
        let authority = config.upstream.endpoint.authority().as_str();
        let copy = || Authority::from_maybe_shared(Bytes::from_owner(Apart(authority.to_owned())));
        let connector = Arc::new(Connector::new(&config.upstream, config.proxies.rules(), tls)?);
        Ok(Self {
            name: connector.host(),
            pools: PerWorker::new(|| Pool::new(connector.clone(), clock.clone())),
            scheme: config.upstream.endpoint.scheme().clone(),
            host: HeaderValue::from_str(authority)?,
            authorities: PerWorker::try_new(copy)?,
            response_timeout: config.upstream.response_timeout,
            idle_timeout: config.upstream.idle_timeout,
            max_body: config.limits.max_body,
        })
    }

    /// The connections of this thread.
    fn pool(&self) -> &Arc<Pool> {
        self.pools.own()
    }

    /// The content of one request, to be sent as often as it must be.
    pub(super) fn upload(&self, body: Content, onlookers: Onlookers) -> Result<Upload, ProxyError> {
        Upload::new(body, self.max_body, self.idle_timeout, onlookers)
    }

    /// Has the content of a request looked at before it is sent.
    pub(super) async fn screen(&self, upload: &mut Upload, screening: Screening) -> Result<(), ProxyError> {
        upload.screen(screening, self.idle_timeout).await
    }

    /// Sends a request and returns once the head of the response is there.
    ///
    /// # Errors
    ///
    /// What kept the response from coming.
    pub(super) async fn send(&self, ready: &mut Ready) -> Result<Response<Box<ResponseBody>>, ProxyError> {
        let pool = self.pool();
        let mut checkout = pool.checkout().await?;
        let mut retried = false;
        loop {
            let Checkout { connection, reused } = checkout;
            let Dead { error, has_been_heard, shared } = match self.ask(connection, ready).await? {
                Ok(response) => return Ok(response),
                Err(dead) => dead,
            };
            // A kept connection may have been closed by the other side just now: once more, on another one. Not if any of
            // an answer has come: the request may have been acted upon.
            let unread = match reset_by_resource(&error) {
                Some(reason) => reason == h2::Reason::REFUSED_STREAM,
                None => reused,
            };
            if !unread || retried || has_been_heard || ready.upload.fault().is_some() {
                return Err(self.failed(&Causes(&error).to_string(), &ready.upload));
            }
            tracing::debug!(host = self.name.clone(), error = %Causes(&error), "a connection took no request");
            retried = true;
            checkout = pool.replace(shared.as_ref()).await?;
        }
    }

    /// Sends a request that asks to switch protocols, over a connection of its own; if the resource agrees, bytes pass
    /// between it and the caller from then on.
    ///
    /// # Errors
    ///
    /// What kept the response from coming.
    pub(super) async fn switch(&self, ready: &mut Ready) -> Result<Response<Box<ResponseBody>>, ProxyError> {
        let mut wire = self.pool().connect_to_switch().await?;
        let asked = self.ask_over_http1(&mut wire, ready).await?;
        let answer = asked.map_err(|error| self.failed(&Causes(&error).to_string(), &ready.upload))?;
        if answer.response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(self.pass_on_http1(answer, wire, None));
        }
        let Some(caller) = ready.switching.take() else {
            return Err(self.failed("it switched protocols unasked", &ready.upload));
        };
        let fields = answer.response.headers();
        // A 101 must say to what (RFC 9110 §15.2.2), and it must be what was asked for.
        let protocol = fields.get(UPGRADE).filter(|protocol| upgrade::is_among(protocol, &caller.protocol));
        let Some(protocol) = protocol.cloned() else {
            return Err(self.failed("it switched to a protocol that was not asked for", &ready.upload));
        };
        let mut response = self.pass_on(answer.response, Incoming::nothing());
        upgrade::announce(response.headers_mut(), protocol);
        let account = upgrade::join(caller.connection, wire.into_switched(), self.idle_timeout);
        response.body_mut().switches(account);
        Ok(response)
    }

    /// One attempt: the outer error is a deadline's or the caller's, the inner one the connection's.
    async fn ask(
        &self,
        connection: Connection,
        ready: &mut Ready,
    ) -> Result<Result<Response<Box<ResponseBody>>, Dead>, ProxyError> {
        match connection {
            Connection::Http1(mut wire) => match self.ask_over_http1(&mut wire, ready).await? {
                Ok(answer) if answer.response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    Err(self.failed("it switched protocols unasked", &ready.upload))
                }
                Ok(answer) => Ok(Ok(self.pass_on_http1(answer, wire, Some(self.pool())))),
                Err(error) => {
                    Ok(Err(Dead { error: error.into(), has_been_heard: wire.has_been_heard(), shared: None }))
                }
            },
            Connection::Http2(turn) => {
                let line = turn.line().clone();
                Ok(match self.ask_over_http2(turn, ready).await? {
                    Ok(response) => {
                        let (parts, content) = response.into_parts();
                        Ok(self.pass_on(Response::from_parts(parts, ()), Incoming::Http2(content)))
                    }
                    // An error says that nothing of a response has come.
                    Err(error) => Err(Dead { error: error.into(), has_been_heard: false, shared: Some(line) }),
                })
            }
        }
    }

    async fn ask_over_http1(
        &self,
        wire: &mut Wire,
        ready: &mut Ready,
    ) -> Result<Result<http1::Answer, http1::Error>, ProxyError> {
        let mut body = self.attempt(ready)?;
        let expects_continue = body.awaits_word();
        if expects_continue {
            body.hold_back();
        }
        let (method, fields) = (ready.request.method(), ready.request.headers());
        let (target, host, authorization) = (&ready.target, &self.host, &ready.authorization);
        let head = RequestHead { method, target, host, authorization, fields, expects_continue };
        let caller = &ready.interim;
        let interim = |status, fields: &HeaderMap| {
            if let Some(caller) = caller {
                let mut passed = fields.clone();
                fields::clean_response(&mut passed);
                caller.send(status, passed);
            }
        };
        wire.send(head, body, interim, || self.deadline(ready), || self.overdue(ready)).await
    }

    async fn ask_over_http2(
        &self,
        turn: Turn,
        ready: &mut Ready,
    ) -> Result<Result<Response<http2::Content>, http2::Error>, ProxyError> {
        let body = self.attempt(ready)?;
        let request = self.request(ready)?;
        let asking = match turn.ask(request, ready.authorization.clone(), body) {
            Ok(asking) => asking,
            Err(error) => return Ok(Err(error)),
        };
        let mut response = pin!(asking.response());
        let mut alarm = Alarm::default();
        poll_fn(|cx| {
            if let Poll::Ready(answer) = response.as_mut().poll(cx) {
                return Poll::Ready(Ok(answer));
            }
            // What of the content moves, moves with that.
            alarm.poll_until(cx, self.deadline(ready)).map(|()| Err(self.overdue(ready)))
        })
        .await
    }

    /// The content for one attempt.
    fn attempt(&self, ready: &mut Ready) -> Result<RequestBody, ProxyError> {
        let body = ready.upload.attempt().ok_or_else(|| self.failed("the connection broke off", &ready.upload))?;
        ready.asked.goes();
        Ok(body)
    }

    fn deadline(&self, ready: &Ready) -> Instant {
        ready.upload.deadline(self.idle_timeout, self.response_timeout)
    }

    /// What it is that has taken too long.
    fn overdue(&self, ready: &Ready) -> ProxyError {
        match ready.upload.stall() {
            None => self.timed_out(self.response_timeout),
            Some(Stall::Resource) => self.timed_out(self.idle_timeout),
            Some(Stall::Caller) => {
                ProxyError::RequestTimeout { part: RequestPart::Content, seconds: self.idle_timeout.as_secs() }
            }
        }
    }

    /// The request in the form that HTTP/2 wants (RFC 9113 §8.3.1).
    fn request(&self, ready: &Ready) -> Result<Request<()>, ProxyError> {
        let mut uri = uri::Parts::default();
        uri.path_and_query = Some(ready.target.clone());
        uri.scheme = Some(self.scheme.clone());
        uri.authority = Some(self.authorities.own().clone());
        let mut request = Request::new(());
        *request.method_mut() = ready.request.method().clone();
        *request.headers_mut() = ready.request.headers().clone();
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = Uri::from_parts(uri)
            .map_err(|error| ProxyError::InvalidRequest(format!("the request target is not one: {error}").into()))?;
        Ok(request)
    }

    fn pass_on_http1(
        &self,
        mut answer: http1::Answer,
        wire: Box<Wire>,
        pool: Option<&Arc<Pool>>,
    ) -> Response<Box<ResponseBody>> {
        let response = std::mem::take(&mut answer.response);
        self.pass_on(response, Incoming::Http1(Http1Content::new(wire, answer, pool.cloned())))
    }

    fn pass_on<T>(&self, response: Response<T>, incoming: Incoming) -> Response<Box<ResponseBody>> {
        let (mut parts, _) = response.into_parts();
        fields::clean_response(&mut parts.headers);
        if incoming.is_end_stream() {
            one_length(&mut parts.headers);
        } else {
            true_length(&mut parts.headers, incoming.size_hint().exact());
        }
        // The caller's side decides for itself how it speaks.
        parts.version = Version::default();
        let reason = parts.extensions.remove::<ReasonPhrase>();
        parts.extensions.clear();
        if let Some(reason) = reason {
            parts.extensions.insert(reason);
        }
        // Boxed: it goes from hand to hand, and to the caller's side at last.
        Response::from_parts(parts, Box::new(ResponseBody::new(incoming, self.idle_timeout)))
    }

    fn timed_out(&self, deadline: Duration) -> ProxyError {
        ProxyError::UpstreamTimeout { host: self.name.clone(), seconds: deadline.as_secs() }
    }

    fn failed(&self, problem: &str, upload: &Upload) -> ProxyError {
        let problem = || ProxyError::UpstreamProtocol { host: self.name.clone(), problem: problem.to_owned() };
        upload.fault().unwrap_or_else(problem)
    }
}

/// Why the resource reset the request, if it did: it has not looked at the request if it refused the stream, and may have
/// acted upon it otherwise (RFC 9113 §8.7).
fn reset_by_resource(error: &Error) -> Option<h2::Reason> {
    if let Error::Http2(error) = error { error.reset_by_resource() } else { None }
}

/// Leaves one length of several equal ones, and none if they differ: of content that does not come here.
fn one_length(fields: &mut HeaderMap) {
    if list::elements(fields, &CONTENT_LENGTH).nth(1).is_none() {
        return;
    }
    let first = list::elements(fields, &CONTENT_LENGTH).next().and_then(|first| HeaderValue::from_bytes(first).ok());
    let one = first.filter(|first| list::elements(fields, &CONTENT_LENGTH).all(|length| length == first.as_bytes()));
    fields.remove(CONTENT_LENGTH);
    if let Some(one) = one {
        fields.insert(CONTENT_LENGTH, one);
    }
}

/// Leaves no length but the one that the content was read by: none beside `Transfer-Encoding`, and one of several equal ones
/// (RFC 9112 §6.3).
fn true_length(fields: &mut HeaderMap, length: Option<u64>) {
    let mut given = fields.get_all(CONTENT_LENGTH).iter();
    match (length, given.next(), given.next()) {
        (None, Some(_), _) => {
            fields.remove(CONTENT_LENGTH);
        }
        (Some(length), Some(first), second) if second.is_some() || first.as_bytes().contains(&b',') => {
            fields.insert(CONTENT_LENGTH, length.into());
        }
        _ => {}
    }
}
