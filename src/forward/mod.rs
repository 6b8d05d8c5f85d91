//! A request's way to the resource and back.

pub mod body;
mod connect;
pub mod fields;
mod handshake;
mod listening;
mod pool;
mod refusal;
mod silence;
pub mod target;
mod upgrade;
mod upload;
pub mod upstream;

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::config;
use crate::error::ProxyError;
use crate::identity::tokens::{Token, TokenSlot};
use crate::telemetry::refusals::Refusals;

use body::ResponseBody;
use refusal::Explainer;
use upgrade::Switching;
use upload::Upload;
use upstream::Upstream;

/// Sends requests on with a token of ours.
#[derive(Debug)]
pub struct Forwarder {
    upstream: Upstream,
    tokens: Arc<TokenSlot>,
    explainer: Explainer,
}

/// A request that is fit to be sent, and all that sending it again needs.
struct Ready {
    parts: Parts,
    target: PathAndQuery,
    upload: Upload,
    /// Whether it asks to switch to another protocol, until that is done.
    switching: Option<Switching>,
    /// What stands in `Authorization`; nothing if that is a key of the caller's that passes.
    token: Option<Arc<Token>>,
}

impl Forwarder {
    /// A forwarder to `upstream` with the tokens of one scope, which records what it can explain in `refusals`.
    #[must_use]
    pub fn new(upstream: Upstream, tokens: Arc<TokenSlot>, config: &config::Upstream, refusals: Arc<Refusals>) -> Self {
        Self { upstream, tokens, explainer: Explainer::new(config, refusals) }
    }

    /// Sends `request` to `target` on the resource; `id` names it there unless the caller did.
    ///
    /// # Errors
    ///
    /// What kept the response from coming: no token, or no answer.
    pub async fn forward(
        &self,
        request: Request<Incoming>,
        target: PathAndQuery,
        id: &HeaderValue,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        let mut ready = self.prepare(request, target, id).await?;
        let mut response = self.send(&mut ready).await?;
        let Some(token) = ready.token.clone() else { return Ok(response) };
        if response.status() != StatusCode::UNAUTHORIZED {
            token.accept();
        } else if self.explainer.says_stale(&mut response).await
            && let Some(fresh) = self.tokens.instead_of(&token).await
            && ready.upload.rewind()
        {
            ready.authorize(fresh);
            response = self.send(&mut ready).await?;
            if let Some(fresh) = ready.token.as_ref().filter(|_| response.status() != StatusCode::UNAUTHORIZED) {
                fresh.accept();
            }
        }
        self.explainer.explain(&mut response, &ready).await;
        Ok(response)
    }

    async fn prepare(
        &self,
        mut request: Request<Incoming>,
        target: PathAndQuery,
        id: &HeaderValue,
    ) -> Result<Ready, ProxyError> {
        let switching = Switching::wish(&mut request);
        let (mut parts, body) = request.into_parts();
        let ephemeral = fields::ephemeral_key(parts.uri.path(), &parts.headers);
        let token = if ephemeral.is_none() { Some(self.tokens.token_to_send().await?) } else { None };
        fields::clean_request(&mut parts.headers);
        // After the cleaning: nothing that the caller's `Connection` names can remove these.
        if let Some(key) = ephemeral {
            parts.headers.insert(AUTHORIZATION, key);
        }
        parts.headers.entry(fields::CLIENT_REQUEST_ID).or_insert_with(|| id.clone());
        parts.extensions.clear();
        if let Some(switching) = &switching {
            upgrade::remove_key_protocol(&mut parts.headers);
            upgrade::announce(&mut parts.headers, switching.protocol.clone());
        }
        let mut ready = Ready { parts, target, upload: self.upstream.upload(body), switching, token: None };
        if let Some(token) = token {
            ready.authorize(token);
        }
        Ok(ready)
    }

    async fn send(&self, ready: &mut Ready) -> Result<Response<ResponseBody>, ProxyError> {
        let Ready { parts, target, upload, switching, .. } = ready;
        if switching.is_some() {
            self.upstream.switch(parts, target, upload, switching).await
        } else {
            self.upstream.send(parts, target, upload).await
        }
    }
}

impl Ready {
    fn authorize(&mut self, token: Arc<Token>) {
        self.parts.headers.insert(AUTHORIZATION, token.authorization.clone());
        self.token = Some(token);
    }
}
