//! `GET /status/events`: the status and the last minutes, and then whatever changes, as server-sent events.
//!
//! One task looks what has changed, for all viewers, while there are any. A viewer that does not keep up misses some, and
//! then gets everything anew.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event, Sse};
use futures_util::stream;
use http::header::CACHE_CONTROL;
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::Readiness;
use super::report::Report;
use crate::error::ProxyError;
use crate::server::Expendable;
use crate::telemetry::history::SLOTS;
use crate::telemetry::history::reading::{Reading, SlotReading};

/// How many may watch.
const MOST_VIEWERS: usize = 32;
/// How often it is looked what has changed.
const PERIOD: Duration = Duration::from_secs(1);
/// After how long a browser comes back whose connection broke.
const RETRY: Duration = Duration::from_secs(2);
/// How long a viewer may take nothing: a slot begins every five seconds, so that there is always something to take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the last words may take, at the end.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How many events a viewer may be behind.
const MOST_BEHIND: usize = 16;
/// How many rows of usage are told; `/status` has all.
const MOST_ROWS: usize = 64;
/// The newest slot, and the one that was it when it was looked last.
const NEWEST: usize = 2;

/// What viewers are told.
#[derive(Debug)]
pub struct Events {
    readiness: Arc<Readiness>,
    places: Arc<Semaphore>,
    sender: broadcast::Sender<Event>,
    told: Mutex<Told>,
}

/// What all viewers know, since there are any.
#[derive(Debug, Default)]
struct Told {
    /// Whether the task runs that tells them.
    is_running: bool,
    /// The status but for the time.
    status: String,
    slots: Vec<SlotReading>,
    renamed: u64,
}

/// One who watches.
#[derive(Debug)]
struct Viewer {
    events: Arc<Events>,
    next: VecDeque<Event>,
    later: broadcast::Receiver<Event>,
    is_over: bool,
    /// How many events it has taken.
    taken: Arc<AtomicU64>,
    _place: OwnedSemaphorePermit,
}

/// The handler.
///
/// # Errors
///
/// [`ProxyError::TooManyViewers`].
pub async fn events(State(events): State<Arc<Events>>) -> Result<impl IntoResponse, ProxyError> {
    let place = events.places.clone().try_acquire_owned();
    let place = place.map_err(|_| ProxyError::TooManyViewers { most: MOST_VIEWERS })?;
    let viewer = Viewer::new(events, place);
    let expendable = Expendable::until(viewer.lost());
    Ok(([(CACHE_CONTROL, "no-store")], Extension(expendable), Sse::new(stream::unfold(viewer, Viewer::next))))
}

impl Events {
    /// Nobody watches yet.
    #[must_use]
    pub fn new(readiness: Arc<Readiness>) -> Self {
        let told = Told::default();
        Self {
            readiness,
            places: Arc::new(Semaphore::new(MOST_VIEWERS)),
            sender: broadcast::Sender::new(MOST_BEHIND),
            told: Mutex::new(told),
        }
    }

    /// Everything as it is now, and whatever changes later.
    fn join(self: &Arc<Self>) -> (VecDeque<Event>, broadcast::Receiver<Event>) {
        // Held until both are there, so that nothing is told between them.
        let mut told = self.told();
        let later = self.sender.subscribe();
        if !told.is_running {
            *told = self.now();
            tokio::spawn(self.clone().tell_changes());
        }
        let history = self.readiness.history.reading(SLOTS);
        (VecDeque::from([self.status(), event("history", &history)]), later)
    }

    async fn tell_changes(self: Arc<Self>) {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut told = self.told();
            if self.sender.receiver_count() == 0 {
                told.is_running = false;
                return;
            }
            for event in self.changes(&mut told) {
                // Whoever has just gone needs to know nothing.
                let _ = self.sender.send(event);
            }
        }
    }

    /// What has changed since the last time.
    fn changes(&self, told: &mut Told) -> Vec<Event> {
        let mut events = self.slots(told);
        let status = self.status_but_for_time();
        if status != told.status {
            told.status = status;
            events.push(self.status());
        }
        events
    }

    fn slots(&self, told: &mut Told) -> Vec<Event> {
        let Reading { slots, renamed, .. } = self.readiness.history.reading(NEWEST);
        let last = told.slots.last().map_or(0, |slot| slot.at);
        let follows = slots.first().is_some_and(|slot| slot.at <= last) && renamed == told.renamed;
        let is_news = |slot: &&SlotReading| slot.at >= last && !told.slots.contains(slot);
        let events = if follows {
            slots.iter().filter(is_news).map(|slot| event("slot", slot)).collect()
        } else {
            vec![event("history", &self.readiness.history.reading(SLOTS))]
        };
        (told.slots, told.renamed) = (slots, renamed);
        events
    }

    /// What the first viewer knows.
    fn now(&self) -> Told {
        let Reading { slots, renamed, .. } = self.readiness.history.reading(NEWEST);
        Told { is_running: true, status: self.status_but_for_time(), slots, renamed }
    }

    fn status(&self) -> Event {
        event("status", &self.report())
    }

    fn status_but_for_time(&self) -> String {
        json(&self.report().but_for_time())
    }

    /// What changes with every request must not be as long as there are apps and models.
    fn report(&self) -> Report {
        Report::of(&self.readiness).at_most(MOST_ROWS)
    }

    /// A panic elsewhere leaves nothing half done in here that matters.
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Viewer {
    fn new(events: Arc<Events>, place: OwnedSemaphorePermit) -> Self {
        let (mut next, later) = events.join();
        next.push_front(Event::default().retry(RETRY));
        Self { events, next, later, is_over: false, taken: Arc::default(), _place: place }
    }

    /// Completes once this viewer is none any more: it takes nothing, or the end has begun and it had its time.
    fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        let (lifecycle, taken) = (self.events.readiness.lifecycle.clone(), self.taken.clone());
        async move {
            tokio::select! {
                () = async {
                    lifecycle.ending().await;
                    sleep(LAST_WORDS).await;
                } => {}
                () = standstill(&taken, PATIENCE) => {}
            }
        }
    }

    /// The next event, until the end of the proxy begins.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        self.taken.fetch_add(1, Ordering::Relaxed);
        loop {
            if let Some(event) = self.next.pop_front() {
                return Some((Ok(event), self));
            }
            if self.is_over {
                return None;
            }
            let event = tokio::select! {
                biased;
                // Nothing else would end this: the last words, and the connection is free.
                () = self.events.readiness.lifecycle.ending() => {
                    self.is_over = true;
                    Ok(self.events.status())
                }
                event = self.later.recv() => event,
            };
            match event {
                Ok(event) => self.next.push_back(event),
                Err(RecvError::Lagged(_)) => (self.next, self.later) = self.events.join(),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// Completes once `count` has stayed what it is for `longest`, or longer.
async fn standstill(count: &AtomicU64, longest: Duration) {
    let mut before = None;
    loop {
        let now = count.load(Ordering::Relaxed);
        if before.replace(now) == Some(now) {
            return;
        }
        sleep(longest).await;
    }
}

fn event(name: &str, content: &impl Serialize) -> Event {
    Event::default().event(name).data(json(content))
}

fn json(content: &impl Serialize) -> String {
    #[expect(clippy::expect_used, reason = "names, texts and numbers: nothing that JSON cannot say")]
    serde_json::to_string(content).expect("JSON")
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::apps::Apps;
    use crate::clock::ManualClock;
    use crate::config::{Config, Overrides};
    use crate::identity::credential::Credentials;
    use crate::identity::tokens::TokenSlot;
    use crate::lifecycle::Lifecycle;
    use crate::telemetry::denials::PeerDenials;
    use crate::telemetry::history::History;
    use crate::telemetry::recorder::Recorder;
    use crate::telemetry::refusals::Refusals;
    use crate::{clock::Clock, tls};

    /// Of a proxy that is asked for nothing.
    fn events() -> Arc<Events> {
        let assignments = vec!["upstream.endpoint=http://127.0.0.1:9".to_owned()];
        let config = Config::isolated(&Overrides { assignments, ..Overrides::default() }).expect("a configuration");
        let clock = Arc::new(ManualClock::stopped());
        let credentials =
            Credentials::new(&config, tls::client(&[]).expect("TLS"), clock.clone()).expect("credentials");
        let tokens = Arc::new(TokenSlot::new(config.upstream.scope.clone(), credentials.source(), clock.clone()));
        Arc::new(Events::new(Arc::new(Readiness {
            tokens: tokens.clone(),
            management: tokens,
            apps: Arc::new(Apps::new(&config)),
            refusals: Arc::new(Refusals::new(clock.clone())),
            denials: Arc::new(PeerDenials::new(clock.clone())),
            recorder: Arc::new(Recorder::new(Vec::new(), clock.clone())),
            history: Arc::new(History::new(clock.clone())),
            began: clock.now(),
            lifecycle: Lifecycle::new(),
            clock,
            upstream: String::new(),
            credential: "none",
            lists_deployments: false,
            requires_key: false,
            ledger: None,
            started: Instant::now(),
        })))
    }

    fn viewer(events: &Arc<Events>) -> Viewer {
        let place = events.places.clone().try_acquire_owned().expect("a place");
        Viewer::new(events.clone(), place)
    }

    /// The names of so many events.
    async fn hear(mut viewer: Viewer, count: usize) -> (Vec<&'static str>, Viewer) {
        let mut heard = Vec::new();
        for _ in 0..count {
            let (Ok(event), next) = viewer.next().await.expect("an event");
            let text = format!("{event:?}");
            let names = ["event: status", "event: history", "event: test", "retry: "];
            heard.push(names.into_iter().find(|name| text.contains(name)).expect("a known event"));
            viewer = next;
        }
        (heard, viewer)
    }

    #[tokio::test]
    async fn whoever_does_not_keep_up_gets_everything_anew() {
        let events = events();
        let (slow, quick) = (viewer(&events), viewer(&events));
        let begin = ["retry: ", "event: status", "event: history"];
        let (heard, mut quick) = hear(quick, 3).await;
        assert_eq!(heard, begin);
        for _ in 0..10 * MOST_BEHIND {
            events.sender.send(event("test", &())).expect("viewers");
            (_, quick) = hear(quick, 1).await;
        }
        let (heard, slow) = hear(slow, 5).await;
        assert_eq!(heard, [&begin[..], &begin[1..]].concat());
        events.sender.send(event("test", &())).expect("viewers");
        assert_eq!(hear(slow, 1).await.0, ["event: test"], "and is told of what comes after");
        drop(quick);
    }

    #[tokio::test]
    async fn nothing_runs_while_nobody_watches() {
        let events = events();
        for _ in 0..2 {
            let viewers = [viewer(&events), viewer(&events)];
            assert!(events.told().is_running);
            assert_eq!(events.places.available_permits(), MOST_VIEWERS - 2);
            drop(viewers);
            assert_eq!(events.places.available_permits(), MOST_VIEWERS);
            while events.told().is_running {
                tokio::task::yield_now().await;
            }
            assert_eq!(Arc::strong_count(&events), 1, "nothing is left of the task");
        }
    }
}
