//! One request and its response, as they are accounted for: when both are over, however they ended, the log gets its line, and
//! observers hear of it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use tokio::time::Instant;
use tracing::Level;

use super::asked::Asked;
use super::line::Line;
use super::logs;
use super::meter::{Meter, Sent};
use super::names::{Label, Name};
use super::operation::Operation;
use super::origin::Origin;
use super::recorder::{Finished, Moment, Outcome, Recorder, Spent};
use crate::apps::App;
use crate::apps::places::Place;
use crate::error::{Causes, ErrorReport};
use crate::inspect::usage::Usage;
use crate::workers::Near;

/// Where lines of requests come from, as far as [`crate::config`]'s directives by module go.
pub const REQUESTS: &str = concat!(env!("CARGO_CRATE_NAME"), "::request");

/// How the resource's gateway names a request, and how its services do: what Azure's support asks for.
const UPSTREAM_IDS: [HeaderName; 2] =
    [HeaderName::from_static("apim-request-id"), HeaderName::from_static("x-ms-request-id")];
/// The resource's own id of the request, which the caller sees in place of ours.
const RETURNED_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is told.
const LONGEST_ID: usize = 128;

/// Begun when a request is read, ended by being dropped.
#[derive(Debug)]
pub struct Exchange {
    method: Method,
    operation: Operation,
    route: Route,
    id: HeaderValue,
    app: Near<App>,
    recorder: Near<Recorder>,
    began: Instant,
    status: Option<StatusCode>,
    first_byte: Option<Duration>,
    bytes: u64,
    explained: Option<Explained>,
    end: End,
    /// The model that is asked for.
    asked: Asked,
    /// The ids of the response.
    upstream_id: Option<HeaderValue>,
    returned_id: Option<HeaderValue>,
    /// The request's content as it passes, if it matters what it costs whatever the resource says.
    sent: Option<Sent>,
    /// Counts the tokens that the response has cost.
    meter: Option<Box<Meter>>,
    /// One of the places for requests under way.
    place: Option<Place>,
    /// Where the request came from, if anybody wants to know.
    origin: Option<Origin>,
}

/// Who spends tokens by what follows a switch of protocols.
#[derive(Debug)]
pub struct Spending {
    app: Near<App>,
    operation: Operation,
    recorder: Near<Recorder>,
    asked: Asked,
}

/// Why the resource refused a request, as far as the proxy knows: an extension of the response, for its log line and for
/// `/status`.
#[derive(Debug, Clone)]
pub struct Explained {
    /// A word for it.
    pub cause: &'static str,
    /// What a person can do about it.
    pub hint: Arc<str>,
}

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
    pub fn begin(method: Method, path: &str, id: HeaderValue, app: Near<App>, recorder: Near<Recorder>) -> Self {
        Self {
            method,
            operation: Operation::at(path),
            route: Route::Own,
            id,
            app,
            recorder,
            began: Instant::now(),
            status: None,
            first_byte: None,
            bytes: 0,
            explained: None,
            end: End::Abandoned,
            asked: Asked::default(),
            upstream_id: None,
            returned_id: None,
            sent: None,
            meter: None,
            place: None,
            origin: None,
        }
    }

    /// Whose request it is.
    #[must_use]
    pub fn app(&self) -> &Near<App> {
        &self.app
    }

    /// When its head had been read.
    #[must_use]
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Takes down where the request came from, if anybody wants to know.
    pub fn comes_as<B>(&mut self, request: &Request<B>) {
        self.origin = self.recorder.wants_origins().then(|| Origin::of(request));
    }

    /// It is known where the request goes.
    pub fn routed(&mut self, route: Route) {
        self.route = route;
        // Probes and whoever watches the status are no traffic.
        if route != Route::Own {
            self.recorder.under_way(&self.method);
        }
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
    pub fn explained(&mut self, explained: Explained) {
        self.explained = Some(explained);
    }

    fn cause(&self) -> Option<&'static str> {
        self.explained.as_ref().map(|explained| explained.cause)
    }

    /// Where it is to be said which model the request asks for.
    #[must_use]
    pub fn asks(&self) -> &Asked {
        &self.asked
    }

    /// What the request's content costs is counted as it goes by.
    pub fn sends(&mut self, sent: Sent) {
        self.sent = Some(sent);
    }

    /// The resource has answered with these fields: what that costs is counted as it goes by. A refusal costs nothing.
    pub fn receives(&mut self, status: StatusCode, fields: &HeaderMap) {
        let id = |name: HeaderName| fields.get(name).filter(|id: &&HeaderValue| id.len() <= LONGEST_ID).cloned();
        self.upstream_id = UPSTREAM_IDS.into_iter().find_map(id);
        self.returned_id = id(RETURNED_ID);
        let sent = self.sent.take();
        if status.is_success() && (sent.is_some() || self.operation.costs(&self.method)) {
            self.meter = Some(Box::new(Meter::new(sent, fields)));
        }
    }

    /// Content of the response goes by.
    pub fn passes(&mut self, content: &[u8]) {
        self.bytes += content.len() as u64;
        if let Some(meter) = &mut self.meter {
            meter.read(content);
        }
    }

    /// Who spends tokens by what follows a switch of protocols.
    #[must_use]
    pub fn spending(&self) -> Spending {
        Spending {
            app: self.app.clone(),
            operation: self.operation,
            recorder: self.recorder.clone(),
            asked: self.asked.clone(),
        }
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
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Resource => "resource",
            Self::Management => "management",
            Self::Own => "own",
        }
    }
}

impl Spending {
    /// A response has cost this; nothing if it could not be read. The resource may have named its model.
    pub fn spent(&self, usage: Option<Usage>, model: Option<&str>) {
        // Where no model is asked, what cannot be read costs nothing that anybody would miss.
        if usage.is_none() && !self.operation.asks_a_model() {
            return;
        }
        let model = self.recorder.name([self.asked.model(), model], true);
        let (app, model) = (label(&self.app), model.as_ref().map_or(Label::UNKNOWN, Name::label));
        self.recorder.spent(&Spent { at: self.recorder.now(), app, operation: self.operation, model, usage });
        self.app.spent(usage.map_or(0, |usage| usage.total()));
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
        let finished = self.finished(self.recorder.now());
        let models = [finished.model, finished.answered_by];
        let model = self.operation.asks_a_model().then(|| self.recorder.name(models, finished.is_granted())).flatten();
        let model = model.as_ref().map(Name::label);
        let has_cost = self.operation.costs(&self.method) && (self.meter.is_some() || self.is_unanswered());
        if has_cost {
            let Finished { ended: at, app, operation, usage, .. } = finished;
            self.recorder.spent(&Spent { at, app, operation, model: model.unwrap_or(Label::UNKNOWN), usage });
        }
        let finished = Finished { counted_as: model, ..finished };
        // First, as observers write to memory that is far away, and lines are made in a place that is near: what is read there
        // soon after it was written would wait for all that was written before.
        let told = catch_unwind(AssertUnwindSafe(|| self.tell(&finished)));
        self.recorder.finished(&finished);
        if let Err(panic) = told {
            resume_unwind(panic);
        }
    }
}

impl Exchange {
    /// Whether the request went to the resource and the caller did not wait for the answer, which may cost what it would have.
    fn is_unanswered(&self) -> bool {
        matches!(self.end, End::Abandoned) && self.status.is_none() && self.asked.has_gone()
    }

    fn finished(&self, ended: Moment) -> Finished<'_> {
        let meter = self.meter.as_deref();
        Finished {
            method: &self.method,
            operation: self.operation,
            route: self.route,
            status: self.status,
            app: label(&self.app),
            model: self.asked.model(),
            answered_by: meter.and_then(Meter::model),
            counted_as: None,
            usage: meter.and_then(Meter::usage),
            ended,
            duration: ended.runs.saturating_duration_since(self.began),
            first_byte: self.first_byte,
            bytes: self.bytes,
            outcome: self.end.outcome(),
            code: self.end.code().or(self.cause()),
            error: self.end.error(),
            hint: self.explained.as_ref().map(|explained| &*explained.hint),
            id: &self.id,
            upstream_id: self.upstream_id.as_ref(),
            origin: self.origin.as_ref(),
        }
    }

    fn tell(&self, request: &Finished<'_>) {
        let level = match request.outcome {
            // Probes and pages of the proxy itself are no news.
            Outcome::Completed if self.route == Route::Own => Level::DEBUG,
            Outcome::Completed | Outcome::Abandoned => Level::INFO,
            Outcome::Refused | Outcome::BrokeOff => Level::WARN,
        };
        if logs::wants(level) {
            let (cause, code, returned_id) = (self.cause(), self.end.code(), self.returned_id.as_ref());
            logs::tell(&Line { level, request, cause, code, returned_id });
        }
    }
}

impl End {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Abandoned => Outcome::Abandoned,
            Self::Completed => Outcome::Completed,
            Self::Refused(_) => Outcome::Refused,
            Self::BrokeOff(_) => Outcome::BrokeOff,
        }
    }

    fn code(&self) -> Option<&'static str> {
        if let Self::Refused(report) = self { Some(report.code) } else { None }
    }

    fn error(&self) -> Option<&str> {
        match self {
            Self::Refused(report) => Some(&report.message),
            Self::BrokeOff(error) => Some(error),
            Self::Abandoned | Self::Completed => None,
        }
    }
}

fn label(app: &App) -> Label<'_> {
    Label { name: app.name(), number: app.number() }
}
