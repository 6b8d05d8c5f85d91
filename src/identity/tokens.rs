//! The token store: one token a scope, shared by everyone, renewed in the background.
//!
//! While a usable token is held, a request costs one atomic load and waits for nothing. One task a scope does all the
//! fetching (`renewal.rs`), so any crowd of waiters causes one fetch and shares its outcome.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderValue;
use secrecy::ExposeSecret;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::claims::Claims;
use super::renewal::{Outcome, Renewal};
use super::schedule::{overslept, usable};
use super::{AccessToken, Cause, TokenSource};
use crate::clock::SharedClock;
use crate::config::Scope;
use crate::error::ProxyError;
use crate::workers::Apart;

pub use super::renewal::{Account, Failure};

/// How long a request waits for an attempt that follows a failed one.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// A token that is held: a worker's copy of it, of which none counts in another's lines of the cache who holds it.
#[derive(Debug)]
#[repr(align(128))]
pub struct Token {
    /// `Bearer …`, marked sensitive, ready to be sent. Its bytes are wiped when the last request with it is over.
    pub authorization: HeaderValue,
    /// When the resource stops taking it.
    pub expires_at: SystemTime,
    /// Who it says we are.
    pub claims: Arc<Claims>,
    accepted: Arc<AtomicBool>,
}

impl Token {
    /// Makes a token ready to be sent.
    pub(super) fn new(token: &AccessToken, now: SystemTime) -> Result<Self, Cause> {
        if !usable(token.expires_at, now) {
            return Err(Cause::Expired);
        }
        let secret = token.secret.expose_secret();
        if secret.is_empty() {
            return Err(Cause::Unsendable);
        }
        let authorization = sensitive(&[b"Bearer ", secret.as_bytes()])?;
        let claims = Arc::new(Claims::read(secret));
        Ok(Self { authorization, expires_at: token.expires_at, claims, accepted: Arc::default() })
    }

    /// The same token for another worker.
    pub(super) fn copy(&self) -> Result<Self, Cause> {
        let authorization = sensitive(&[self.authorization.as_bytes()])?;
        let (claims, accepted) = (self.claims.clone(), self.accepted.clone());
        Ok(Self { authorization, expires_at: self.expires_at, claims, accepted })
    }

    /// The resource has taken it: should it be refused later, it has gone stale.
    pub fn accept(&self) {
        // Most often it is known already, and a store would cost every other core its copy.
        if !self.is_accepted() {
            self.accepted.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn is_accepted(&self) -> bool {
        self.accepted.load(Ordering::Relaxed)
    }
}

/// A field's value that is not shown, and wiped when nobody holds it any more.
fn sensitive(text: &[&[u8]]) -> Result<HeaderValue, Cause> {
    let text = Bytes::from_owner(Apart(Zeroizing::new(text.concat())));
    let mut value = HeaderValue::from_maybe_shared(text).map_err(|_| Cause::Unsendable)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The token of one scope.
pub struct TokenSlot {
    renewal: Arc<Renewal>,
    start: Once,
    task: OnceLock<AbortHandle>,
}

impl TokenSlot {
    /// A slot that holds nothing yet and fetches nothing until [`TokenSlot::start`] or the first request.
    #[must_use]
    pub fn new(scope: Scope, source: Arc<dyn TokenSource>, clock: SharedClock) -> Self {
        let renewal = Arc::new(Renewal::new(scope, source, clock));
        Self { renewal, start: Once::new(), task: OnceLock::new() }
    }

    /// Begins to fetch and renew. Must be called inside a Tokio runtime; calling it again does nothing.
    pub fn start(&self) {
        self.start.call_once(|| {
            let task = tokio::spawn(self.renewal.clone().keep_fresh());
            // `call_once` runs once, so the cell is empty.
            let _ = self.task.set(task.abort_handle());
        });
    }

    /// The token held, if it may be sent now: the hot path.
    #[must_use]
    pub fn held(&self) -> Option<Arc<Token>> {
        self.renewal.held()
    }

    /// When the token that was got last ends, or has ended.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.renewal.expires_at()
    }

    /// The token, fetched first if none is held.
    ///
    /// # Errors
    ///
    /// The failure that everyone waiting shares: at once while a failed attempt rests, within a second of one that
    /// follows a failure, within the credential's deadline of the first.
    pub async fn token(&self) -> Result<Arc<Token>, Arc<Failure>> {
        match self.renewal.held() {
            Some(token) => Ok(token),
            // Boxed: hardly any request waits, and none should carry the room for it.
            None => Box::pin(self.wait()).await,
        }
    }

    /// The token, or the answer for a request that cannot have it.
    ///
    /// # Errors
    ///
    /// [`ProxyError::CredentialUnavailable`], as soon as [`TokenSlot::token`] fails.
    pub async fn token_to_send(&self) -> Result<Arc<Token>, ProxyError> {
        self.token().await.map_err(|failure| ProxyError::CredentialUnavailable {
            problem: failure.error.to_string(),
            remedy: failure.error.advice().map(str::to_owned),
            retry_after: failure.retry_after(self.renewal.clock.now()),
        })
    }

    /// The resource called a token stale: asks for another one, without waiting for it.
    pub fn refused(&self, refused: &Token) {
        self.renewal.want_another_than(refused);
    }

    /// A token to send instead of one that the resource called stale, renewed first if nobody has done so yet: once for
    /// any crowd, and only as often as [`may_force`](super::schedule::may_force) allows. Nothing if there is no other.
    pub async fn instead_of(&self, refused: &Token) -> Option<Arc<Token>> {
        let renewal = &self.renewal;
        let mut outcome = renewal.outcome.subscribe();
        if !renewal.want_another_than(refused) {
            return None;
        }
        if let Some(other) = renewal.other_than(refused) {
            return Some(other);
        }
        // Whatever comes of it: a failure leaves the refused token the only one there is.
        let _ = timeout(renewal.source.deadline() + AFTER_FAILURE, outcome.changed()).await;
        renewal.other_than(refused)
    }

    /// Why no token is held, if the last attempt failed.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<Failure>> {
        self.renewal.failure()
    }

    /// What has happened so far.
    #[must_use]
    pub fn account(&self) -> Account {
        self.renewal.account()
    }

    /// What the tokens are for.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.renewal.scope
    }

    /// Where the tokens come from.
    #[must_use]
    pub fn source(&self) -> &dyn TokenSource {
        &*self.renewal.source
    }

    #[cold]
    async fn wait(&self) -> Result<Arc<Token>, Arc<Failure>> {
        self.start();
        let renewal = &self.renewal;
        let mut outcome = renewal.outcome.subscribe();
        let before = outcome.borrow_and_update().clone();
        // The task answers within the deadline; a little more, so that its answer is what the caller reads.
        let patient = renewal.source.deadline() + AFTER_FAILURE;
        let patience = match &before {
            Outcome::Failed(failure) if renewal.is_mended(failure) => patient,
            Outcome::Failed(failure) if failure.rests(renewal.clock.now()) => return Err(failure.clone()),
            // What happened before the machine slept says nothing about now.
            Outcome::Failed(failure) if !overslept(renewal.clock.now(), failure.retry_at) => AFTER_FAILURE,
            Outcome::None | Outcome::Token | Outcome::Failed(_) => patient,
        };
        renewal.look.notify_one();
        let answer = timeout(patience, async {
            loop {
                if let Some(token) = renewal.held() {
                    return Ok(token);
                }
                if outcome.changed().await.is_err() {
                    // Unreachable while `renewal`, which owns the sender, is alive.
                    return Err(renewal.overdue(patience));
                }
                if let Outcome::Failed(failure) = &*outcome.borrow_and_update() {
                    return Err(failure.clone());
                }
            }
        });
        match (answer.await, before) {
            (Ok(answer), _) => answer,
            (Err(_), Outcome::Failed(failure)) if patience == AFTER_FAILURE => Err(failure),
            (Err(_), _) => Err(renewal.overdue(patience)),
        }
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
        f.debug_struct("TokenSlot").field("scope", &self.renewal.scope).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_sent_and_never_shown() {
        let secret = "a-secret-of-ours";
        let expires_at = SystemTime::UNIX_EPOCH + Duration::from_secs(3600);
        let given = AccessToken { secret: secret.to_owned().into(), expires_at };
        let token = Token::new(&given, SystemTime::UNIX_EPOCH).expect("a token");
        assert_eq!(token.authorization, format!("Bearer {secret}"));
        assert!(token.authorization.is_sensitive(), "logs and HPACK tables leave it out");
        assert!(!format!("{given:?} {token:?}").contains(secret));
    }
}
