//! One request and its response, as they are accounted for: one log line when both are over, however they ended.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::time::Instant;
use tracing::Level;

use super::asked::Asked;
use super::meter::{Meter, Sent};
use crate::apps::App;
use crate::apps::places::Place;
use crate::error::{Causes, ErrorReport};

/// Where lines of requests come from, as far as [`crate::config`]'s directives by module go.
pub const REQUESTS: &str = concat!(env!("CARGO_CRATE_NAME"), "::request");

/// How the resource's gateway names a request, and how its services do: what Azure's support asks for.
const UPSTREAM_IDS: [&str; 2] = ["apim-request-id", "x-ms-request-id"];
/// The resource's own id of the request, which the caller sees in place of ours.
const RETURNED_ID: &str = "x-request-id";
/// The longest id that is told.
const LONGEST_ID: usize = 128;

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
    cause: Option<&'static str>,
    end: End,
    /// The model that is asked for and the ids of the response, if there will be a line that says so.
    told: Option<Told>,
    /// The request's content as it passes, if it matters what it costs.
    sent: Option<Sent>,
    /// Counts the tokens that the response has cost.
    meter: Option<Box<Meter>>,
    /// One of the places for requests under way.
    place: Option<Place>,
}

/// What is found out about a request only to be told.
#[derive(Debug, Default)]
struct Told {
    asked: Asked,
    upstream_id: Option<HeaderValue>,
    returned_id: Option<HeaderValue>,
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
        let told = tracing::enabled!(target: REQUESTS, Level::INFO).then(Told::default);
        let (status, first_byte, cause, sent, meter, place) = (None, None, None, None, None, None);
        Self { method, route, id, app, began, status, first_byte, bytes: 0, cause, end, told, sent, meter, place }
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
        self.cause = Some(cause);
    }

    /// Where it is to be said which model the request asks for, if that will be told.
    #[must_use]
    pub fn asks(&self) -> Option<&Asked> {
        self.told.as_ref().map(|told| &told.asked)
    }

    /// What the request's content costs is counted as it goes by.
    pub fn sends(&mut self, sent: Sent) {
        self.sent = Some(sent);
    }

    /// The resource has answered with these fields: what that costs is counted as it goes by. A refusal costs nothing.
    pub fn receives(&mut self, status: StatusCode, fields: &HeaderMap) {
        if let Some(told) = &mut self.told {
            let id = |name| fields.get(name).filter(|id: &&HeaderValue| id.len() <= LONGEST_ID).cloned();
            told.upstream_id = UPSTREAM_IDS.into_iter().find_map(id);
            told.returned_id = id(RETURNED_ID);
        }
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

    /// So much has gone by, or will, of which nothing matters but the length.
    pub fn passed(&mut self, bytes: u64) {
        self.bytes += bytes;
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

impl End {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Abandoned => "abandoned",
            Self::Completed => "completed",
            Self::Refused(_) => "refused",
            Self::BrokeOff(_) => "broke_off",
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let spent = match (&self.meter, &self.sent) {
            (Some(meter), _) => meter.tokens(),
            // Nobody has waited for the resource's word.
            (None, Some(sent)) => sent.tokens(),
            (None, None) => 0,
        };
        self.app.spent(spent);
        self.tell();
    }
}

/// A request's line: which fields it has, and in which order, does not depend on how grave it is.
macro_rules! line {
    ($level:expr, $exchange:expr) => {{
        let Exchange { method, route, id, app, began, status, first_byte, bytes, cause, end, told, .. } = $exchange;
        let (code, error) = match end {
            End::Refused(ErrorReport { code, message }) => (Some(*code), Some(message.as_str())),
            End::BrokeOff(error) => (None, Some(error.as_str())),
            End::Abandoned | End::Completed => (None, None),
        };
        tracing::event!(
            target: REQUESTS,
            $level,
            %method,
            status = status.map_or(0, |status| status.as_u16()),
            ms = milliseconds(began.elapsed()),
            first_byte_ms = first_byte.map(milliseconds),
            bytes,
            outcome = end.as_str(),
            route = route.as_str(),
            app = app.name(),
            model = told.as_ref().and_then(|told| told.asked.model()),
            cause,
            code,
            error,
            id = id.to_str().unwrap_or("-"),
            upstream_id = told.as_ref().and_then(|told| told.upstream_id.as_ref()?.to_str().ok()),
            returned_id = told.as_ref().and_then(|told| told.returned_id.as_ref()?.to_str().ok()),
            "request"
        );
    }};
}

impl Exchange {
    fn tell(&self) {
        match &self.end {
            // Probes and pages of the proxy itself are no news.
            End::Completed if self.route == Route::Own => line!(Level::DEBUG, self),
            End::Completed | End::Abandoned => line!(Level::INFO, self),
            End::Refused(_) | End::BrokeOff(_) => line!(Level::WARN, self),
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
