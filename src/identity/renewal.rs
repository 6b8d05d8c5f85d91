//! One scope's background task: fetches a token, rests until the wall clock says that it is time again, and so on.

use std::mem;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::schedule::{MOST_FORCED, may_force, renew_at, rests, retry_at, soonest, usable};
use super::tokens::Token;
use super::{Cause, CredentialError, TokenSource};
use crate::clock::SharedClock;
use crate::config::Scope;
use crate::workers::PerWorker;

/// How often the task looks at the clock besides waiting for it.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// An attempt failed.
#[derive(Debug)]
pub struct Failure {
    /// Why.
    pub error: CredentialError,
    /// When.
    pub at: SystemTime,
    /// When the next attempt is due.
    pub retry_at: SystemTime,
    /// When what the credential reads was touched last, as it was known then.
    touched: Option<SystemTime>,
}

impl Failure {
    /// Whole seconds until the next attempt, at least 1: a `Retry-After`.
    #[must_use]
    pub fn retry_after(&self, now: SystemTime) -> u64 {
        let longest = self.retry_at.duration_since(self.at).unwrap_or_default();
        self.retry_at.duration_since(now).map_or(1, |left| left.min(longest).as_secs() + 1)
    }

    /// Whether no attempt is due yet.
    pub(super) fn rests(&self, now: SystemTime) -> bool {
        rests(now, self.at, self.retry_at)
    }
}

/// What has happened to one scope's token so far.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// How many tokens have been got.
    pub renewals: u64,
    /// How many attempts have failed.
    pub failures: u64,
    /// How many of them since the last token.
    pub failures_in_a_row: u32,
    /// When the last token was got.
    pub renewed_at: Option<SystemTime>,
    /// When the next attempt is due.
    pub next_at: Option<SystemTime>,
    /// The last failure, also if a token has come since.
    pub last_failure: Option<Arc<Failure>>,
    /// When renewals were made because the resource refused a token, as far back as it matters.
    forced: Vec<SystemTime>,
}

/// What the last attempt came to.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    None,
    Token,
    Failed(Arc<Failure>),
}

/// What the task and those who wait for it share.
pub(super) struct Renewal {
    pub(super) scope: Scope,
    pub(super) source: Arc<dyn TokenSource>,
    pub(super) clock: SharedClock,
    pub(super) outcome: watch::Sender<Outcome>,
    /// Asks the task to look whether an attempt is due, no more: it decides.
    pub(super) look: Notify,
    current: ArcSwapOption<PerWorker<Arc<Token>>>,
    /// The resource has refused the token held.
    wanted: AtomicBool,
    account: Mutex<Account>,
}

impl Renewal {
    pub(super) fn new(scope: Scope, source: Arc<dyn TokenSource>, clock: SharedClock) -> Self {
        Self {
            scope,
            source,
            clock,
            outcome: watch::Sender::new(Outcome::None),
            look: Notify::new(),
            current: ArcSwapOption::empty(),
            wanted: AtomicBool::new(false),
            account: Mutex::default(),
        }
    }

    pub(super) fn held(&self) -> Option<Arc<Token>> {
        let held = self.current.load();
        let token = held.as_ref()?.own();
        usable(token.expires_at, self.clock.now()).then(|| token.clone())
    }

    /// The end of the last token, also if that has come.
    pub(super) fn expires_at(&self) -> Option<SystemTime> {
        self.current.load().as_ref().map(|token| token.own().expires_at)
    }

    /// The token held, if it is not the one that was refused.
    pub(super) fn other_than(&self, refused: &Token) -> Option<Arc<Token>> {
        self.held().filter(|token| token.authorization != refused.authorization)
    }

    /// Asks for an early renewal. Whether one is on its way, or done.
    pub(super) fn want_another_than(&self, refused: &Token) -> bool {
        let now = self.clock.now();
        let resting = self.failure().is_some_and(|failure| failure.rests(now) && !self.is_mended(&failure));
        let mut account = self.open();
        if self.wanted.load(Ordering::Acquire) || self.other_than(refused).is_some() {
            return true;
        }
        // Not whether the refused one was taken once: requests that left with it may come back late.
        let accepted = self.held().is_some_and(|held| held.is_accepted());
        if resting || !may_force(now, accepted, &account.forced) {
            return false;
        }
        account.forced.push(now);
        let past = account.forced.len().saturating_sub(MOST_FORCED);
        account.forced.drain(..past);
        self.wanted.store(true, Ordering::Release);
        drop(account);
        tracing::info!(scope = %self.scope, "the resource refused the token: renewing it before its time");
        self.look.notify_one();
        true
    }

    /// The last attempt's failure, if it failed.
    pub(super) fn failure(&self) -> Option<Arc<Failure>> {
        match &*self.outcome.borrow() {
            Outcome::Failed(failure) => Some(failure.clone()),
            Outcome::None | Outcome::Token => None,
        }
    }

    /// Whether what only a person can mend may have been mended since.
    pub(super) fn is_mended(&self, failure: &Failure) -> bool {
        failure.error.needs_a_person() && self.source.touched() != failure.touched
    }

    pub(super) fn overdue(&self, patience: Duration) -> Arc<Failure> {
        let error = CredentialError::new(self.source.name(), Cause::Overdue(patience));
        let now = self.clock.now();
        Arc::new(Failure { error, at: now, retry_at: now, touched: None })
    }

    pub(super) fn account(&self) -> Account {
        self.open().clone()
    }

    /// Fetches, rests, and so on for ever.
    pub(super) async fn keep_fresh(self: Arc<Self>) {
        loop {
            match self.fetch().await {
                Ok(token) => self.keep(token),
                Err(error) => self.record(error),
            }
            self.rest().await;
        }
    }

    async fn fetch(&self) -> Result<PerWorker<Arc<Token>>, CredentialError> {
        let deadline = self.source.deadline();
        // A panic in a credential's code must not end renewal for good.
        let fetch = AssertUnwindSafe(self.source.fetch(&self.scope)).catch_unwind();
        let failed = |cause| CredentialError::new(self.source.name(), cause);
        let token = match timeout(deadline, fetch).await {
            Ok(Ok(fetched)) => fetched?,
            Ok(Err(_)) => return Err(failed(Cause::Panicked)),
            Err(_) => return Err(failed(Cause::Overdue(deadline))),
        };
        let token = Token::new(&token, self.clock.now()).map_err(failed)?;
        PerWorker::try_new(|| token.copy().map(Arc::new)).map_err(failed)
    }

    fn keep(&self, copies: PerWorker<Arc<Token>>) {
        let now = self.clock.now();
        let token = copies.own().clone();
        let next = renew_at(now, token.expires_at, fastrand::f64());
        let mut account = self.open();
        let failures = mem::take(&mut account.failures_in_a_row);
        account.renewals += 1;
        account.renewed_at = Some(now);
        account.next_at = Some(next);
        self.current.store(Some(Arc::new(copies)));
        self.wanted.store(false, Ordering::Release);
        // A line is formatted by whoever writes it, and others look at the account meanwhile.
        drop(account);
        tracing::info!(
            scope = %self.scope,
            credential = self.source.name(),
            principal = token.claims.object_id.as_deref().unwrap_or("-"),
            tenant = token.claims.tenant.as_deref().unwrap_or("-"),
            expires_in_s = token.expires_at.duration_since(now).map_or(0, |left| left.as_secs()),
            after_failures = (failures > 0).then_some(failures),
            "token acquired",
        );
        self.outcome.send_replace(Outcome::Token);
    }

    fn record(&self, error: CredentialError) {
        let now = self.clock.now();
        // What the attempt itself has touched is no news.
        let touched = self.source.touched();
        let mut account = self.open();
        account.failures += 1;
        account.failures_in_a_row += 1;
        let failures = account.failures_in_a_row;
        let next = retry_at(now, error.pace(failures), error.retry_after(), fastrand::f64());
        let known = account.last_failure.as_ref().is_some_and(|last| failures > 1 && last.error.is_like(&error));
        let failure = Arc::new(Failure { error, at: now, retry_at: next, touched });
        account.next_at = Some(next);
        account.last_failure = Some(failure.clone());
        self.wanted.store(false, Ordering::Release);
        drop(account);
        self.tell(&failure, failures, known);
        self.outcome.send_replace(Outcome::Failed(failure));
    }

    /// What is known already is told to those alone who want to know everything.
    fn tell(&self, failure: &Failure, failures: u32, known: bool) {
        let error = &failure.error;
        let retry_in_s = failure.retry_at.duration_since(failure.at).map_or(0, |wait| wait.as_secs());
        if known {
            tracing::debug!(scope = %self.scope, %error, failures, retry_in_s, "still no token");
        } else {
            let to_mend_it = error.advice().unwrap_or("-");
            tracing::warn!(scope = %self.scope, %error, to_mend_it, failures, retry_in_s, "no token");
        }
    }

    /// Until the next attempt is due: by the clock, because the resource refused the token, or because what only a
    /// person could mend may be mended.
    async fn rest(&self) {
        let began = self.clock.now();
        let next = self.open().next_at.unwrap_or(began);
        let failure = self.failure();
        loop {
            let now = self.clock.now();
            let mended = failure.as_ref().filter(|failure| self.is_mended(failure)).map(|failure| soonest(failure.at));
            let next = mended.map_or(next, |soonest| next.min(soonest));
            if !rests(now, began, next) || self.wanted.load(Ordering::Acquire) {
                return;
            }
            tokio::select! {
                () = self.clock.wait_until(next) => {}
                () = self.look.notified() => {}
                // The clock may have been set back.
                () = sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// A panic elsewhere leaves nothing half done in here.
    fn open(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
