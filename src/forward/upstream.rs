//! One request to the resource: over an open connection or a new one, within the deadline for a response.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE};
use http::uri::{self, Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version, request};
use http_body::Body;
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use rustls::ClientConfig;
use tokio::time::sleep;

use super::body::ResponseBody;
use super::connect::Connector;
use super::permission::Permission;
use super::pool::{Checkout, Connection, Pool};
use super::upload::{RequestBody, Stall, Upload};
use super::{Ready, fields, interim, upgrade};
use crate::apps::models::Screening;
use crate::clock::SharedClock;
use crate::config::Config;
use crate::error::{Causes, ProxyError, RequestPart};
use crate::server::{Content, list};

/// The head of a response, and what was said to whoever holds its request's content back.
type Answered = (Response<Incoming>, Option<Permission>);

/// The resource, as something that answers requests.
#[derive(Debug)]
pub struct Upstream {
    pool: Arc<Pool>,
    scheme: Scheme,
    authority: Authority,
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
    pub fn new(config: &Config, tls: ClientConfig, clock: SharedClock) -> Result<Self, http::Error> {
        let authority = config.upstream.endpoint.authority().clone();
        Ok(Self {
            pool: Pool::new(Connector::new(&config.upstream, config.proxies.rules(), tls)?, clock),
            scheme: config.upstream.endpoint.scheme().clone(),
            host: HeaderValue::from_str(authority.as_str())?,
            authority,
            response_timeout: config.upstream.response_timeout,
            idle_timeout: config.upstream.idle_timeout,
            max_body: config.limits.max_body,
        })
    }

    /// The content of one request, to be sent as often as it must be.
    pub(super) fn upload(&self, body: Content) -> Result<Upload, ProxyError> {
        Upload::new(body, self.max_body, self.idle_timeout)
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
    pub(super) async fn send(&self, ready: &mut Ready) -> Result<Response<ResponseBody>, ProxyError> {
        let mut checkout = self.pool.checkout().await?;
        let mut retried = false;
        loop {
            let Checkout { mut connection, reused } = checkout;
            let error = match self.ask(&mut connection, ready).await? {
                Ok((response, _)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    return Err(self.failed("it switched protocols unasked", &ready.upload));
                }
                Ok((response, permission)) => return Ok(self.pass_on(response, connection, permission)),
                Err(error) => error,
            };
            // A kept connection may have been closed by the other side just now: once more, on another one. Not if any of
            // an answer has come: the request may have been acted upon.
            let unread = match reset_by_resource(&error) {
                Some(reason) => reason == h2::Reason::REFUSED_STREAM,
                None => reused,
            };
            if !unread || retried || connection.has_been_heard() || ready.upload.fault().is_some() {
                return Err(self.failed(&Causes(&error).to_string(), &ready.upload));
            }
            tracing::debug!(host = self.pool.host(), error = %Causes(&error), "a connection took no request");
            retried = true;
            checkout = self.pool.replace(&connection).await?;
        }
    }

    /// Sends a request that asks to switch protocols, over a connection of its own; if the resource agrees, bytes pass
    /// between it and the caller from then on.
    ///
    /// # Errors
    ///
    /// What kept the response from coming.
    pub(super) async fn switch(&self, ready: &mut Ready) -> Result<Response<ResponseBody>, ProxyError> {
        let mut connection = self.pool.connect_to_switch().await?;
        let asked = self.ask(&mut connection, ready).await?;
        let (mut response, permission) =
            asked.map_err(|error| self.failed(&Causes(&error).to_string(), &ready.upload))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(self.pass_on(response, connection, permission));
        }
        let Some(caller) = ready.switching.take() else {
            return Err(self.failed("it switched protocols unasked", &ready.upload));
        };
        // A 101 must say to what (RFC 9110 §15.2.2), and it must be what was asked for.
        let protocol = response.headers().get(UPGRADE).filter(|protocol| upgrade::is_among(protocol, &caller.protocol));
        let Some(protocol) = protocol.cloned() else {
            return Err(self.failed("it switched to a protocol that was not asked for", &ready.upload));
        };
        let resource = hyper::upgrade::on(&mut response);
        let mut response = self.pass_on(response, connection, permission);
        upgrade::announce(response.headers_mut(), protocol);
        let account = upgrade::join(caller.connection, resource, self.idle_timeout);
        response.body_mut().switches(account);
        Ok(response)
    }

    /// One attempt: the outer error is a deadline's or the caller's, the inner one the connection's.
    async fn ask(
        &self,
        connection: &mut Connection,
        ready: &mut Ready,
    ) -> Result<Result<Answered, hyper::Error>, ProxyError> {
        let waits = !connection.is_http2() && ready.upload.is_held_back();
        let Some(mut body) = ready.upload.attempt() else {
            return Err(self.failed("the connection broke off", &ready.upload));
        };
        let permission = waits.then(Permission::default);
        if let Some(permission) = &permission {
            body.wait_for(permission);
        }
        let mut request = self.request(&ready.parts, &ready.target, body, connection.is_http2())?;
        if permission.is_some() {
            request.headers_mut().insert(EXPECT, HeaderValue::from_static("100-continue"));
        }
        if !connection.is_http2() {
            interim::pass_on(&mut request, ready.interim.clone(), permission.clone());
        }
        if let Some(asked) = &ready.asked {
            asked.goes();
        }
        let upload = &mut ready.upload;
        let overdue = async {
            match upload.taken(self.idle_timeout).await {
                Ok(()) => {
                    sleep(self.response_timeout).await;
                    self.timed_out(self.response_timeout)
                }
                Err(Stall::Resource) => self.timed_out(self.idle_timeout),
                Err(Stall::Caller) => {
                    ProxyError::RequestTimeout { part: RequestPart::Content, seconds: self.idle_timeout.as_secs() }
                }
            }
        };
        tokio::select! {
            asked = connection.send(request) => Ok(asked.map(|response| (response, permission))),
            error = overdue => Err(error),
        }
    }

    /// The request with its target in the form that the connection's version wants (RFC 9112 §3.2, RFC 9113 §8.3.1).
    fn request(
        &self,
        parts: &request::Parts,
        target: &PathAndQuery,
        body: RequestBody,
        http2: bool,
    ) -> Result<Request<RequestBody>, ProxyError> {
        let mut uri = uri::Parts::default();
        uri.path_and_query = Some(target.clone());
        let mut request = Request::new(body);
        *request.method_mut() = parts.method.clone();
        *request.headers_mut() = parts.headers.clone();
        if http2 {
            uri.scheme = Some(self.scheme.clone());
            uri.authority = Some(self.authority.clone());
            *request.version_mut() = Version::HTTP_2;
        } else {
            request.headers_mut().insert(HOST, self.host.clone());
            if request.body().size_hint().exact().is_none() {
                // The library would drop the content of a GET without this.
                request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
        }
        *request.uri_mut() = Uri::from_parts(uri)
            .map_err(|error| ProxyError::InvalidRequest(format!("the request target is not one: {error}").into()))?;
        Ok(request)
    }

    fn pass_on(
        &self,
        response: Response<Incoming>,
        connection: Connection,
        permission: Option<Permission>,
    ) -> Response<ResponseBody> {
        let (mut parts, incoming) = response.into_parts();
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
        let lease = connection.lease(&self.pool);
        let until_over = permission.map(Permission::answered);
        Response::from_parts(parts, ResponseBody::new(incoming, lease, until_over, self.idle_timeout))
    }

    fn timed_out(&self, deadline: Duration) -> ProxyError {
        ProxyError::UpstreamTimeout { host: self.pool.host(), seconds: deadline.as_secs() }
    }

    fn failed(&self, problem: &str, upload: &Upload) -> ProxyError {
        let problem = || ProxyError::UpstreamProtocol { host: self.pool.host(), problem: problem.to_owned() };
        upload.fault().unwrap_or_else(problem)
    }
}

/// Why the resource reset the request, if it did: it has not looked at the request if it refused the stream, and may have
/// acted upon it otherwise (RFC 9113 §8.7).
fn reset_by_resource(error: &hyper::Error) -> Option<h2::Reason> {
    let cause = std::error::Error::source(error)?.downcast_ref::<h2::Error>()?;
    cause.reason().filter(|_| cause.is_reset() && cause.is_remote())
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
