//! The router, and everything that happens to a request on its way to a route, outermost first.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::Router;
use axum::body::Body as OwnBody;
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use rustls::ClientConfig;
use tower::ServiceExt;
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use crate::apps::{Apps, OTHERS, models};
use crate::clock::SharedClock;
use crate::config::{Config, ModelList};
use crate::error::{ErrorReport, ProxyError};
use crate::forward::body::ResponseBody;
use crate::forward::fields::REQUEST_ID;
use crate::forward::upstream::Upstream;
use crate::forward::{Forwarder, Telling, target};
use crate::guard::Guard;
use crate::identity::credential::{self, Credentials};
use crate::identity::tokens::TokenSlot;
use crate::ledger::Condition;
use crate::lifecycle::Lifecycle;
use crate::management::{self, Catalogue, Deployments, Lists, Plane};
use crate::server::{Answer, Content};
use crate::status::{self, Events, Readiness};
use crate::telemetry::denials::PeerDenials;
use crate::telemetry::exchange::{Exchange, Explained, Route};
use crate::telemetry::history::History;
use crate::telemetry::meter::Sent;
use crate::telemetry::metrics::{self, Metrics};
use crate::telemetry::misfits::Misfits;
use crate::telemetry::recorder::{Observer, Recorder};
use crate::telemetry::refusals::Refusals;
use crate::workers::{Count, Shared};

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
    /// Those of them that the listener for probes has, too.
    probes: Router,
    /// Whether the list of models is the account's deployments.
    lists_deployments: bool,
    data: Arc<TokenSlot>,
    guard: Guard,
    apps: Arc<Apps>,
    denials: Arc<PeerDenials>,
    misfits: Misfits,
    recorder: Shared<Recorder>,
}

/// Who keeps account of requests, besides those who always do.
#[derive(Debug, Default)]
pub struct Books {
    /// They hear of every request.
    pub observers: Vec<Arc<dyn Observer>>,
    /// How the usage ledger does, if there is one.
    pub ledger: Option<Condition>,
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
    /// A metric that cannot be.
    #[error("cannot describe the metrics")]
    Metrics(#[from] metrics::Error),
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
        Books { mut observers, ledger }: Books,
    ) -> Result<Self, BuildError> {
        // One slot a scope: tokens of the two planes never mix, and a slow one never delays the other.
        let data = Arc::new(TokenSlot::new(config.upstream.scope.clone(), credentials.source(), clock.clone()));
        let scope = config.management.scope.clone();
        let management = Arc::new(TokenSlot::new(scope, credentials.source(), clock.clone()));
        let upstream = Upstream::new(config, tls.clone(), &clock)?;
        let plane = Arc::new(Plane::new(config, tls.clone(), management.clone())?);
        let deployments = Arc::new(Deployments::new(config, plane.clone()));
        let is_listed = config.upstream.models == ModelList::Deployments;
        let catalogue = is_listed.then(|| Catalogue::new(deployments.clone(), config, clock.clone())).flatten();
        let refusals = Arc::new(Refusals::new(clock.clone()));
        let apps = Arc::new(Apps::new(config));
        let misfits = Misfits::new(clock.clone());
        let denials = Arc::new(PeerDenials::new(clock.clone()));
        let history = Arc::new(History::new(clock.clone()));
        let metrics = Arc::new(Metrics::new(&apps)?);
        observers.extend([history.clone() as Arc<dyn Observer>, metrics.clone()]);
        let recorder = Shared::new(Recorder::new(observers, clock.clone()));
        let readiness = Arc::new(Readiness {
            apps: apps.clone(),
            tokens: data.clone(),
            management,
            refusals: refusals.clone(),
            denials: denials.clone(),
            recorder: recorder.handle(),
            history,
            lifecycle,
            began: clock.now(),
            started: Instant::now(),
            ledger,
            requires_key: config.access.require_key,
            clock,
            upstream: config.upstream.endpoint.to_string(),
            credential: credential::name(&config.credential.source),
            lists_deployments: config.management.subscription_id.is_some(),
        });
        status::tell(&readiness, &readiness.recorder, &metrics)?;
        let probes = probes(&readiness, &metrics);
        Ok(Self(Arc::new(Inner {
            forwarder: Forwarder::new(upstream, data.clone(), &config.upstream, refusals),
            prefix: config.upstream.endpoint.prefix().to_owned(),
            lists_deployments: catalogue.is_some(),
            own: own_routes(Lists { plane, deployments }, catalogue, readiness, probes.clone()),
            probes,
            data,
            guard: Guard::new(&config.access),
            apps,
            denials,
            misfits,
            recorder,
        })))
    }

    /// Begins to fetch the first token. Must be called inside a Tokio runtime.
    pub fn start(&self) {
        self.0.data.start();
    }

    /// The tokens for the resource.
    #[must_use]
    pub fn tokens(&self) -> &TokenSlot {
        &self.0.data
    }

    /// One request's walk. Every step has its place for the reason beside it.
    async fn walk(&self, request: Box<Request<Content>>) -> Response<AppBody> {
        // First, so that every answer carries an id and every request has its line in the log.
        let id = request_id(&request);
        let mut exchange = self.begin(&request, &id);
        // Before anything is read: whoever may not call learns nothing else.
        let admitted = self.0.guard.admit(&request);
        let cors = admitted.as_ref().ok().cloned().flatten();
        let preflight =
            cors.as_ref().and_then(|cors| cors.preflight(&request)).map(|response| response.map(AppBody::Own));
        let is_preflight = preflight.is_some();
        let mut response = match (admitted, preflight) {
            (Err(error), _) => own_response(error),
            // Browsers ask without the key that they will send.
            (Ok(_), Some(response)) => response,
            (Ok(_), None) => self.route(request, &id, &mut exchange).await.unwrap_or_else(|error| {
                exchange.app().refused(&error);
                own_response(error)
            }),
        };
        // The resource's own id wins.
        response.headers_mut().entry(REQUEST_ID).or_insert(id);
        if let Some(cors) = cors {
            cors.allow(is_preflight, response.headers_mut());
        }
        // Last: from here on the exchange ends with the content.
        account(exchange, response)
    }

    /// A request has come, and is accounted for from now on. Boxed: the account goes from hand to hand.
    pub(crate) fn begin(&self, request: &Request<Content>, id: &HeaderValue) -> Box<Exchange> {
        let app = self.0.apps.identify(request.headers()).near();
        let (method, recorder) = (request.method().clone(), self.0.recorder.near());
        let mut exchange = Box::new(Exchange::begin(method, request.uri().path(), id.clone(), app, recorder));
        exchange.comes_as(request);
        exchange
    }

    /// The routes that answer probes, and tell how the proxy does.
    pub(crate) fn probes(&self) -> Router {
        self.0.probes.clone()
    }

    async fn route(
        &self,
        mut request: Box<Request<Content>>,
        id: &HeaderValue,
        exchange: &mut Exchange,
    ) -> Result<Response<AppBody>, ProxyError> {
        // Before routing: whatever routes by a path must not be the first to find out that it means another.
        target::check(request.uri().path())?;
        let of_models = self.0.lists_deployments && management::is_of_models(request.method(), request.uri().path());
        if !of_models && let Some(target) = target::map(&self.0.prefix, request.uri()) {
            exchange.routed(Route::Resource);
            exchange.occupies(self.0.apps.admit(exchange.app(), exchange.began())?);
            return self.forward(request, target, id, exchange).await;
        }
        if of_models || request.uri().path().starts_with("/management/") {
            exchange.routed(Route::Management);
            exchange.occupies(self.0.apps.admit(exchange.app(), exchange.began())?);
        }
        // Probes alone are for everybody; the pages that tell who we are, are for this machine and for apps.
        if request.body().is_remote() && !matches!(request.uri().path(), "/healthz" | "/readyz") {
            self.0.apps.check_key(exchange.app())?;
        }
        // What is listed depends on who asks.
        request.extensions_mut().insert(exchange.app().clone());
        // What is our own takes no place: a probe must be answered however much there is to do.
        let Ok(response) = Box::pin(self.0.own.clone().oneshot(request.map(OwnBody::new))).await;
        Ok(response.map(AppBody::Own))
    }

    async fn forward(
        &self,
        request: Box<Request<Content>>,
        target: PathAndQuery,
        id: &HeaderValue,
        exchange: &mut Exchange,
    ) -> Result<Response<AppBody>, ProxyError> {
        let sent =
            (exchange.app().counts_tokens() && !request.body().is_end_stream()).then(|| Sent::new(request.headers()));
        if let Some(sent) = &sent {
            exchange.sends(sent.clone());
        }
        let asked = exchange.asks().clone();
        if let Some(model) = models::named_in_address(request.uri()) {
            asked.names(&model);
        }
        let telling = Telling { asked, sent };
        let response = self.0.forwarder.forward(request, target, id, exchange.app(), telling).await?;
        exchange.receives(response.status(), response.headers());
        Ok(response.map(AppBody::Resource))
    }
}

/// The head of a response is there: the rest is accounted for as it passes.
pub(crate) fn account(mut exchange: Box<Exchange>, mut response: Response<AppBody>) -> Response<AppBody> {
    exchange.answered(response.status());
    let report = response.extensions_mut().remove::<ErrorReport>();
    if let Some(explained) = response.extensions_mut().remove::<Explained>() {
        exchange.explained(explained);
    }
    if let AppBody::Own(body) = response.body() {
        exchange.passed(body.size_hint().lower());
    }
    match (report, response.body_mut()) {
        (Some(report), _) => exchange.refused(report),
        (None, AppBody::Resource(body)) => body.account(exchange),
        (None, AppBody::Own(_)) => exchange.completed(),
    }
    response
}

/// The routes that the proxy answers itself.
fn own_routes(lists: Lists, catalogue: Option<Catalogue>, readiness: Arc<Readiness>, probes: Router) -> Router {
    let management = Router::new()
        .route("/management/models", get(management::models))
        .route("/management/deployments", get(management::deployments))
        .with_state(lists);
    let models = catalogue.map_or_else(Router::new, |catalogue| {
        let (list, retrieve) = (get(management::list), get(management::retrieve));
        Router::new()
            .route("/v1/models", list.clone())
            .route("/v1/models/{*id}", retrieve.clone())
            .route("/openai/v1/models", list)
            .route("/openai/v1/models/{*id}", retrieve)
            .with_state(catalogue)
    });
    let events =
        Router::new().route("/status/events", get(status::events)).with_state(Arc::new(Events::new(readiness.clone())));
    let page = Router::new().route("/", get(status::page)).with_state(readiness);
    management
        .merge(models)
        .merge(page)
        .merge(events)
        .merge(probes)
        .method_not_allowed_fallback(read_only)
        .fallback(|| async { ProxyError::NotFound })
}

/// What is answered on the listener for probes, too.
fn probes(readiness: &Arc<Readiness>, metrics: &Arc<Metrics>) -> Router {
    let status = Router::new()
        .route("/healthz", get(status::healthz))
        .route("/readyz", get(status::readyz))
        .route("/status", get(status::status))
        .with_state(readiness.clone());
    let metrics = Router::new().route("/metrics", get(status::metrics)).with_state(metrics.clone());
    status.merge(metrics).method_not_allowed_fallback(read_only)
}

async fn read_only() -> ProxyError {
    ProxyError::MethodNotAllowed { allowed: "GET, HEAD" }
}

/// The caller's id of its request if it is fit to be sent on, else a new one.
pub(crate) fn request_id(request: &Request<Content>) -> HeaderValue {
    let fit = |id: &&HeaderValue| !id.is_empty() && id.len() <= LONGEST_ID && id.to_str().is_ok();
    if let Some(id) = request.headers().get(REQUEST_ID).filter(fit) {
        return id.clone();
    }
    new_id()
}

fn new_id() -> HeaderValue {
    let mut text = [0; Hyphenated::LENGTH];
    Uuid::new_v4().hyphenated().encode_lower(&mut text);
    // In one piece: it is going to be cloned.
    HeaderValue::from_maybe_shared(Bytes::from_owner(text)).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

pub(crate) fn own_response(error: ProxyError) -> Response<AppBody> {
    error.into_response().map(AppBody::Own)
}

impl Answer for App {
    type Body = AppBody;

    async fn answer(&self, request: Box<Request<Content>>) -> Response<AppBody> {
        self.walk(request).await
    }

    fn refuse(&self, error: ProxyError) -> Response<AppBody> {
        let id = new_id();
        // Whoever may not connect could fill the log: that is told by `denied`, and seldom.
        let is_told = matches!(error, ProxyError::PeerDenied { .. });
        let mut response = own_response(error);
        if let Some(report) = response.extensions_mut().remove::<ErrorReport>() {
            self.0.recorder.misfit(response.status(), &report);
            if !is_told {
                self.0.misfits.record(&report, OTHERS, response.status().as_u16(), id.to_str().unwrap_or(OTHERS));
            }
        }
        response.headers_mut().insert(REQUEST_ID, id);
        response
    }

    fn denied(&self, uid: Option<u32>) {
        self.0.denials.record(uid);
    }

    fn connections(&self) -> Count {
        self.0.recorder.connections.clone()
    }
}

/// A response's content: the resource's on its way through, or the proxy's own.
#[derive(Debug)]
pub enum AppBody {
    /// From the resource.
    Resource(Box<ResponseBody>),
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

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use http::header::HOST;

    use super::*;
    use crate::clock::ManualClock;
    use crate::config::Overrides;
    use crate::tls;

    /// A product that is asked for nothing that leaves it.
    fn app(settings: &[&str]) -> App {
        let endpoint = "upstream.endpoint=http://127.0.0.1:9";
        let assignments = [&[endpoint], settings].concat().into_iter().map(str::to_owned).collect();
        let config = Config::isolated(&Overrides { assignments, ..Overrides::default() }).expect("a configuration");
        let (tls, clock) = (tls::client(&[]).expect("TLS"), Arc::new(ManualClock::stopped()));
        let credentials = Credentials::new(&config, tls.clone(), clock.clone()).expect("credentials");
        App::new(&config, &tls, &credentials, clock, Lifecycle::new(), Books::default()).expect("an app")
    }

    async fn status(app: &App, path: &str, is_remote: bool, key: &'static str) -> StatusCode {
        let content = if is_remote { Content::nothing_from_afar() } else { Content::nothing() };
        let mut request = Request::get(path).header(HOST, "localhost").body(content).expect("a request");
        request.headers_mut().insert("api-key", HeaderValue::from_static(key));
        app.walk(Box::new(request)).await.status()
    }

    #[test]
    fn a_request_carries_no_room_for_what_happens_seldom() {
        let app = app(&[]);
        let walk = app.walk(Box::new(Request::new(Content::nothing())));
        let size = size_of_val(&walk);
        assert!(size < 2 << 10, "{size} bytes");
    }

    #[tokio::test]
    async fn another_machine_without_a_key_is_told_nothing() {
        let app = app(&["access.require_key=true", "apps.a.key=hunter2"]);
        for path in ["/", "/status", "/metrics", "/nowhere", "/management/models", "/v1/models"] {
            assert_eq!(status(&app, path, true, "unused").await, StatusCode::UNAUTHORIZED, "{path}");
        }
        assert_eq!(status(&app, "/healthz", true, "unused").await, StatusCode::OK);
        assert_eq!(status(&app, "/readyz", true, "unused").await, StatusCode::SERVICE_UNAVAILABLE);
        for (is_remote, key) in [(true, "hunter2"), (false, "unused")] {
            assert_eq!(status(&app, "/status", is_remote, key).await, StatusCode::OK, "{is_remote}");
        }
    }
}
