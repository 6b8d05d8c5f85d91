//! Who we are towards Azure: credentials, and the tokens they give.

pub mod chain;
pub mod claims;
pub mod credential;
mod executor;
pub mod schedule;
pub mod tokens;
pub(crate) mod transport;

use std::fmt;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use secrecy::SecretString;

use crate::config::Scope;

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
}

/// A token as a credential gave it.
#[derive(Debug)]
pub struct AccessToken {
    /// What goes behind `Bearer`.
    pub secret: SecretString,
    /// When the resource stops taking it.
    pub expires_at: SystemTime,
}

/// Why a credential gave no token.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CredentialError {
    /// The identity service answered, and it was no token.
    #[error("{service} answered {status}: {words}")]
    Refused {
        /// Scheme, host and port.
        service: String,
        /// The HTTP status.
        status: u16,
        /// What it said, on one line.
        words: String,
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// The identity service could not be reached.
    #[error("no answer from {service}: {words}")]
    Unreachable {
        /// Scheme, host and port.
        service: String,
        /// The network's words.
        words: String,
    },
    /// Nothing came back within the deadline.
    #[error("no token within {} s", .0.as_secs())]
    Overdue(Duration),
    /// The credential itself failed: a tool that is missing or not signed in, a file that cannot be read, an answer that
    /// is no token.
    #[error("{0}")]
    Credential(String),
    /// The credential's code panicked.
    #[error("the credential failed in a way it should not; please report this")]
    Panicked,
    /// The token was expired, or as good as that, when it came.
    #[error("the token given has expired already; is this machine's clock right?")]
    Expired,
    /// The token holds bytes that no field value may hold.
    #[error("the token holds characters that cannot be sent")]
    Unsendable,
    /// None of the credentials that `auto` tried gave a token.
    #[error("no credential gave a token. Tried {}", Tried(.0))]
    NoneWorked(Vec<(&'static str, Self)>),
}

impl CredentialError {
    /// How long the identity service asked to be left alone, if it did.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::NoneWorked(tried) => tried.iter().filter_map(|(_, error)| error.retry_after()).max(),
            Self::Unreachable { .. }
            | Self::Overdue(_)
            | Self::Credential(_)
            | Self::Panicked
            | Self::Expired
            | Self::Unsendable => None,
        }
    }
}

struct Tried<'a>(&'a [(&'static str, CredentialError)]);

impl fmt::Display for Tried<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, error)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{name}: {error}")?;
        }
        Ok(())
    }
}
