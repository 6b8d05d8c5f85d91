//! The router, and everything that happens to a request on its way to a route, outermost first.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body as OwnBody;
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use rustls::ClientConfig;
use tokio::sync::Semaphore;
use tower::ServiceExt;
use uuid::Uuid;

use crate::clock::SharedClock;
use crate::config::Config;
use crate::error::{ErrorReport, ProxyError};
use crate::forward::body::ResponseBody;
use crate::forward::fields::REQUEST_ID;
use crate::forward::upstream::Upstream;
use crate::forward::{Forwarder, target};
use crate::guard;
use crate::identity::credential::{self, Credentials};
use crate::identity::tokens::TokenSlot;
use crate::lifecycle::Lifecycle;
use crate::management::{self, Models};
use crate::server::{Answer, Content};
use crate::status::{self, Readiness};
use crate::telemetry::exchange::{Exchange, Explained, Route};
use crate::telemetry::refusals::Refusals;

/// The longest id of a request that is taken from a caller.
const LONGEST_ID: usize = 128;

/// The whole product behind one `call`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct App(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    forwarder: Forwarder,
    prefix: String,
    own: Router,
    data: Arc<TokenSlot>,
    /// For requests that leave this machine.
    in_flight: Arc<Semaphore>,
    most_in_flight: usize,
}

/// The product cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// No client for the resource.
    #[error("cannot write the endpoint as HTTP")]
    Endpoint(#[from] http::Error),
    /// No client for the management plane.
    #[error("cannot build an HTTP client")]
    Client(#[from] reqwest::Error),
}

impl App {
    /// Puts the product together; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// If a client cannot be built.
    pub fn new(
        config: &Config,
        tls: &ClientConfig,
        credentials: &Credentials,
        clock: SharedClock,
        lifecycle: Lifecycle,
    ) -> Result<Self, BuildError> {
        // One slot a scope: tokens of the two planes never mix, and a slow one never delays the other.
        let data = Arc::new(TokenSlot::new(config.upstream.scope.clone(), credentials.source(), clock.clone()));
        let scope = config.management.scope.clone();
        let management = Arc::new(TokenSlot::new(scope, credentials.source(), clock.clone()));
        let upstream = Upstream::new(config, tls.clone(), clock.clone())?;
        let models = Models::new(config, tls.clone(), management.clone())?;
        let refusals = Arc::new(Refusals::new(clock.clone()));
        let readiness = Readiness {
            tokens: data.clone(),
            management,
            refusals: refusals.clone(),
            lifecycle,
            began: clock.now(),
            clock,
            upstream: config.upstream.endpoint.to_string(),
            credential: credential::name(&config.credential.source),
        };
        Ok(Self(Arc::new(Inner {
            forwarder: Forwarder::new(upstream, data.clone(), &config.upstream, refusals),
            prefix: config.upstream.endpoint.prefix().to_owned(),
            own: own_routes(models, readiness),
            data,
            in_flight: Arc::new(Semaphore::new(config.limits.max_in_flight)),
            most_in_flight: config.limits.max_in_flight,
        })))
    }

    /// Begins to fetch the first token. Must be called inside a Tokio runtime.
    pub fn start(&self) {
        self.0.data.start();
    }

    /// One request's walk. Every step has its place for the reason beside it.
    async fn walk(&self, request: Request<Content>) -> Response<AppBody> {
        // First, so that every answer carries an id and every request has its line in the log.
        let id = request_id(&request);
        let mut exchange = Exchange::begin(request.method().clone(), id.clone());
        let mut response = match admit(&request) {
            Ok(()) => self.route(request, &id, &mut exchange).await,
            Err(error) => own_response(error),
        };
        // The resource's own id wins.
        response.headers_mut().entry(REQUEST_ID).or_insert(id);
        // Last: from here on the exchange ends with the content.
        exchange.answered(response.status());
        let report = response.extensions_mut().remove::<ErrorReport>();
        if let Some(explained) = response.extensions_mut().remove::<Explained>() {
            exchange.explained(explained);
        }
        match (report, response.body_mut()) {
            (Some(report), _) => exchange.refused(report),
            (None, AppBody::Resource(body)) => body.account(exchange),
            (None, AppBody::Own(_)) => exchange.completed(),
        }
        response
    }

    async fn route(&self, request: Request<Content>, id: &HeaderValue, exchange: &mut Exchange) -> Response<AppBody> {
        let target = target::map(&self.0.prefix, request.uri());
        if target.is_some() {
            exchange.routed(Route::Resource);
        } else if request.uri().path().starts_with("/management/") {
            exchange.routed(Route::Management);
        }
        if exchange.route() != Route::Own {
            // Not for the proxy's own routes: a probe must be answered however much there is to do.
            match self.0.in_flight.clone().try_acquire_owned() {
                Ok(place) => exchange.occupies(place),
                Err(_) => return own_response(ProxyError::Overloaded { most: self.0.most_in_flight }),
            }
        }
        if let Some(target) = target {
            return match self.0.forwarder.forward(request, target, id).await {
                Ok(response) => response.map(AppBody::Resource),
                Err(error) => own_response(error),
            };
        }
        let Ok(response) = self.0.own.clone().oneshot(request.map(OwnBody::new)).await;
        response.map(AppBody::Own)
    }
}

/// Whether a request may be looked at any further.
fn admit(request: &Request<Content>) -> Result<(), ProxyError> {
    // Before anything is read: whoever may not call learns nothing else.
    guard::admit(request)?;
    // Before routing: whatever routes by a path must not be the first to find out that it means another.
    target::check(request.uri().path())
}

/// The routes that the proxy answers itself.
fn own_routes(models: Models, readiness: Readiness) -> Router {
    let management = Router::new().route("/management/models", get(management::models)).with_state(Arc::new(models));
    let status = Router::new()
        .route("/", get(status::page))
        .route("/healthz", get(status::healthz))
        .route("/readyz", get(status::readyz))
        .route("/status", get(status::status))
        .with_state(Arc::new(readiness));
    management
        .merge(status)
        .method_not_allowed_fallback(|| async { ProxyError::MethodNotAllowed { allowed: "GET, HEAD" } })
        .fallback(|| async { ProxyError::NotFound })
}

/// The caller's id of its request if it is fit to be sent on, else a new one.
fn request_id(request: &Request<Content>) -> HeaderValue {
    let fit = |id: &&HeaderValue| !id.is_empty() && id.len() <= LONGEST_ID && id.to_str().is_ok();
    if let Some(id) = request.headers().get(REQUEST_ID).filter(fit) {
        return id.clone();
    }
    new_id()
}

fn new_id() -> HeaderValue {
    let mut buffer = Uuid::encode_buffer();
    let text = Uuid::new_v4().hyphenated().encode_lower(&mut buffer);
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

fn own_response(error: ProxyError) -> Response<AppBody> {
    error.into_response().map(AppBody::Own)
}

impl Answer for App {
    type Body = AppBody;

    async fn answer(&self, request: Request<Content>) -> Response<AppBody> {
        self.walk(request).await
    }

    fn refuse(&self, error: ProxyError) -> Response<AppBody> {
        let id = new_id();
        let mut response = own_response(error);
        if let Some(ErrorReport { code, message }) = response.extensions_mut().remove() {
            tracing::warn!(code, error = message, status = response.status().as_u16(), ?id, "what came was no request");
        }
        response.headers_mut().insert(REQUEST_ID, id);
        response
    }
}

/// A response's content: the resource's on its way through, or the proxy's own.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every response is the resource's: a box would cost each of them")]
pub enum AppBody {
    /// From the resource.
    Resource(ResponseBody),
    /// From the proxy.
    Own(OwnBody),
}

impl Body for AppBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Resource(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Own(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Resource(body) => body.is_end_stream(),
            Self::Own(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Resource(body) => body.size_hint(),
            Self::Own(body) => body.size_hint(),
        }
    }
}
