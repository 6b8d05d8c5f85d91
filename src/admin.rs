//! The second listener's answers: probes and what is told of the proxy, for whoever reaches it, and nothing that would lend the
//! identity. Callers neither take its places nor keep it from answering while they leave.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body as OwnBody;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use http::{Request, Response};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::app::{App, AppBody, account, own_response, request_id};
use crate::config::{Access, Limits};
use crate::error::ProxyError;
use crate::forward::fields::REQUEST_ID;
use crate::forward::target;
use crate::guard::Guard;
use crate::lifecycle::Lifecycle;
use crate::server::{Answer, Content};

/// Where the end is asked for.
const QUIT: &str = "/quitquitquit";
/// Connections at a time: probes are few, and whoever reaches this must not make the proxy run out of descriptors.
const MAX_CONNECTIONS: usize = 64;
/// How long each may last: whoever keeps all of them must not keep probes out.
const LONGEST: Duration = Duration::from_secs(10);
/// The longest that a request's head may take, whatever callers are given.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last answers may take once everything else has ended.
const GRACE: Duration = Duration::from_secs(1);
/// Nothing that is asked here has content.
const MAX_BODY: u64 = 64 << 10;

/// What answers there. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Admin(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    app: App,
    guard: Guard,
    quits: bool,
    routes: Router,
}

/// What may be asked for there at most.
#[must_use]
pub fn limits(of_callers: Limits) -> Limits {
    Limits {
        max_connections: MAX_CONNECTIONS,
        max_body: MAX_BODY,
        header_timeout: of_callers.header_timeout.min(HEADER_TIMEOUT),
        shutdown_grace: GRACE,
        ..of_callers
    }
}

impl Admin {
    /// For what `app` does. If whoever asks may end it, that is `quits`.
    #[must_use]
    pub fn new(app: &App, access: &Access, quits: Option<Lifecycle>) -> Self {
        let may_quit = quits.is_some();
        let quits = quits.map_or_else(Router::new, |lifecycle| {
            let others = || async { ProxyError::MethodNotAllowed { allowed: "POST" } };
            Router::new().route(QUIT, post(quit).fallback(others)).with_state(lifecycle)
        });
        let routes = app.probes().merge(quits).fallback(|| async { ProxyError::NotOfAdmin });
        Self(Arc::new(Inner { app: app.clone(), guard: Guard::of_admin(access), quits: may_quit, routes }))
    }

    async fn route(&self, request: Box<Request<Content>>) -> Result<Response<AppBody>, ProxyError> {
        self.0.guard.admit(&request)?;
        // As for callers: a path means one thing, or nothing.
        target::check(request.uri().path())?;
        // Probes come from elsewhere; an order to stop has no reason to.
        if self.0.quits && request.uri().path() == QUIT && request.body().is_remote() {
            return Err(ProxyError::QuitDenied);
        }
        let Ok(response) = self.0.routes.clone().oneshot(request.map(OwnBody::new)).await;
        Ok(response.map(AppBody::Own))
    }
}

/// Begins the end, as SIGTERM does; whoever asked gets this answer before it comes.
async fn quit(State(lifecycle): State<Lifecycle>) -> Json<Value> {
    if !lifecycle.is_ending() {
        tracing::info!("stopping: somebody asked for it (POST /quitquitquit)");
    }
    lifecycle.end();
    Json(json!({ "status": "shutting down" }))
}

impl Answer for Admin {
    type Body = AppBody;

    async fn answer(&self, request: Box<Request<Content>>) -> Response<AppBody> {
        let id = request_id(&request);
        let exchange = self.0.app.begin(&request, &id);
        let mut response = self.route(request).await.unwrap_or_else(own_response);
        response.headers_mut().entry(REQUEST_ID).or_insert(id);
        account(exchange, response)
    }

    fn refuse(&self, error: ProxyError) -> Response<AppBody> {
        self.0.app.refuse(error)
    }

    fn longest(&self) -> Option<Duration> {
        Some(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::header::HOST;

    use super::*;
    use crate::app::Books;
    use crate::clock::ManualClock;
    use crate::config::{Config, Overrides};
    use crate::identity::credential::Credentials;
    use crate::tls;

    #[tokio::test]
    async fn another_machine_is_told_how_it_does_without_a_key_and_nothing_is_lent() {
        let settings = ["upstream.endpoint=http://127.0.0.1:9", "access.require_key=true", "apps.a.key=hunter2"];
        let assignments = settings.map(str::to_owned).to_vec();
        let config = Config::isolated(&Overrides { assignments, ..Overrides::default() }).expect("a configuration");
        let (tls, clock) = (tls::client(&[]).expect("TLS"), Arc::new(ManualClock::stopped()));
        let credentials = Credentials::new(&config, tls.clone(), clock.clone()).expect("credentials");
        let app = App::new(&config, &tls, &credentials, clock, Lifecycle::new(), Books::default()).expect("an app");
        let admin = Admin::new(&app, &config.access, None);
        for (path, status) in [
            ("/healthz", 200),
            ("/readyz", 503),
            ("/status", 200),
            ("/metrics", 200),
            ("/", 404),
            ("/status/events", 404),
            ("/v1/models", 404),
            ("/openai/v1/models", 404),
            ("/management/models", 404),
            ("/quitquitquit", 404),
        ] {
            let content = Content::nothing_from_afar();
            let request = Request::get(path).header(HOST, "192.0.2.1:8643").body(content).expect("a request");
            assert_eq!(admin.answer(Box::new(request)).await.status(), status, "{path}");
        }
        let lifecycle = Lifecycle::new();
        let admin = Admin::new(&app, &config.access, Some(lifecycle.clone()));
        for (content, status) in [(Content::nothing_from_afar(), 403), (Content::nothing(), 200)] {
            assert!(!lifecycle.is_ending(), "another machine has ended it");
            let request = Request::post(QUIT).header(HOST, "192.0.2.1:8643").body(content).expect("a request");
            assert_eq!(admin.answer(Box::new(request)).await.status(), status);
        }
        assert!(lifecycle.is_ending());
    }
}
