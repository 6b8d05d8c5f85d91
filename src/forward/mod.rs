//! A request's way to the resource and back.

pub mod body;
pub(crate) mod connect;
pub mod fields;
mod http1;
mod http2;
mod incoming;
mod link;
mod listening;
mod pool;
mod refusal;
pub mod target;
mod tcp;
mod upgrade;
mod upload;
pub mod upstream;

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use http::header::SEC_WEBSOCKET_EXTENSIONS;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode};

use crate::apps::App;
use crate::apps::models::{Head, Screening};
use crate::config;
use crate::error::ProxyError;
use crate::identity::tokens::{Token, TokenSlot};
use crate::server::{Content, Interim};
use crate::telemetry::asked::Asked;
use crate::telemetry::meter::Sent;
use crate::telemetry::refusals::Refusals;
use crate::workers::Near;

use body::ResponseBody;
use refusal::{Explainer, Refusal};
use upgrade::Switching;
use upload::{Onlookers, Upload};
use upstream::Upstream;

/// How long the rest of a request may take once its response is over.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// Sends requests on with a token of ours.
#[derive(Debug)]
pub struct Forwarder {
    upstream: Upstream,
    tokens: Arc<TokenSlot>,
    explainer: Explainer,
}

/// Who is told of a request while it is sent.
#[derive(Debug)]
pub struct Telling {
    /// That it goes to the resource, and which model it asks for.
    pub asked: Asked,
    /// How much content it has, if anybody wants to know.
    pub sent: Option<Sent>,
}

/// A request that is fit to be sent, and all that sending it again needs.
struct Ready {
    /// Its head: its content is in `upload`.
    request: Box<Request<Content>>,
    target: PathAndQuery,
    upload: Upload,
    /// Where interim responses go, if the caller takes any.
    interim: Option<Interim>,
    /// Whether it asks to switch to another protocol, until that is done.
    switching: Option<Switching>,
    /// Who is told that it goes to the resource.
    asked: Asked,
    /// What stands in `Authorization`: no field of `request` does.
    authorization: HeaderValue,
    /// Where it is from; nothing if it is a key of the caller's that passes.
    token: Option<Arc<Token>>,
}

impl Forwarder {
    /// A forwarder to `upstream` with the tokens of one scope, which records what it can explain in `refusals`.
    #[must_use]
    pub fn new(upstream: Upstream, tokens: Arc<TokenSlot>, config: &config::Upstream, refusals: Arc<Refusals>) -> Self {
        Self { upstream, tokens, explainer: Explainer::new(config, refusals) }
    }

    /// Sends a request of `app` to `target` on the resource; `id` names it there unless the caller did.
    ///
    /// # Errors
    ///
    /// What kept the response from coming: no token, or no answer.
    pub async fn forward(
        &self,
        request: Box<Request<Content>>,
        target: PathAndQuery,
        id: &HeaderValue,
        app: &Near<App>,
        telling: Telling,
    ) -> Result<Response<Box<ResponseBody>>, ProxyError> {
        let mut ready = self.prepare(request, target, id, app, telling).await?;
        let response = self.send(&mut ready).await?;
        let token = match &ready.token {
            None => return Ok(response),
            Some(token) if !response.status().is_client_error() => {
                token.accept();
                return Ok(response);
            }
            Some(token) => token.clone(),
        };
        // Boxed, here and below: what happens seldom should not take room in every request.
        Box::pin(self.refused(response, ready, token)).await
    }

    /// The resource's refusal, explained if it can be, or the answer to another attempt.
    async fn refused(
        &self,
        mut response: Response<Box<ResponseBody>>,
        mut ready: Ready,
        token: Arc<Token>,
    ) -> Result<Response<Box<ResponseBody>>, ProxyError> {
        let mut refusal = self.explainer.read(&mut response).await;
        if response.status() != StatusCode::UNAUTHORIZED {
            token.accept();
        } else if refusal.as_ref().is_some_and(Refusal::says_stale)
            && let Some(again) = self.send_again(&mut ready, &token).await
        {
            response = again;
            refusal = self.explainer.read(&mut response).await;
        }
        if let Some(refusal) = refusal {
            self.explainer.explain(&mut response, refusal, &ready);
        }
        Ok(response)
    }

    /// The answer to the request with another token than `stale`, if there is one, and if the request can be sent again.
    async fn send_again(&self, ready: &mut Ready, stale: &Token) -> Option<Response<Box<ResponseBody>>> {
        if !ready.upload.can_be_sent_again() {
            // Whoever asks next will be glad of it.
            self.tokens.refused(stale);
            return None;
        }
        let fresh = self.tokens.instead_of(stale).await?;
        ready.authorize(fresh.clone());
        // Should that fail, the answer that there is says more than an error of ours.
        let response = self.send(ready).await.ok()?;
        if response.status() != StatusCode::UNAUTHORIZED {
            fresh.accept();
        }
        Some(response)
    }

    async fn prepare(
        &self,
        mut request: Box<Request<Content>>,
        target: PathAndQuery,
        id: &HeaderValue,
        app: &Near<App>,
        telling: Telling,
    ) -> Result<Ready, ProxyError> {
        let switching = Switching::wish(&mut request);
        let interim = request.body_mut().take_interim();
        let Telling { asked, sent } = telling;
        let body = mem::replace(request.body_mut(), Content::nothing());
        let watch = asked.watch(request.headers());
        let mut upload = self.upstream.upload(body, Onlookers { sent, watch })?;
        // A key of ours may look like one.
        let ephemeral = fields::ephemeral_key(request.uri().path(), request.headers()).filter(|key| !app.has_key(key));
        if let (Some(models), None) = (app.models(), &ephemeral) {
            let head = models.check(request.uri(), request.headers(), switching.is_some());
            match head.map_err(|asked| app.may_not_ask_for(asked))? {
                Head::Names => {}
                Head::LeavesOpen => Box::pin(self.upstream.screen(&mut upload, Screening::new(app.clone()))).await?,
                Head::NamesNowhere if upload.is_empty() => {}
                Head::NamesNowhere => {
                    let asked = "a model that cannot be seen, because where its content names it is not known";
                    return Err(app.may_not_ask_for(asked.to_owned()));
                }
            }
        }
        let (authorization, token) = if let Some(key) = ephemeral {
            (key, None)
        } else {
            let token = self.tokens.token_to_send().await?;
            (token.authorization.clone(), Some(token))
        };
        request.extensions_mut().clear();
        let fields = request.headers_mut();
        fields::clean_request(fields);
        // The request matters more than that it can be found again.
        if fields::leave_room(fields) {
            fields.entry(fields::CLIENT_REQUEST_ID).or_insert_with(|| id.clone());
        }
        upgrade::remove_key_protocol(fields);
        if let Some(switching) = &switching {
            upgrade::announce(fields, switching.protocol.clone());
            if app.counts_tokens() {
                // Compressed, messages would not tell what they cost.
                fields.remove(SEC_WEBSOCKET_EXTENSIONS);
            }
        }
        Ok(Ready { request, target, upload, interim, switching, asked, authorization, token })
    }

    async fn send(&self, ready: &mut Ready) -> Result<Response<Box<ResponseBody>>, ProxyError> {
        if ready.switching.is_some() {
            Box::pin(self.upstream.switch(ready)).await
        } else {
            self.upstream.send(ready).await
        }
    }
}

impl Ready {
    fn authorize(&mut self, token: Arc<Token>) {
        self.authorization = token.authorization.clone();
        self.token = Some(token);
    }
}
