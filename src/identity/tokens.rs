//! The token store: one token a scope, shared by everyone, renewed in the background.
//!
//! While a usable token is held, a request costs one atomic load and waits for nothing. One task a scope does all the
//! fetching, so any crowd of waiters causes one fetch and shares its outcome.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Once};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use http::HeaderValue;
use secrecy::ExposeSecret;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::claims::Claims;
use super::schedule::{renew_at, retry_at, usable};
use super::{AccessToken, CredentialError, TokenSource};
use crate::clock::SharedClock;
use crate::config::Scope;
use crate::error::ProxyError;

/// How long a request waits for an attempt that follows a failed one.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// A token that is held.
#[derive(Debug)]
pub struct Token {
    /// `Bearer …`, marked sensitive, ready to be sent.
    pub authorization: HeaderValue,
    /// When the resource stops taking it.
    pub expires_at: SystemTime,
    /// Who it says we are.
    pub claims: Claims,
}

/// The last attempt failed.
#[derive(Debug)]
pub struct Failure {
    /// Why.
    pub error: CredentialError,
    /// When the next attempt is due.
    pub retry_at: SystemTime,
}

impl Failure {
    /// Whole seconds until the next attempt, at least 1: a `Retry-After`.
    #[must_use]
    pub fn retry_after(&self, now: SystemTime) -> u64 {
        self.retry_at.duration_since(now).map_or(1, |left| left.as_secs() + 1)
    }
}

/// What the last attempt came to.
#[derive(Debug, Clone)]
enum Outcome {
    None,
    Token,
    Failed(Arc<Failure>),
}

/// The token of one scope.
pub struct TokenSlot {
    inner: Arc<Inner>,
    start: Once,
    task: std::sync::OnceLock<AbortHandle>,
}

struct Inner {
    scope: Scope,
    source: Arc<dyn TokenSource>,
    clock: SharedClock,
    current: ArcSwapOption<Token>,
    outcome: watch::Sender<Outcome>,
    look: Notify,
}

impl TokenSlot {
    /// A slot that holds nothing yet and fetches nothing until [`TokenSlot::start`] or the first request.
    #[must_use]
    pub fn new(scope: Scope, source: Arc<dyn TokenSource>, clock: SharedClock) -> Self {
        let inner = Inner {
            scope,
            source,
            clock,
            current: ArcSwapOption::empty(),
            outcome: watch::Sender::new(Outcome::None),
            look: Notify::new(),
        };
        Self { inner: Arc::new(inner), start: Once::new(), task: std::sync::OnceLock::new() }
    }

    /// Begins to fetch and renew. Must be called inside a Tokio runtime; calling it again does nothing.
    pub fn start(&self) {
        self.start.call_once(|| {
            let task = tokio::spawn(Inner::keep_fresh(self.inner.clone()));
            // `call_once` runs once, so the cell is empty.
            let _ = self.task.set(task.abort_handle());
        });
    }

    /// The token held, if it may be sent now: the hot path.
    #[must_use]
    pub fn held(&self) -> Option<Arc<Token>> {
        self.inner.held()
    }

    /// The token, fetched first if none is held.
    ///
    /// # Errors
    ///
    /// The failure that everyone waiting shares: at once while a failed attempt rests, within a second of one that
    /// follows a failure, within the credential's deadline of the first.
    pub async fn token(&self) -> Result<Arc<Token>, Arc<Failure>> {
        match self.inner.held() {
            Some(token) => Ok(token),
            None => self.wait().await,
        }
    }

    /// The `Authorization` to send, or the answer for a request that cannot have it.
    ///
    /// # Errors
    ///
    /// [`ProxyError::CredentialUnavailable`], as soon as [`TokenSlot::token`] fails.
    pub async fn authorization(&self) -> Result<HeaderValue, ProxyError> {
        let token = self.token().await.map_err(|failure| ProxyError::CredentialUnavailable {
            problem: failure.error.to_string(),
            retry_after: failure.retry_after(self.inner.clock.now()),
        })?;
        Ok(token.authorization.clone())
    }

    /// Why no token is held, if the last attempt failed.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<Failure>> {
        match &*self.inner.outcome.borrow() {
            Outcome::Failed(failure) => Some(failure.clone()),
            Outcome::None | Outcome::Token => None,
        }
    }

    #[cold]
    async fn wait(&self) -> Result<Arc<Token>, Arc<Failure>> {
        self.start();
        let inner = &self.inner;
        let mut outcome = inner.outcome.subscribe();
        let before = outcome.borrow_and_update().clone();
        let patience = match &before {
            Outcome::Failed(failure) if inner.clock.now() < failure.retry_at => return Err(failure.clone()),
            Outcome::Failed(_) => AFTER_FAILURE,
            // The task answers within the deadline; a little more, so that its answer is what the caller reads.
            Outcome::None | Outcome::Token => inner.source.deadline() + AFTER_FAILURE,
        };
        inner.look.notify_one();
        let answer = timeout(patience, async {
            loop {
                if let Some(token) = inner.held() {
                    return Ok(token);
                }
                if outcome.changed().await.is_err() {
                    // Unreachable while `inner`, which owns the sender, is alive.
                    return Err(inner.overdue(patience));
                }
                if let Outcome::Failed(failure) = &*outcome.borrow_and_update() {
                    return Err(failure.clone());
                }
            }
        });
        match (answer.await, before) {
            (Ok(answer), _) => answer,
            (Err(_), Outcome::Failed(failure)) => Err(failure),
            (Err(_), Outcome::None | Outcome::Token) => Err(inner.overdue(patience)),
        }
    }
}

impl Inner {
    fn held(&self) -> Option<Arc<Token>> {
        let held = self.current.load();
        let token = held.as_ref()?;
        usable(token.expires_at, self.clock.now()).then(|| token.clone())
    }

    fn overdue(&self, patience: Duration) -> Arc<Failure> {
        Arc::new(Failure { error: CredentialError::Overdue(patience), retry_at: self.clock.now() })
    }

    /// Fetches, waits until the wall clock says that it is time again, and so on for ever.
    async fn keep_fresh(self: Arc<Self>) {
        let mut failures = 0;
        loop {
            let deadline = self.source.deadline();
            // A panic in a credential's code must not end renewal for good.
            let fetch = AssertUnwindSafe(self.source.fetch(&self.scope)).catch_unwind();
            let fetched = match timeout(deadline, fetch).await {
                Ok(Ok(fetched)) => fetched,
                Ok(Err(_)) => Err(CredentialError::Panicked),
                Err(_) => Err(CredentialError::Overdue(deadline)),
            };
            let next = match fetched.and_then(|token| Token::new(&token, self.clock.now())) {
                Ok(token) => {
                    failures = 0;
                    self.keep(token)
                }
                Err(error) => {
                    failures += 1;
                    self.record(error, failures)
                }
            };
            // Who wants a token may ask to look at the clock again, no more: only the clock decides.
            while self.clock.now() < next {
                tokio::select! {
                    () = self.clock.wait_until(next) => {}
                    () = self.look.notified() => {}
                }
            }
        }
    }

    fn keep(&self, token: Token) -> SystemTime {
        let now = self.clock.now();
        let next = renew_at(now, token.expires_at, fastrand::f64());
        tracing::info!(
            scope = %self.scope,
            principal = token.claims.object_id.as_deref().unwrap_or("-"),
            tenant = token.claims.tenant.as_deref().unwrap_or("-"),
            expires_in_s = token.expires_at.duration_since(now).map_or(0, |left| left.as_secs()),
            "token acquired",
        );
        self.current.store(Some(Arc::new(token)));
        self.outcome.send_replace(Outcome::Token);
        next
    }

    fn record(&self, error: CredentialError, failures: u32) -> SystemTime {
        let now = self.clock.now();
        let next = retry_at(now, failures, error.retry_after(), fastrand::f64());
        let retry_in_s = next.duration_since(now).map_or(0, |wait| wait.as_secs());
        tracing::warn!(scope = %self.scope, %error, failures, retry_in_s, "no token");
        self.outcome.send_replace(Outcome::Failed(Arc::new(Failure { error, retry_at: next })));
        next
    }
}

impl Token {
    fn new(token: &AccessToken, now: SystemTime) -> Result<Self, CredentialError> {
        if !usable(token.expires_at, now) {
            return Err(CredentialError::Expired);
        }
        let secret = token.secret.expose_secret();
        if secret.is_empty() {
            return Err(CredentialError::Credential("the token given is empty".to_owned()));
        }
        let mut authorization =
            HeaderValue::try_from(format!("Bearer {secret}")).map_err(|_| CredentialError::Unsendable)?;
        authorization.set_sensitive(true);
        Ok(Self { authorization, expires_at: token.expires_at, claims: Claims::read(secret) })
    }
}

impl Drop for TokenSlot {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

impl fmt::Debug for TokenSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSlot").field("scope", &self.inner.scope).finish_non_exhaustive()
    }
}
