//! Why a credential gave no token, and what a person can do about it.

use std::fmt;
use std::time::Duration;

use super::schedule::Pace;

/// A credential gave no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{credential}: {cause}")]
pub struct CredentialError {
    /// The credential, as the configuration spells it.
    pub credential: &'static str,
    /// What happened. Not a `source`: the message tells it already.
    pub cause: Cause,
    /// What a person can do about it, if that is known.
    pub remedy: Option<Remedy>,
}

/// What happened to a token request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The identity service answered, and it was a refusal.
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
    /// The identity service gave something that is no token.
    #[error("what {service} gave is no token: {problem}")]
    NoToken {
        /// Scheme, host and port.
        service: String,
        /// What is wrong with it, without its content.
        problem: String,
    },
    /// Nothing came back within the deadline.
    #[error("no token within {} s", .0.as_secs_f32())]
    Overdue(Duration),
    /// A command-line tool failed: it is not signed in, or gave no token.
    #[error("{0}")]
    Tool(String),
    /// A command-line tool is not there.
    #[error("{0} not found on PATH")]
    Missing(&'static str),
    /// A file that the credential needs cannot be used.
    #[error("{0}")]
    File(String),
    /// The certificate in a file is over.
    #[error("{0}")]
    ExpiredCertificate(String),
    /// There is such an identity, and no way to it.
    #[error("the managed identity of {0} is not supported")]
    Unsupported(&'static str),
    /// The credential cannot be built from what the configuration says.
    #[error("{0}")]
    Misfit(String),
    /// The credential's code panicked.
    #[error("it failed in a way it should not; please report this")]
    Panicked,
    /// The token was expired, or as good as that, when it came.
    #[error("the token given has expired already")]
    Expired,
    /// The token is empty or holds bytes that no field value may hold.
    #[error("the token given cannot be sent: it is empty or holds control characters")]
    Unsendable,
    /// None of the credentials that `auto` tried gave a token.
    #[error("no credential gave a token. Tried {}", Tried(.0))]
    NoneWorked(Vec<CredentialError>),
}

/// What a person can do about a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    /// What to do, with the command to type where there is one.
    pub advice: String,
    /// Whether nothing else can help: then there is no point in asking often.
    pub only: bool,
}

impl CredentialError {
    /// A failure that no credential has told of, with what is known about it all the same.
    pub(super) fn new(credential: &'static str, cause: Cause) -> Self {
        let advice =
            matches!(cause, Cause::Expired).then(|| "is this machine's clock right? `timedatectl` tells".to_owned());
        Self { credential, cause, remedy: advice.map(|advice| Remedy { advice, only: false }) }
    }

    /// How soon it makes sense to try again, after so many failures in a row.
    #[must_use]
    pub fn pace(&self, failures: u32) -> Pace {
        match &self.cause {
            _ if !self.needs_a_person() => Pace::Passing { failures },
            Cause::NoneWorked(tried) if tried.iter().any(Self::is_unreachable) => Pace::Doubtful { failures },
            _ => Pace::Person,
        }
    }

    fn is_unreachable(&self) -> bool {
        matches!(self.cause, Cause::Unreachable { .. })
    }

    /// Whether it is the same failure again: Entra numbers each of its refusals.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let lasting = |error: &Self| error.to_string().split("Trace ID:").next().map(str::to_owned);
        lasting(self) == lasting(other)
    }

    /// Whether the failure lasts until a person does something.
    #[must_use]
    pub fn needs_a_person(&self) -> bool {
        self.remedy.as_ref().is_some_and(|remedy| remedy.only)
    }

    /// How long the identity service asked to be left alone, if it did.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.cause {
            Cause::Refused { retry_after, .. } => *retry_after,
            Cause::NoneWorked(tried) => tried.iter().filter_map(Self::retry_after).max(),
            Cause::Unreachable { .. }
            | Cause::NoToken { .. }
            | Cause::Overdue(_)
            | Cause::Tool(_)
            | Cause::Missing(_)
            | Cause::ExpiredCertificate(_)
            | Cause::File(_)
            | Cause::Unsupported(_)
            | Cause::Misfit(_)
            | Cause::Panicked
            | Cause::Expired
            | Cause::Unsendable => None,
        }
    }

    /// What to do, as the end of a sentence that tells the failure; nothing if nobody knows.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.remedy.as_ref().map(|remedy| remedy.advice.as_str())
    }
}

struct Tried<'a>(&'a [CredentialError]);

impl fmt::Display for Tried<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}
