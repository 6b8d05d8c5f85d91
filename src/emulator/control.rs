//! The control interface: faults, roles, tokens, and what happened.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::fault::{Action, Fault, Faults};
use super::journal::{Journal, Recorded, State};
use super::limits::{Limits, UnderWay};
use super::lock::Lock;
use super::route::Route;
use super::tokens::Tokens;

/// Makes the emulator misbehave, and tells what happened.
///
/// The same can be done over HTTP; see [`control_http`](super::control_http).
#[derive(Debug)]
pub struct Control {
    pub(super) tokens: Tokens,
    pub(super) journal: Journal,
    limits: Limits,
    faults: Faults,
    releases: watch::Sender<u64>,
    role: AtomicBool,
    management_role: AtomicBool,
    secret_expired: AtomicBool,
    evil_next_link: Lock<Option<String>>,
}

impl Control {
    pub(super) fn new(tokens: Tokens) -> Self {
        Self {
            tokens,
            journal: Journal::default(),
            limits: Limits::default(),
            faults: Faults::default(),
            releases: watch::Sender::new(0),
            role: AtomicBool::new(true),
            management_role: AtomicBool::new(true),
            secret_expired: AtomicBool::new(false),
            evil_next_link: Lock::default(),
        }
    }

    /// Lets requests meet `fault` from now on.
    pub fn fault(&self, fault: Fault) {
        self.faults.add(fault);
    }

    /// Forgets all faults. What they have done to earlier requests stays done.
    pub fn clear_faults(&self) {
        self.faults.clear();
    }

    /// Lets streams go on that [`Action::Hold`] holds back now.
    pub fn release(&self) {
        self.releases.send_modify(|releases| *releases += 1);
    }

    /// Refuses from now on every token that has been issued so far, the way an expired one is refused.
    ///
    /// Managed identity goes on handing out the tokens it keeps, as Azure's does, unless `flush` makes it forget them.
    pub fn revoke_tokens(&self, flush: bool) {
        self.tokens.revoke();
        if flush {
            self.tokens.forget();
        }
    }

    /// Whether managed identity keeps tokens and hands them out again, as Azure's does.
    pub fn set_metadata_cache(&self, on: bool) {
        self.tokens.set_keeping(on);
    }

    /// Gives the principals their role on the account, or takes it away.
    pub fn set_role(&self, present: bool) {
        self.role.store(present, Ordering::Relaxed);
    }

    /// Gives the principals their role on the subscription, or takes it away.
    pub fn set_management_role(&self, present: bool) {
        self.management_role.store(present, Ordering::Relaxed);
    }

    /// Lets the application's client secret expire, or makes it good again.
    pub fn expire_client_secret(&self, expired: bool) {
        self.secret_expired.store(expired, Ordering::Relaxed);
    }

    /// The most token requests that IMDS had under way at once since requests were last cleared.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.state().imds_most_at_once
    }

    /// How long tokens live that are issued from now on; Entra's token endpoint never gives more than 3599 seconds.
    pub fn set_token_lifetime(&self, lifetime: Duration) {
        self.tokens.set_lifetime(lifetime);
    }

    /// Makes the `nextLink` of ARM's lists point to this origin (such as `https://evil.example`) instead of ARM.
    pub fn set_evil_next_link(&self, origin: Option<String>) {
        *self.evil_next_link.open() = origin;
    }

    /// The requests that came, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.journal.requests()
    }

    /// Forgets the requests that came, their counts, and how many IMDS had at once.
    pub fn clear_requests(&self) {
        self.journal.clear_requests(self.limits.at_once());
    }

    /// How many requests came on `route`; for [`Route::OpenAi`], on the whole data plane.
    #[must_use]
    pub fn count(&self, route: Route) -> u64 {
        self.state().count(route)
    }

    /// What has happened so far.
    #[must_use]
    pub fn state(&self) -> State {
        self.journal.state()
    }

    /// Waits until what has happened satisfies `predicate`, and returns it.
    pub async fn until(&self, predicate: impl FnMut(&State) -> bool) -> State {
        self.journal.until(predicate).await
    }

    /// Lets a request into IMDS, unless there are too many.
    pub(super) fn enter_imds(&self) -> Option<UnderWay> {
        let under_way = self.limits.enter()?;
        self.journal.change(|state| state.imds_most_at_once = state.imds_most_at_once.max(under_way.at_once()));
        Some(under_way)
    }

    pub(super) fn next_fault(&self, route: Route) -> Option<Action> {
        self.faults.next(route)
    }

    /// Changes with each release.
    pub(super) fn releases(&self) -> watch::Receiver<u64> {
        self.releases.subscribe()
    }

    pub(super) fn has_role(&self) -> bool {
        self.role.load(Ordering::Relaxed)
    }

    pub(super) fn is_secret_expired(&self) -> bool {
        self.secret_expired.load(Ordering::Relaxed)
    }

    pub(super) fn has_management_role(&self) -> bool {
        self.management_role.load(Ordering::Relaxed)
    }

    pub(super) fn evil_next_link(&self) -> Option<String> {
        self.evil_next_link.open().clone()
    }
}
