//! Apps that share one identity: which of them calls, what it may use, and what it has used.

pub mod allowance;
pub mod models;
pub mod places;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderMap, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderName, HeaderValue};
use tokio::time::Instant;

use crate::config::{self, Config, KeyDigest};
use crate::error::ProxyError;
use crate::workers::{PerWorker, Shared};

use allowance::Allowance;
use models::Models;
use places::{Full, Place, Places};

/// Where the clients of Azure OpenAI put a key.
const API_KEY: HeaderName = HeaderName::from_static("api-key");
/// Browsers cannot set fields on a WebSocket, so OpenAI takes a key as the end of a subprotocol that begins so.
pub const KEY_PROTOCOL: &str = "openai-insecure-api-key.";
/// How many keys of one request are looked at: clients present one, or the same in two places.
const MOST_PRESENTED: usize = 4;
/// How callers are called that no app is known of.
pub const OTHERS: &str = "-";

/// All apps, and the room that they share.
#[derive(Debug)]
pub struct Apps {
    known: Vec<Shared<App>>,
    /// Whoever is none of these.
    others: Shared<App>,
    require_key: bool,
    places: Shared<Places>,
    most: usize,
}

/// One app.
#[derive(Debug)]
pub struct App {
    name: String,
    /// Its number among those that share the room.
    index: usize,
    key: Option<KeyDigest>,
    models: Option<Models>,
    requests: Option<Limit>,
    tokens: Option<Limit>,
    /// What it has used so far.
    pub used: Used,
}

/// What an app has used since the start.
#[derive(Debug, Default)]
pub struct Used(PerWorker<Counted>);

/// As one worker has counted.
#[derive(Debug, Default)]
struct Counted {
    requests: AtomicU64,
    refused: AtomicU64,
    tokens: AtomicU64,
}

#[derive(Debug)]
struct Limit {
    most: u64,
    allowance: Allowance,
}

impl Apps {
    /// As configured; nothing is used yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let now = Instant::now();
        let known: Vec<_> =
            config.apps.iter().enumerate().map(|(at, app)| Shared::new(App::new(at, app, now))).collect();
        if !config.access.require_key {
            for app in known.iter().filter(|app| app.is_limited()) {
                let app = &app.name;
                tracing::warn!(
                    app,
                    "its limits bind only who presents its key or name: access.require_key is false, and whoever presents none has none"
                );
            }
        }
        let most = config.limits.max_in_flight;
        // Whoever is unknown has a share like each app, unless only keys are let in.
        let shares = known.len() + usize::from(!config.access.require_key);
        let places = Shared::new(Places::new(most, shares, now));
        let others = Shared::new(App::others(known.len()));
        Self { known, others, require_key: config.access.require_key, places, most }
    }

    /// Which app a request with these fields is of. An app with a key is known by that alone; one without, by its name in
    /// place of a key.
    #[must_use]
    pub fn identify(&self, fields: &HeaderMap) -> &Shared<App> {
        if self.known.is_empty() {
            return &self.others;
        }
        presented(fields).take(MOST_PRESENTED).find_map(|key| self.holder(key)).unwrap_or(&self.others)
    }

    /// Whose key or name this is. All keys are compared, so that the time tells nothing of which it was.
    fn holder(&self, presented: &[u8]) -> Option<&Shared<App>> {
        let digest = KeyDigest::of(presented);
        let mut holder = None;
        for app in &self.known {
            let is_holder = match &app.key {
                Some(key) => key.matches(&digest).into(),
                None => app.name.as_bytes() == presented,
            };
            if is_holder {
                holder = Some(app);
            }
        }
        holder
    }

    /// Lets a request of `app` in, to where the identity is lent: for as long as the place is held.
    ///
    /// # Errors
    ///
    /// [`ProxyError::InvalidKey`], [`ProxyError::RateLimited`] or [`ProxyError::Overloaded`].
    pub fn admit(&self, app: &App, now: Instant) -> Result<Place, ProxyError> {
        self.check_key(app)?;
        app.used.0.own().requests.fetch_add(1, Ordering::Relaxed);
        // First: whoever has used up what is its own does not compete for what is everybody's.
        app.has_left(now)?;
        let place = Places::take(&self.places, app.index, now).map_err(|full| match full {
            Full::All => ProxyError::Overloaded { most: self.most, share: None },
            Full::Share(share) => ProxyError::Overloaded { most: self.most, share: Some(share) },
        });
        let place = place?;
        app.take(now)?;
        Ok(place)
    }

    /// Whether a caller that is known as `app` needs a key that it has not shown.
    ///
    /// # Errors
    ///
    /// [`ProxyError::InvalidKey`].
    pub fn check_key(&self, app: &App) -> Result<(), ProxyError> {
        if self.require_key && app.key.is_none() { Err(ProxyError::InvalidKey) } else { Ok(()) }
    }

    /// The known ones, and behind them whoever is none of these.
    pub fn all(&self) -> impl Iterator<Item = &App> {
        self.known.iter().chain([&self.others]).map(|app| &**app)
    }
}

impl Used {
    /// Requests that went to Azure, or would have.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.sum(|counted| &counted.requests)
    }

    /// Of these, the ones that were refused because of the app's limits, its models, or for want of room.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.sum(|counted| &counted.refused)
    }

    /// Tokens that its requests have cost, as far as they were counted.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.sum(|counted| &counted.tokens)
    }

    fn sum(&self, which: impl Fn(&Counted) -> &AtomicU64) -> u64 {
        self.0.all().map(|counted| which(counted).load(Ordering::Relaxed)).sum()
    }
}

impl App {
    fn new(index: usize, config: &config::App, now: Instant) -> Self {
        let limit = |most: u64| Limit { most, allowance: Allowance::new(most, now) };
        Self {
            name: config.name.as_str().to_owned(),
            index,
            key: config.key,
            models: config.models.clone().map(Models::new),
            requests: config.requests_per_minute.map(|most| limit(u64::from(most.get()))),
            tokens: config.tokens_per_minute.map(|most| limit(most.get())),
            used: Used::default(),
        }
    }

    fn others(index: usize) -> Self {
        Self {
            name: OTHERS.to_owned(),
            index,
            key: None,
            models: None,
            requests: None,
            tokens: None,
            used: Used::default(),
        }
    }

    /// Its name; `-` for whoever is no known app.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number: in one process, no other app has it.
    #[must_use]
    pub fn number(&self) -> usize {
        self.index
    }

    /// Whether this is a bearer with its key.
    #[must_use]
    pub fn has_key(&self, authorization: &HeaderValue) -> bool {
        let presented = bearer(authorization).map(KeyDigest::of);
        matches!((&self.key, presented), (Some(key), Some(presented)) if bool::from(key.matches(&presented)))
    }

    /// What it may ask for, if that is not everything.
    #[must_use]
    pub fn models(&self) -> Option<&Models> {
        self.models.as_ref()
    }

    /// Whether it matters how many tokens its requests cost.
    #[must_use]
    pub fn counts_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// Its requests have cost so many tokens.
    pub fn spent(&self, tokens: u64) {
        if tokens == 0 {
            return;
        }
        self.used.0.own().tokens.fetch_add(tokens, Ordering::Relaxed);
        if let Some(limit) = &self.tokens {
            limit.allowance.used(tokens, Instant::now());
        }
    }

    /// A request of its was refused: counted if that is because of what it may use.
    pub fn refused(&self, error: &ProxyError) {
        let is_its_own = matches!(
            error,
            ProxyError::ModelDenied { .. } | ProxyError::RateLimited { .. } | ProxyError::Overloaded { .. }
        );
        if is_its_own {
            self.used.0.own().refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn is_limited(&self) -> bool {
        self.models.is_some() || self.requests.is_some() || self.tokens.is_some()
    }

    /// Whether something is left of its limits; nothing is taken.
    fn has_left(&self, now: Instant) -> Result<(), ProxyError> {
        if let Some(tokens) = &self.tokens {
            tokens
                .allowance
                .is_left(now)
                .map_err(|wait| self.over("tokens", "tokens_per_minute", tokens.most, wait))?;
        }
        if let Some(requests) = &self.requests {
            requests.allowance.is_left(now).map_err(|wait| self.over_requests(requests, wait))?;
        }
        Ok(())
    }

    /// Takes one request from its limits; others may have taken the last one meanwhile.
    fn take(&self, now: Instant) -> Result<(), ProxyError> {
        let Some(requests) = &self.requests else { return Ok(()) };
        requests.allowance.take(now).map_err(|wait| self.over_requests(requests, wait))
    }

    fn over_requests(&self, requests: &Limit, wait: Duration) -> ProxyError {
        self.over("requests", "requests_per_minute", requests.most, wait)
    }

    fn over(&self, limit: &'static str, key: &'static str, most: u64, wait: Duration) -> ProxyError {
        // Whole seconds, and never less than it takes.
        let retry_after = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        ProxyError::RateLimited { app: self.name.clone(), limit, key, most, retry_after }
    }
}

/// What a caller presents as a key, wherever clients put one.
fn presented(fields: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let bearers = fields.get_all(AUTHORIZATION).iter().filter_map(bearer);
    let keys = fields.get_all(API_KEY).iter().map(HeaderValue::as_bytes);
    let offered =
        fields.get_all(SEC_WEBSOCKET_PROTOCOL).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let protocols = offered.filter_map(|protocol| {
        let (prefix, key) = protocol.trim_ascii().split_at_checked(KEY_PROTOCOL.len())?;
        prefix.eq_ignore_ascii_case(KEY_PROTOCOL.as_bytes()).then_some(key)
    });
    bearers.chain(keys).chain(protocols)
}

/// What stands behind `Bearer` (RFC 6750 §2.1); the scheme in any case (RFC 9110 §11.1).
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, key) = value.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    fn apps(settings: &[&str]) -> Apps {
        let settings = [&["upstream.endpoint=http://127.0.0.1:9", "access.require_key=true"], settings].concat();
        let assignments = settings.into_iter().map(str::to_owned).collect();
        Apps::new(&Config::isolated(&Overrides { assignments, ..Overrides::default() }).expect("a configuration"))
    }

    fn code<T>(result: Result<T, ProxyError>) -> &'static str {
        result.map_or_else(|error| error.code(), |_| "admitted")
    }

    #[test]
    fn whoever_has_nothing_left_does_not_compete_for_room() {
        let apps = apps(&[
            "limits.max_in_flight=32",
            "apps.busy.key=busy",
            "apps.over.key=over",
            "apps.over.requests_per_minute=1",
        ]);
        let [busy, over] = &apps.known[..] else { panic!("two apps") };
        let begin = Instant::now();
        assert_eq!(code(apps.admit(over, begin)), "admitted");
        // Longer ago than it competes for, and it has asked ever since.
        let held = (0..).map_while(|second| {
            let now = begin + Duration::from_secs(20) + Duration::from_millis(second);
            assert_eq!(code(apps.admit(over, now)), "rate_limited");
            apps.admit(busy, now).ok()
        });
        assert_eq!(held.collect::<Vec<_>>().len(), 30, "all but what is kept for newcomers");
    }

    #[test]
    fn a_request_without_a_place_is_not_taken_from_the_limit() {
        let apps = apps(&["limits.max_in_flight=1", "apps.a.key=a", "apps.a.requests_per_minute=2"]);
        let (a, now) = (&apps.known[0], Instant::now());
        let place = apps.admit(a, now).expect("a place");
        for _ in 0..5 {
            assert_eq!(code(apps.admit(a, now)), "overloaded");
        }
        drop(place);
        assert_eq!([code(apps.admit(a, now)), code(apps.admit(a, now))], ["admitted", "rate_limited"]);
    }
}
