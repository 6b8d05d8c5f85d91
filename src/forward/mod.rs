//! A request's way to the resource and back.

pub mod body;
mod connect;
pub mod fields;
mod handshake;
mod listening;
mod pool;
mod silence;
pub mod target;
mod upgrade;
mod upload;
pub mod upstream;

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;

use crate::error::ProxyError;
use crate::identity::tokens::TokenSlot;

use body::ResponseBody;
use upgrade::Switching;
use upstream::Upstream;

/// Sends requests on with a token of ours.
#[derive(Debug)]
pub struct Forwarder {
    upstream: Upstream,
    tokens: Arc<TokenSlot>,
}

impl Forwarder {
    /// A forwarder to `upstream` with the tokens of one scope.
    #[must_use]
    pub fn new(upstream: Upstream, tokens: Arc<TokenSlot>) -> Self {
        Self { upstream, tokens }
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
        let switching = Switching::wish(&mut request);
        let (mut parts, body) = request.into_parts();
        let authorization = match fields::ephemeral_key(parts.uri.path(), &parts.headers) {
            Some(own) => own,
            None => self.tokens.authorization().await?,
        };
        fields::clean_request(&mut parts.headers);
        // After the cleaning: nothing that the caller's `Connection` names can remove these.
        parts.headers.insert(AUTHORIZATION, authorization);
        parts.headers.entry(fields::CLIENT_REQUEST_ID).or_insert_with(|| id.clone());
        parts.extensions.clear();
        let Some(switching) = switching else {
            return self.upstream.send(parts, target, body).await;
        };
        upgrade::remove_key_protocol(&mut parts.headers);
        upgrade::announce(&mut parts.headers, switching.protocol.clone());
        self.upstream.switch(parts, target, body, switching).await
    }
}
