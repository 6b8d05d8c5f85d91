//! One request to the resource: over an open connection or a new one, within the deadline for a response.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, UPGRADE};
use http::uri::{self, Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version, request};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use rustls::ClientConfig;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::body::ResponseBody;
use super::connect::Connector;
use super::pool::{Checkout, Connection, Pool};
use super::upgrade;
use super::upload::{RequestBody, Upload};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::error::{Causes, ProxyError};

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

    /// Sends a request for `target` and returns once the head of the response is there.
    ///
    /// # Errors
    ///
    /// What kept the response from coming.
    pub async fn send(
        &self,
        parts: request::Parts,
        target: PathAndQuery,
        body: Incoming,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        let (upload, mut taken) = Upload::new(body);
        let mut checkout = self.pool.checkout().await?;
        let mut retried = false;
        loop {
            let Checkout { mut connection, reused } = checkout;
            let request = self.request(&parts, &target, upload.attempt(), connection.is_http2())?;
            match self.ask(&mut connection, request, &mut taken).await? {
                Ok(response) => return Ok(self.pass_on(response, connection)),
                // A kept connection may have been closed by the other side just now: once more, on a new one.
                Err(error) if reused && !retried && !error.is_user() && upload.can_be_sent_again() => {
                    tracing::debug!(host = self.pool.host(), error = %Causes(&error), "a kept connection was dead");
                    retried = true;
                    checkout = self.pool.renew().await?;
                }
                Err(error) => return Err(self.failed(&error)),
            }
        }
    }

    /// Sends a request that asks to switch protocols, over a connection of its own; if the resource agrees, bytes pass
    /// between it and `caller` from then on.
    ///
    /// # Errors
    ///
    /// What kept the response from coming.
    pub async fn switch(
        &self,
        parts: request::Parts,
        target: PathAndQuery,
        body: Incoming,
        caller: OnUpgrade,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        let (upload, mut taken) = Upload::new(body);
        let mut connection = self.pool.connect_to_switch().await?;
        let request = self.request(&parts, &target, upload.attempt(), false)?;
        let asked = self.ask(&mut connection, request, &mut taken).await?;
        let mut response = asked.map_err(|error| self.failed(&error))?;
        let protocol = response.headers().get(UPGRADE).cloned();
        let resource = hyper::upgrade::on(&mut response);
        let mut response = self.pass_on(response, connection);
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // A 101 must say to what (RFC 9110 §15.2.2); one that does not is passed on and fails at the caller's.
            upgrade::announce(response.headers_mut(), protocol.unwrap_or(HeaderValue::from_static("")));
            upgrade::join(caller, resource, self.idle_timeout);
        }
        Ok(response)
    }

    /// One attempt: the outer error is the deadline's, the inner one the connection's.
    async fn ask(
        &self,
        connection: &mut Connection,
        request: Request<RequestBody>,
        taken: &mut Option<oneshot::Receiver<()>>,
    ) -> Result<Result<Response<Incoming>, hyper::Error>, ProxyError> {
        tokio::select! {
            asked = connection.send(request) => Ok(asked),
            () = overdue(taken, self.response_timeout) => {
                Err(ProxyError::UpstreamTimeout { host: self.pool.host(), seconds: self.response_timeout.as_secs() })
            }
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
        }
        *request.uri_mut() = Uri::from_parts(uri)
            .map_err(|error| ProxyError::InvalidRequest(format!("the request target is not one: {error}").into()))?;
        Ok(request)
    }

    fn pass_on(&self, response: Response<Incoming>, connection: Connection) -> Response<ResponseBody> {
        let (mut parts, incoming) = response.into_parts();
        super::fields::clean_response(&mut parts.headers);
        // The caller's side decides for itself how it speaks.
        parts.version = Version::default();
        parts.extensions.clear();
        let lease = connection.lease(&self.pool);
        Response::from_parts(parts, ResponseBody::new(incoming, lease, self.idle_timeout))
    }

    fn failed(&self, error: &hyper::Error) -> ProxyError {
        if error.is_user() {
            return ProxyError::InvalidRequest("the request's content broke off".into());
        }
        ProxyError::UpstreamProtocol { host: self.pool.host(), problem: Causes(error).to_string() }
    }
}

/// Completes once `longest` has passed since the last byte of the request was taken.
async fn overdue(taken: &mut Option<oneshot::Receiver<()>>, longest: Duration) {
    if let Some(receiver) = taken {
        // An error means that the content was given up: the sending side ends with its own.
        let _ = receiver.await;
        *taken = None;
    }
    sleep(longest).await;
}
