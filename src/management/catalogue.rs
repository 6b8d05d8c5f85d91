//! What the account's deployments make callable, kept for five minutes: the list behind `GET /v1/models`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::deployments::Deployments;
use super::failure::Failure;
use super::openai::Callable;
use super::plane::Scope;
use crate::clock::SharedClock;
use crate::config::{Config, Segment};
use crate::error::ProxyError;
use crate::telemetry::outages::Outages;

/// How long a list is as good as a new one.
const FRESH: Duration = Duration::from_secs(5 * 60);
/// How long nobody asks again after a failure while there is an older list, unless the management plane wants more.
const REST_WITH_AN_OLD_ONE: Duration = Duration::from_secs(30);
/// The same where there is none: a loop of requests must not become one to the management plane.
const REST: Duration = Duration::from_secs(2);
/// The longest that a `Retry-After` is obeyed.
const LONGEST_REST: Duration = Duration::from_secs(5 * 60);
/// How long a caller waits for a new list where there is an older one.
const PATIENCE_WITH_AN_OLD_ONE: Duration = Duration::from_secs(1);
/// How long a fetch may take, with all its pages: that is how long a caller waits for the first list.
const DEADLINE: Duration = Duration::from_secs(60);

/// The models that can be called. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalogue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    deployments: Arc<Deployments>,
    /// Whether refusals say what mends them.
    explains: bool,
    subscription: Segment,
    api_version: Segment,
    host: String,
    clock: SharedClock,
    outages: Outages,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    fetch: Option<Fetch>,
    /// How the last fetch failed, unless one has succeeded since.
    failed: Option<Failed>,
}

#[derive(Debug, Clone)]
struct Held {
    models: Arc<[Callable]>,
    since: SystemTime,
}

#[derive(Debug)]
struct Failed {
    failure: Failure,
    at: SystemTime,
    /// How long nobody asks again.
    rest: Duration,
}

/// One question to the management plane, for however many callers.
#[derive(Debug, Clone)]
struct Fetch {
    began: Instant,
    /// Nothing until it is over; closed afterwards.
    outcome: watch::Receiver<Option<Outcome>>,
}

type Outcome = Result<Arc<[Callable]>, Failure>;

/// What there is at the moment.
enum Now {
    Fresh(Arc<[Callable]>),
    /// An old list, if there is one, and why there is no newer one.
    Resting(Option<Held>, Failure),
    Fetching(Option<Held>, Fetch),
}

impl Catalogue {
    /// Nothing has been fetched yet. [`None`] without a subscription, where nothing can be.
    #[must_use]
    pub fn new(deployments: Arc<Deployments>, config: &Config, clock: SharedClock) -> Option<Self> {
        let settings = &config.management;
        Some(Self(Arc::new(Inner {
            deployments,
            explains: config.upstream.explain_errors,
            subscription: settings.subscription_id.clone()?,
            api_version: settings.api_version.clone(),
            host: settings.endpoint.authority().to_owned(),
            outages: Outages::new(clock.clone()),
            clock,
            state: Mutex::default(),
        })))
    }

    /// The models, in the order of their names. An old list is better than none, as long as the failure may pass.
    ///
    /// # Errors
    ///
    /// If there is no list, what kept it from coming.
    pub async fn models(&self) -> Outcome {
        let (old, mut fetch) = match self.now() {
            Now::Fresh(models) => return Ok(models),
            Now::Resting(old, failure) => return self.0.make_do(old, failure),
            Now::Fetching(old, fetch) => (old, fetch),
        };
        let began = fetch.began;
        let outcome = async {
            let outcome = fetch.outcome.wait_for(Option::is_some).await;
            outcome.ok().and_then(|outcome| outcome.clone()).unwrap_or_else(|| Err(self.0.broken()))
        };
        let outcome = match old {
            Some(_) => timeout_at(began + PATIENCE_WITH_AN_OLD_ONE, outcome)
                .await
                // It may have been under way for a while when this caller came.
                .unwrap_or_else(|_| Err(self.0.overdue(began.elapsed()))),
            // The fetch has its own deadline.
            None => outcome.await,
        };
        outcome.or_else(|failure| self.0.make_do(old, failure))
    }

    /// Begins a fetch if there should be one and is none.
    fn now(&self) -> Now {
        let now = self.0.clock.now();
        // A time in the future is one before the clock was set back.
        let is_within = |time: SystemTime, span| now.duration_since(time).is_ok_and(|past| past < span);
        let mut state = self.0.state();
        match (&state.held, &state.failed) {
            (Some(held), _) if is_within(held.since, FRESH) => return Now::Fresh(held.models.clone()),
            (old, Some(Failed { failure, at, rest })) if is_within(*at, *rest) => {
                return Now::Resting(old.clone(), failure.clone());
            }
            _ => {}
        }
        let running = state.fetch.take().filter(|fetch| fetch.outcome.has_changed().is_ok());
        let fetch = running.unwrap_or_else(|| self.fetch());
        state.fetch = Some(fetch.clone());
        Now::Fetching(state.held.clone(), fetch)
    }

    /// Fetches in a task of its own: callers who leave take nothing with them.
    fn fetch(&self) -> Fetch {
        let (sender, outcome) = watch::channel(None);
        let inner = self.0.clone();
        tokio::spawn(async move {
            let outcome = timeout(DEADLINE, inner.ask()).await.unwrap_or_else(|_| Err(inner.overdue(DEADLINE)));
            inner.settle(&outcome);
            sender.send_replace(Some(outcome));
        });
        Fetch { began: Instant::now(), outcome }
    }
}

impl Inner {
    async fn ask(&self) -> Outcome {
        let scope = Scope { subscription: &self.subscription, api_version: &self.api_version };
        let deployments = self.deployments.entries(scope).await.map_err(|failure| self.explained(failure))?;
        let mut models: Vec<Callable> = deployments.into_iter().filter_map(Callable::of).collect();
        models.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(models.into())
    }

    fn explained(&self, failure: Failure) -> Failure {
        let hint = self.deployments.remedy(&failure, &self.subscription).filter(|_| self.explains);
        match hint {
            Some(hint) => failure.explained(&hint),
            None => failure,
        }
    }

    fn settle(&self, outcome: &Outcome) {
        let since = self.clock.now();
        let mut state = self.state();
        match outcome {
            Ok(models) => {
                state.held = Some(Held { models: models.clone(), since });
                state.failed = None;
            }
            Err(failure) => {
                // Otherwise the list would outlive the right to see it.
                state.held.take_if(|_| !failure.may_pass());
                let rest = rest(failure, state.held.is_some());
                state.failed = Some(Failed { failure: failure.clone(), at: since, rest });
            }
        }
    }

    /// The old list, if the failure may pass; that it is old is told.
    fn make_do(&self, old: Option<Held>, failure: Failure) -> Outcome {
        let Some(held) = old.filter(|_| failure.may_pass()) else { return Err(failure) };
        self.outages.record(held.since, &failure.to_string());
        Ok(held.models)
    }

    fn overdue(&self, since: Duration) -> Failure {
        let seconds = since.as_secs().max(1);
        ProxyError::UpstreamTimeout { host: self.host.clone(), seconds }.into()
    }

    /// The task ended without an outcome.
    fn broken(&self) -> Failure {
        let problem = "its answer could not be read; please report this".to_owned();
        ProxyError::UpstreamProtocol { host: self.host.clone(), problem }.into()
    }

    /// A panic elsewhere leaves nothing half done in here.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long nobody asks again after `failure`.
fn rest(failure: &Failure, has_old: bool) -> Duration {
    let least = match failure {
        _ if has_old => REST_WITH_AN_OLD_ONE,
        // Then nobody was asked; whoever gets tokens rests by itself.
        Failure::Error(ProxyError::CredentialUnavailable { .. }) => Duration::ZERO,
        _ => REST,
    };
    failure.retry_after().unwrap_or_default().clamp(least, LONGEST_REST)
}
