//! Where everything that is counted comes from: a request that is over, and tokens that were spent.
//!
//! Observers are called by whoever carries the request, in passing: they must be quick, never wait, and never fail. One that
//! panics all the same harms neither the others nor the request.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};
use std::time::{Duration, SystemTime};

use http::{HeaderValue, Method, StatusCode};
use tokio::time::Instant;

use super::exchange::Route;
use super::names::{Label, Name, Names};
use super::operation::Operation;
use super::origin::Origin;
use crate::clock::SharedClock;
use crate::error::ErrorReport;
use crate::inspect::usage::Usage;
use crate::workers::{Count, PerWorker};

/// Hears of requests.
pub trait Observer: fmt::Debug + Send + Sync {
    /// Whether it wants to know where requests come from: what nobody wants is not taken down.
    fn wants_origins(&self) -> bool {
        false
    }

    /// A request goes to the resource or the management plane; it is over when [`Observer::finished`] says so.
    fn under_way(&self, method: &Method) {
        let _ = method;
    }

    /// A request is over, however it ended.
    fn finished(&self, request: &Finished<'_>) {
        let _ = request;
    }

    /// A response has cost tokens. One request may cause many: a conversation over a WebSocket has many responses.
    fn spent(&self, spent: &Spent<'_>) {
        let _ = spent;
    }

    /// What came was no request, or from somebody who may not connect, and was answered by an error with this status.
    fn misfit(&self, status: StatusCode, report: &ErrorReport) {
        let _ = (status, report);
    }
}

/// A request that is over.
#[derive(Debug, Clone, Copy)]
pub struct Finished<'a> {
    /// Its method, as the caller wrote it.
    pub method: &'a Method,
    /// What it wanted done.
    pub operation: Operation,
    /// Where it went.
    pub route: Route,
    /// Of the response; nothing if the caller left before there was one.
    pub status: Option<StatusCode>,
    /// Whose it was; `-` for whoever is no known app.
    pub app: Label<'a>,
    /// The model that was asked for, if it was seen: printable, no longer than 64 bytes, and of the caller's choice.
    pub model: Option<&'a str>,
    /// The model that the resource says has answered.
    pub answered_by: Option<&'a str>,
    /// The model by one of the names that are counted by, if one was asked: of these there are only so many.
    pub counted_as: Option<Label<'a>>,
    /// What the response has cost, if it said so. Tokens spent over a WebSocket are not among these.
    pub usage: Option<Usage>,
    /// When it was over.
    pub ended: Moment,
    /// From when its head had been read until the response's last byte went to the caller.
    pub duration: Duration,
    /// Until the response's head was there.
    pub first_byte: Option<Duration>,
    /// Bytes of content that went to the caller.
    pub bytes: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// The kind of the proxy's own error, or why the resource refused, where that is known: a word of ours.
    pub code: Option<&'static str>,
    /// The proxy's own error, or how the response broke off, for people.
    pub error: Option<&'a str>,
    /// What a person can do about the resource's refusal, where the proxy can tell.
    pub hint: Option<&'a str>,
    /// How the request is called.
    pub id: &'a HeaderValue,
    /// How the resource calls it.
    pub upstream_id: Option<&'a HeaderValue>,
    /// Where it came from, if anybody wants to know.
    pub origin: Option<&'a Origin>,
}

impl Finished<'_> {
    /// Whether it went wrong, with whoever: the proxy refused it, the resource did, or the answer broke off. What the proxy's own
    /// routes have to say, that it is not ready, is no error.
    #[must_use]
    pub fn went_wrong(&self) -> bool {
        let is_error = |status: StatusCode| status.is_client_error() || status.is_server_error();
        match self.outcome {
            Outcome::Refused | Outcome::BrokeOff => true,
            Outcome::Completed | Outcome::Abandoned => self.route != Route::Own && self.status.is_some_and(is_error),
        }
    }

    /// Whether it has become a conversation over a WebSocket, which lasts as long as somebody has something to say, and whose
    /// answers do not come with the head: neither tells how fast anything is.
    #[must_use]
    pub fn is_conversation(&self) -> bool {
        self.status == Some(StatusCode::SWITCHING_PROTOCOLS)
    }

    /// Whether what was asked for was granted.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        self.is_conversation() || self.status.is_some_and(|status| status.is_success())
    }

    /// How long whoever asked has waited for the head of an answer. What the proxy itself refused was answered at once, or when
    /// the resource did not answer: neither tells how quick answers are.
    #[must_use]
    pub fn waited(&self) -> Option<Duration> {
        self.first_byte.filter(|_| self.outcome != Outcome::Refused && !self.is_conversation())
    }
}

/// How a request can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The caller went away.
    Abandoned,
    /// The response was passed on to its end, whatever it was.
    Completed,
    /// The proxy answered with an error of its own.
    Refused,
    /// The response ended before its end.
    BrokeOff,
}

/// One moment by two clocks, so that neither is asked by each who hears of it.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// By the one that only runs on.
    pub runs: Instant,
    /// By the one on the wall.
    pub wall: SystemTime,
}

/// What a response has cost.
#[derive(Debug, Clone, Copy)]
pub struct Spent<'a> {
    /// When it was known.
    pub at: Moment,
    /// Who has spent it; `-` for whoever is no known app.
    pub app: Label<'a>,
    /// By what.
    pub operation: Operation,
    /// The model that was asked for, or else the one that answered, in lower case; `-` if neither is known, `others` if there
    /// were too many.
    pub model: Label<'a>,
    /// How much; nothing if the response should have said so and did not, or not in a way that can be read.
    pub usage: Option<Usage>,
}

/// Tells whoever observes.
#[derive(Debug)]
pub struct Recorder {
    observers: Vec<Arc<dyn Observer>>,
    clock: SharedClock,
    wants_origins: bool,
    models: Names,
    /// An observer has panicked.
    has_failed: AtomicBool,
    /// Requests under way that are for Azure. One may end with another worker than it has begun with.
    in_flight: PerWorker<AtomicIsize>,
    /// Callers' connections.
    pub connections: Count,
}

impl Recorder {
    /// Tells these, at times of this clock.
    #[must_use]
    pub fn new(observers: Vec<Arc<dyn Observer>>, clock: SharedClock) -> Self {
        let wants_origins = observers.iter().any(|observer| observer.wants_origins());
        Self {
            observers,
            clock,
            wants_origins,
            models: Names::default(),
            has_failed: AtomicBool::new(false),
            in_flight: PerWorker::default(),
            connections: Count::default(),
        }
    }

    /// This moment.
    pub(super) fn now(&self) -> Moment {
        Moment { runs: Instant::now(), wall: self.clock.now() }
    }

    /// Whether anybody wants to know where requests come from.
    pub(super) fn wants_origins(&self) -> bool {
        self.wants_origins
    }

    /// How many requests are under way that are for Azure.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        let sum: isize = self.in_flight.all().map(|count| count.load(Ordering::Relaxed)).sum();
        // They are looked at one after the other.
        usize::try_from(sum).unwrap_or(0)
    }

    /// A request goes to the resource or the management plane; once, before it is over.
    pub(super) fn under_way(&self, method: &Method) {
        self.in_flight.own().fetch_add(1, Ordering::Relaxed);
        self.tell(|observer| observer.under_way(method));
    }

    /// A request is over.
    pub(super) fn finished(&self, request: &Finished<'_>) {
        if request.route != Route::Own {
            self.in_flight.own().fetch_sub(1, Ordering::Relaxed);
        }
        self.tell(|observer| observer.finished(request));
    }

    /// The name by which is counted what was asked of a model, or of others: the first of `models` that is known. Only what the
    /// resource `has_answered` makes further names, so that those which nobody has deployed take no room.
    pub(super) fn name(&self, models: [Option<&str>; 2], has_answered: bool) -> Option<Name> {
        let model = models.into_iter().flatten().next()?;
        if has_answered { Some(self.models.keep(model)) } else { self.models.find(model) }
    }

    /// A response has cost tokens.
    pub(super) fn spent(&self, spent: &Spent<'_>) {
        self.tell(|observer| observer.spent(spent));
    }

    /// What came was no request.
    pub fn misfit(&self, status: StatusCode, report: &ErrorReport) {
        self.tell(|observer| observer.misfit(status, report));
    }

    fn tell(&self, tell: impl Fn(&dyn Observer)) {
        for observer in &self.observers {
            // An observer is left as a panic leaves it: each makes sure that nothing is half done that matters.
            let told = catch_unwind(AssertUnwindSafe(|| tell(observer.as_ref())));
            // What it was is in the log each time; what it means, once.
            if told.is_err() && !self.has_failed.swap(true, Ordering::Relaxed) {
                tracing::error!("requests are not counted as they should be, since whoever counts them has panicked");
            }
        }
    }
}

impl Outcome {
    /// A word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Abandoned => "abandoned",
            Self::Completed => "completed",
            Self::Refused => "refused",
            Self::BrokeOff => "broke_off",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::clock::ManualClock;
    use crate::workers::on;

    #[derive(Debug, Default)]
    struct Counts(AtomicUsize);

    impl Observer for Counts {
        fn under_way(&self, _: &Method) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[derive(Debug)]
    struct Panics;

    impl Observer for Panics {
        fn under_way(&self, _: &Method) {
            panic!("as a test wants it");
        }
    }

    #[test]
    fn a_panic_of_one_observer_harms_no_other() {
        let counts = Arc::new(Counts::default());
        let observers: Vec<Arc<dyn Observer>> = vec![Arc::new(Panics), counts.clone(), Arc::new(Panics)];
        let recorder = Recorder::new(observers, Arc::new(ManualClock::stopped()));
        (0..2).for_each(|_| recorder.under_way(&Method::GET));
        assert_eq!(counts.0.load(Ordering::Relaxed), 2);
        assert!(recorder.has_failed.load(Ordering::Relaxed));
        assert_eq!(recorder.in_flight(), 2);
        on(1, || recorder.under_way(&Method::GET));
        assert_eq!(recorder.in_flight(), 3, "wherever they are");
    }
}
