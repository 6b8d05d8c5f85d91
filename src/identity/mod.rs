//! Who we are towards Azure: credentials, and the tokens they give.

mod answer;
mod azure;
mod certificate;
pub mod chain;
pub mod claims;
pub mod credential;
mod executor;
pub mod failure;
mod remedy;
mod renewal;
pub mod schedule;
pub mod tokens;
pub(crate) mod transport;
pub mod trial;

use std::fmt;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use secrecy::SecretString;

use crate::config::Scope;

pub use failure::{Cause, CredentialError, Remedy};

/// Something that can be asked for a token. The store asks it once per renewal, never per request.
#[async_trait]
pub trait TokenSource: fmt::Debug + Send + Sync {
    /// Fetches a token for `scope`, without any cache of its own: what comes back is what the identity service gave.
    ///
    /// # Errors
    ///
    /// Why there is none, in the identity service's own words.
    async fn fetch(&self, scope: &Scope) -> Result<AccessToken, CredentialError>;

    /// How long one fetch may take before it counts as failed.
    fn deadline(&self) -> Duration;

    /// The credential's name as the configuration spells it; of several, the one that gives the tokens.
    fn name(&self) -> &'static str;

    /// Of several credentials, those that were tried in vain before the one that gives the tokens.
    fn passed_over(&self) -> Vec<CredentialError> {
        Vec::new()
    }

    /// When somebody last touched what the credential reads: a file, or where a tool keeps who is signed in. A change
    /// after a failure that only a person can mend is a reason to try again at once.
    fn touched(&self) -> Option<SystemTime> {
        None
    }
}

/// A token as a credential gave it.
#[derive(Debug)]
pub struct AccessToken {
    /// What goes behind `Bearer`.
    pub secret: SecretString,
    /// When the resource stops taking it.
    pub expires_at: SystemTime,
}
