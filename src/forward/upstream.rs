//! One request to the resource: over an open connection or a new one, within the deadline for a response.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::uri::{self, Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version, request};
use http_body::Body;
use hyper::body::Incoming;
use rustls::ClientConfig;
use tokio::time::sleep;

use super::body::ResponseBody;
use super::connect::Connector;
use super::fields;
use super::pool::{Checkout, Connection, Pool};
use super::upgrade::{self, Switching};
use super::upload::{RequestBody, Stall, Upload};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::error::{Causes, ProxyError, RequestPart};
use crate::server::Content;

/// The resource, as something that answers requests.
#[derive(Debug)]
pub struct Upstream {
    pool: Arc<Pool>,
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
    response_timeout: Duration,
    idle_timeout: Duration,
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
        })
    }

    /// The content of one request, to be sent as often as it must be.
    pub(super) fn upload(&self, body: Content) -> Upload {
        Upload::new(body, self.idle_timeout)
    }

    /// Sends a request for `target` and returns once the head of the response is there.
    ///
    /// # Errors
    ///
    /// What kept the response from coming.
    pub(super) async fn send(
        &self,
        parts: &request::Parts,
        target: &PathAndQuery,
        upload: &mut Upload,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        let mut checkout = self.pool.checkout().await?;
        let mut retried = false;
        loop {
            let Checkout { mut connection, reused } = checkout;
            let Some(body) = upload.attempt() else { return Err(self.failed("the connection broke off", upload)) };
            let request = self.request(parts, target, body, connection.is_http2())?;
            let error = match self.ask(&mut connection, request, upload).await? {
                Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    return Err(self.failed("it switched protocols unasked", upload));
                }
                Ok(response) => return Ok(self.pass_on(response, connection)),
                Err(error) => error,
            };
            // A kept connection may have been closed by the other side just now: once more, on another one. Not if any of
            // an answer has come: the request may have been acted upon.
            if !reused || retried || connection.has_been_heard() || upload.is_broken() {
                return Err(self.failed(&Causes(&error).to_string(), upload));
            }
            tracing::debug!(host = self.pool.host(), error = %Causes(&error), "a kept connection was dead");
            retried = true;
            checkout = self.pool.replace(&connection).await?;
        }
    }

    /// Sends a request that asks to switch to `protocol`, over a connection of its own; if the resource agrees, bytes pass
    /// between it and the caller from then on.
    ///
    /// # Errors
    ///
    /// What kept the response from coming.
    pub(super) async fn switch(
        &self,
        parts: &request::Parts,
        target: &PathAndQuery,
        upload: &mut Upload,
        wish: &mut Option<Switching>,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        let mut connection = self.pool.connect_to_switch().await?;
        let Some(body) = upload.attempt() else { return Err(self.failed("the request broke off", upload)) };
        let request = self.request(parts, target, body, false)?;
        let asked = self.ask(&mut connection, request, upload).await?;
        let mut response = asked.map_err(|error| self.failed(&Causes(&error).to_string(), upload))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(self.pass_on(response, connection));
        }
        let Some(caller) = wish.take() else { return Err(self.failed("it switched protocols unasked", upload)) };
        // A 101 must say to what (RFC 9110 §15.2.2), and it must be what was asked for.
        let protocol = response.headers().get(UPGRADE).filter(|protocol| upgrade::is_among(protocol, &caller.protocol));
        let Some(protocol) = protocol.cloned() else {
            return Err(self.failed("it switched to a protocol that was not asked for", upload));
        };
        let resource = hyper::upgrade::on(&mut response);
        let mut response = self.pass_on(response, connection);
        upgrade::announce(response.headers_mut(), protocol);
        let account = upgrade::join(caller.connection, resource, self.idle_timeout);
        response.body_mut().switches(account);
        Ok(response)
    }

    /// One attempt: the outer error is a deadline's, the inner one the connection's.
    async fn ask(
        &self,
        connection: &mut Connection,
        request: Request<RequestBody>,
        upload: &mut Upload,
    ) -> Result<Result<Response<Incoming>, hyper::Error>, ProxyError> {
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
            asked = connection.send(request) => Ok(asked),
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

    fn pass_on(&self, response: Response<Incoming>, connection: Connection) -> Response<ResponseBody> {
        let (mut parts, incoming) = response.into_parts();
        fields::clean_response(&mut parts.headers);
        if !incoming.is_end_stream() {
            true_length(&mut parts.headers, incoming.size_hint().exact());
        }
        // The caller's side decides for itself how it speaks.
        parts.version = Version::default();
        parts.extensions.clear();
        let lease = connection.lease(&self.pool);
        Response::from_parts(parts, ResponseBody::new(incoming, lease, self.idle_timeout))
    }

    fn timed_out(&self, deadline: Duration) -> ProxyError {
        ProxyError::UpstreamTimeout { host: self.pool.host(), seconds: deadline.as_secs() }
    }

    fn failed(&self, problem: &str, upload: &Upload) -> ProxyError {
        if upload.is_broken() {
            return ProxyError::InvalidRequest("the request's content broke off".into());
        }
        ProxyError::UpstreamProtocol { host: self.pool.host(), problem: problem.to_owned() }
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
