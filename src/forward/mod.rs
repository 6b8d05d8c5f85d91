//! A request's way to the resource and back.

pub mod body;
mod connect;
pub mod fields;
mod handshake;
mod pool;
pub mod target;
mod upgrade;
mod upload;
pub mod upstream;

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;

use crate::clock::SharedClock;
use crate::error::ProxyError;
use crate::identity::tokens::TokenSlot;

use body::ResponseBody;
use upstream::Upstream;

/// Sends requests on with a token of ours.
#[derive(Debug)]
pub struct Forwarder {
    upstream: Upstream,
    tokens: Arc<TokenSlot>,
    clock: SharedClock,
}

impl Forwarder {
    /// A forwarder to `upstream` with the tokens of one scope.
    #[must_use]
    pub fn new(upstream: Upstream, tokens: Arc<TokenSlot>, clock: SharedClock) -> Self {
        Self { upstream, tokens, clock }
    }

    /// Sends `request` to `target` on the resource; `id` names it there unless the caller did.
    ///
    /// # Errors
    ///
    /// What kept the response from coming: no token, or no answer.
    pub async fn forward(
        &self,
        mut request: Request<Incoming>,
        target: PathAndQuery,
        id: &HeaderValue,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        let protocol = upgrade::asked_for(&request);
        let caller = protocol.is_some().then(|| hyper::upgrade::on(&mut request));
        let (mut parts, body) = request.into_parts();
        let authorization = match fields::ephemeral_key(parts.uri.path(), &parts.headers) {
            Some(own) => own,
            None => authorization(&self.tokens, &self.clock).await?,
        };
        fields::clean_request(&mut parts.headers);
        // After the cleaning: nothing that the caller's `Connection` names can remove these.
        parts.headers.insert(AUTHORIZATION, authorization);
        parts.headers.entry(fields::CLIENT_REQUEST_ID).or_insert_with(|| id.clone());
        parts.extensions.clear();
        let (Some(protocol), Some(caller)) = (protocol, caller) else {
            return self.upstream.send(parts, target, body).await;
        };
        upgrade::remove_key_protocol(&mut parts.headers);
        upgrade::announce(&mut parts.headers, protocol);
        self.upstream.switch(parts, target, body, caller).await
    }
}

/// The `Authorization` of one scope, or the answer for a request that cannot have it.
///
/// # Errors
///
/// [`ProxyError::CredentialUnavailable`].
pub async fn authorization(tokens: &TokenSlot, clock: &SharedClock) -> Result<HeaderValue, ProxyError> {
    match tokens.token().await {
        Ok(token) => Ok(token.authorization.clone()),
        Err(failure) => {
            let retry_after = failure.retry_after(clock.now());
            Err(ProxyError::CredentialUnavailable { failure, retry_after })
        }
    }
}
