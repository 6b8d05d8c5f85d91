//! One request to the resource: over an open connection or a new one, within the deadline for a response.

use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version, request};
use hyper::body::Incoming;
use rustls::ClientConfig;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::body::{RequestBody, ResponseBody};
use super::connect::Connector;
use super::pool::{Checkout, Connection, Pool};
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
        let (body, mut taken) = RequestBody::new(body);
        let mut request = Request::from_parts(parts, body);
        let mut checkout = self.pool.checkout().await?;
        loop {
            let Checkout { mut connection, reused } = checkout;
            self.address(&mut request, &target, connection.is_http2())?;
            let sent = tokio::select! {
                sent = connection.send(request) => sent,
                () = overdue(&mut taken, self.response_timeout) => return Err(self.timed_out()),
            };
            match sent {
                Ok(response) => return Ok(self.pass_on(response, connection)),
                Err(mut error) => match error.take_message() {
                    // A kept connection had been closed by the other side, and nothing was sent on it.
                    Some(unsent) if reused => {
                        request = unsent;
                        tracing::debug!(host = self.pool.host(), "a kept connection had been closed; trying a new one");
                        checkout = self.pool.connect_anew().await?;
                    }
                    _ => return Err(self.failed(error.error())),
                },
            }
        }
    }

    /// Writes the target in the form that the connection's version wants (RFC 9112 §3.2, RFC 9113 §8.3.1).
    fn address(
        &self,
        request: &mut Request<RequestBody>,
        target: &PathAndQuery,
        http2: bool,
    ) -> Result<(), ProxyError> {
        let mut parts = http::uri::Parts::default();
        parts.path_and_query = Some(target.clone());
        if http2 {
            parts.scheme = Some(self.scheme.clone());
            parts.authority = Some(self.authority.clone());
            request.headers_mut().remove(HOST);
        } else {
            request.headers_mut().insert(HOST, self.host.clone());
        }
        *request.version_mut() = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        *request.uri_mut() = Uri::from_parts(parts)
            .map_err(|error| ProxyError::InvalidRequest(format!("the request target is not one: {error}").into()))?;
        Ok(())
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

    fn timed_out(&self) -> ProxyError {
        ProxyError::UpstreamTimeout { host: self.pool.host(), seconds: self.response_timeout.as_secs() }
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
