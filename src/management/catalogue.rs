//! What the account's deployments make callable, kept for five minutes: the list behind `GET /v1/models`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::deployments::Deployments;
use super::entries::Deployment;
use super::failure::Failure;
use super::openai::Callable;
use super::plane::Scope;
use crate::clock::SharedClock;
use crate::config::{Management, Segment};
use crate::error::ProxyError;
use crate::telemetry::outages::Outages;

/// How long a list is as good as a new one.
const FRESH: Duration = Duration::from_secs(5 * 60);
/// How long nobody asks again after a failure while there is an older list.
const REST: Duration = Duration::from_secs(30);
/// How long a caller waits for a new list where there is an older one.
const PATIENCE_WITH_AN_OLD_ONE: Duration = Duration::from_secs(1);
/// How long a caller waits for the first one.
const PATIENCE: Duration = Duration::from_secs(60);

/// The models that can be called. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalogue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    deployments: Arc<Deployments>,
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
    /// When the last fetch failed, and why, unless one has succeeded since.
    failed: Option<(SystemTime, Failure)>,
}

#[derive(Debug, Clone)]
struct Held {
    models: Arc<[Callable]>,
    since: SystemTime,
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
    /// An old list, and why there is no newer one.
    Resting(Held, Failure),
    Fetching(Option<Held>, Fetch),
}

impl Catalogue {
    /// Nothing has been fetched yet. [`None`] without a subscription, where nothing can be.
    #[must_use]
    pub fn new(deployments: Arc<Deployments>, settings: &Management, clock: SharedClock) -> Option<Self> {
        Some(Self(Arc::new(Inner {
            deployments,
            subscription: settings.subscription_id.clone()?,
            api_version: settings.api_version.clone(),
            host: settings.endpoint.authority().to_owned(),
            outages: Outages::new(clock.clone()),
            clock,
            state: Mutex::default(),
        })))
    }

    /// The models, in the order of their names. An old list is better than none.
    ///
    /// # Errors
    ///
    /// If there is no list at all, what kept it from coming.
    pub async fn models(&self) -> Outcome {
        let (old, mut fetch) = match self.now() {
            Now::Fresh(models) => return Ok(models),
            Now::Resting(held, failure) => return Ok(self.0.make_do(held, &failure)),
            Now::Fetching(old, fetch) => (old, fetch),
        };
        let deadline = match old {
            Some(_) => fetch.began + PATIENCE_WITH_AN_OLD_ONE,
            None => Instant::now() + PATIENCE,
        };
        let outcome = match timeout_at(deadline, fetch.outcome.wait_for(Option::is_some)).await {
            Ok(Ok(outcome)) => outcome.clone().unwrap_or_else(|| Err(self.0.broken())),
            Ok(Err(_)) => Err(self.0.broken()),
            Err(_) => Err(self.0.overdue(fetch.began.elapsed())),
        };
        match (outcome, old) {
            (Ok(models), _) => Ok(models),
            (Err(failure), Some(held)) => Ok(self.0.make_do(held, &failure)),
            (Err(failure), None) => Err(failure),
        }
    }

    /// Begins a fetch if there should be one and is none.
    fn now(&self) -> Now {
        let now = self.0.clock.now();
        // A time in the future is one before the clock was set back.
        let is_within = |time: SystemTime, span| now.duration_since(time).is_ok_and(|past| past < span);
        let mut state = self.0.state();
        match (&state.held, &state.failed) {
            (Some(held), _) if is_within(held.since, FRESH) => return Now::Fresh(held.models.clone()),
            (Some(held), Some((at, failure))) if is_within(*at, REST) => {
                return Now::Resting(held.clone(), failure.clone());
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
            let outcome = inner.ask().await;
            inner.settle(&outcome);
            sender.send_replace(Some(outcome));
        });
        Fetch { began: Instant::now(), outcome }
    }
}

impl Inner {
    async fn ask(&self) -> Outcome {
        let scope = Scope { subscription: &self.subscription, api_version: &self.api_version };
        let deployments: Vec<Deployment> = self.deployments.entries(scope).await?;
        let mut models: Vec<Callable> = deployments.into_iter().filter_map(Callable::of).collect();
        models.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(models.into())
    }

    fn settle(&self, outcome: &Outcome) {
        let since = self.clock.now();
        let mut state = self.state();
        match outcome {
            Ok(models) => {
                state.held = Some(Held { models: models.clone(), since });
                state.failed = None;
            }
            Err(failure) => state.failed = Some((since, failure.clone())),
        }
    }

    /// The old list; that it is old is told.
    fn make_do(&self, held: Held, failure: &Failure) -> Arc<[Callable]> {
        self.outages.record(held.since, &failure.to_string());
        held.models
    }

    fn overdue(&self, since: Duration) -> Failure {
        // It may have been under way for a while when this caller came.
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
