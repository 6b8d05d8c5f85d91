//! One request and its response, as they are accounted for: one log line when both are over, however they ended.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::time::Instant;

use super::meter::{Meter, Sent};
use crate::apps::App;
use crate::apps::places::Place;
use crate::error::{Causes, ErrorReport};

/// Begun when a request is read, ended by being dropped.
#[derive(Debug)]
pub struct Exchange {
    method: Method,
    route: Route,
    id: HeaderValue,
    app: Arc<App>,
    began: Instant,
    status: Option<StatusCode>,
    first_byte: Option<Duration>,
    bytes: u64,
    cause: &'static str,
    end: End,
    /// The request's content as it passes, if it matters what it costs.
    sent: Option<Sent>,
    /// Counts the tokens that the response has cost.
    meter: Option<Box<Meter>>,
    /// One of the places for requests under way.
    place: Option<Place>,
}

/// Why the resource refused a request, as far as the proxy knows: an extension of the response, for its log line.
#[derive(Debug, Clone, Copy)]
pub struct Explained(pub &'static str);

/// Where a request was meant to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// The resource.
    Resource,
    /// The management plane.
    Management,
    /// The proxy itself, or nowhere.
    Own,
}

#[derive(Debug)]
enum End {
    /// Dropped before anything said so: the caller went away.
    Abandoned,
    Completed,
    Refused(ErrorReport),
    BrokeOff(String),
}

impl Exchange {
    /// A request of `app` has been read.
    #[must_use]
    pub fn begin(method: Method, id: HeaderValue, app: Arc<App>) -> Self {
        let began = Instant::now();
        let (route, end) = (Route::Own, End::Abandoned);
        let (status, first_byte, sent, meter, place) = (None, None, None, None, None);
        Self { method, route, id, app, began, status, first_byte, bytes: 0, cause: "", end, sent, meter, place }
    }

    /// It is known where the request goes.
    pub fn routed(&mut self, route: Route) {
        self.route = route;
    }

    /// Where the request goes, as far as that is known.
    #[must_use]
    pub fn route(&self) -> Route {
        self.route
    }

    /// The request takes a place among those under way, until the end.
    pub fn occupies(&mut self, place: Place) {
        self.place = Some(place);
    }

    /// The head of the response is there.
    pub fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
        self.first_byte = Some(self.began.elapsed());
    }

    /// It is known why the resource refused the request.
    pub fn explained(&mut self, Explained(cause): Explained) {
        self.cause = cause;
    }

    /// What the request's content costs is counted as it goes by.
    pub fn sends(&mut self, sent: Sent) {
        self.sent = Some(sent);
    }

    /// The resource has answered with these fields: what that costs is counted as it goes by. A refusal costs nothing.
    pub fn receives(&mut self, status: StatusCode, fields: &HeaderMap) {
        let sent = self.sent.take().filter(|_| status.is_success());
        self.meter = sent.map(|sent| Box::new(Meter::new(sent, fields)));
    }

    /// Content of the response goes by.
    pub fn passes(&mut self, content: &[u8]) {
        self.bytes += content.len() as u64;
        if let Some(meter) = &mut self.meter {
            meter.read(content);
        }
    }

    /// Whose tokens are spent by what follows a switch of protocols, if it matters how many.
    #[must_use]
    pub fn spending(&self) -> Option<Arc<App>> {
        self.app.counts_tokens().then(|| self.app.clone())
    }

    /// What follows a switch of protocols has gone by.
    pub fn passed(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// The response has ended as it should.
    pub fn completed(&mut self) {
        self.end = End::Completed;
    }

    /// The proxy answered with an error of its own.
    pub fn refused(&mut self, report: ErrorReport) {
        self.end = End::Refused(report);
    }

    /// The response ended before its end.
    pub fn broke_off(&mut self, error: &(dyn std::error::Error + 'static)) {
        self.end = End::BrokeOff(Causes(error).to_string());
    }
}

impl Route {
    fn as_str(self) -> &'static str {
        match self {
            Self::Resource => "resource",
            Self::Management => "management",
            Self::Own => "own",
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let method = &self.method;
        let route = self.route.as_str();
        let id = self.id.to_str().unwrap_or("-");
        let status = self.status.map_or(0, |status| status.as_u16());
        let ms = self.began.elapsed().as_millis();
        let first_byte_ms = self.first_byte.map_or(0, |time| time.as_millis());
        let bytes = self.bytes;
        let app = self.app.name();
        let spent = match (&self.meter, &self.sent) {
            (Some(meter), _) => meter.tokens(),
            // Nobody has waited for the resource's word.
            (None, Some(sent)) => sent.tokens(),
            (None, None) => 0,
        };
        self.app.spent(spent);
        match &self.end {
            // Probes and pages of the proxy itself are no news.
            End::Completed if self.route == Route::Own => {
                tracing::debug!(%method, route, app, status, ms, bytes, id, "request");
            }
            End::Completed if !self.cause.is_empty() => {
                let cause = self.cause;
                tracing::info!(%method, route, app, status, cause, ms, first_byte_ms, bytes, id, "request");
            }
            End::Completed => tracing::info!(%method, route, app, status, ms, first_byte_ms, bytes, id, "request"),
            End::Abandoned => {
                tracing::info!(%method, route, app, status, ms, first_byte_ms, bytes, id, "request abandoned by the caller");
            }
            End::Refused(ErrorReport { code, message }) => {
                tracing::warn!(%method, route, app, status, ms, id, code, error = message, "request answered by the proxy");
            }
            End::BrokeOff(error) => {
                tracing::warn!(%method, route, app, status, ms, first_byte_ms, bytes, id, error, "response broke off");
            }
        }
    }
}
