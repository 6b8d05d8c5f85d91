//! What can come of asking the management plane instead of a list.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use http::header::RETRY_AFTER;
use serde::Deserialize;

use crate::error::ProxyError;
use crate::explain::insert;
use crate::identity::transport::line;

/// Why there is no list.
#[derive(Debug, Clone)]
pub enum Failure {
    /// The management plane said no: its own answer.
    Refusal(Box<http::Response<Bytes>>),
    /// It was not asked, or what it said is no answer.
    Error(ProxyError),
}

/// What a refusal of ARM's says, or whoever answers in its place: each on one line, and not without end.
#[derive(Debug, Default, Deserialize)]
pub struct Said {
    /// A word for programs, such as `AuthorizationFailed`.
    #[serde(default)]
    pub code: String,
    /// A sentence.
    #[serde(default)]
    pub message: String,
}

impl Failure {
    /// The status of the refusal, if it is one.
    #[must_use]
    pub fn refused_with(&self) -> Option<StatusCode> {
        match self {
            Self::Refusal(refusal) => Some(refusal.status()),
            Self::Error(_) => None,
        }
    }

    /// What the refusal says, if it is one and says anything.
    #[must_use]
    pub fn said(&self) -> Said {
        #[derive(Deserialize)]
        struct Content {
            error: Said,
        }
        let Self::Refusal(refusal) = self else { return Said::default() };
        let said = serde_json::from_slice(refusal.body()).map_or_else(|_| Said::default(), |Content { error }| error);
        let plain = |text: String| line(&text.replace(char::is_control, " "));
        Said { code: plain(said.code), message: plain(said.message) }
    }

    /// The same with what a person can do about it, where clients look for an error's message.
    pub(super) fn explained(self, hint: &str) -> Self {
        let Self::Refusal(mut refusal) = self else { return self };
        if let Some(content) = insert(refusal.body(), hint) {
            *refusal.body_mut() = content.into();
        }
        Self::Refusal(refusal)
    }

    /// Whether asking again may help by itself. A role taken away or an account deleted is no such failure.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Refusal(refusal) => {
                refusal.status() == StatusCode::TOO_MANY_REQUESTS || refusal.status().is_server_error()
            }
            Self::Error(error) => !matches!(error, ProxyError::ManagementNotConfigured(_)),
        }
    }

    /// How long the management plane wants to be left alone, if it says. Seconds only: ARM sends no dates.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let Self::Refusal(refusal) = self else { return None };
        let seconds = refusal.headers().get(RETRY_AFTER)?.to_str().ok()?;
        seconds.trim().parse().ok().map(Duration::from_secs)
    }
}

/// For logs and terminals, on one line.
impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Error(error) => error.fmt(f),
            Self::Refusal(refusal) => {
                let Said { code, message } = self.said();
                // ARM ends its sentences; this one goes on.
                let parts = [&code, &message].map(|part| part.trim_end_matches('.'));
                write!(f, "the management plane answered {}", refusal.status())?;
                for part in parts.iter().filter(|part| !part.is_empty()) {
                    write!(f, ": {part}")?;
                }
                Ok(())
            }
        }
    }
}

impl From<ProxyError> for Failure {
    fn from(error: ProxyError) -> Self {
        Self::Error(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Refusal(refusal) => refusal.map(Body::from),
            Self::Error(error) => error.into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, retry_after: &str, message: &str) -> Failure {
        let content = serde_json::json!({ "error": { "code": "Co\u{1b}[2Jde", "message": message } });
        let answer = http::Response::builder().status(status).header(RETRY_AFTER, retry_after);
        Failure::Refusal(Box::new(answer.body(content.to_string().into()).expect("an answer")))
    }

    #[test]
    fn what_is_said_speaks_to_no_terminal_and_has_an_end() {
        let failure = refusal(403, "", &"no\r\n\u{9b}2J. ".repeat(10_000));
        let told = failure.to_string();
        assert!(!told.contains(char::is_control) && told.len() < 3000, "{told:?}");
        assert!(told.contains(": Co [2Jde: no 2J. no"), "{told}");
    }

    #[test]
    fn only_what_is_about_now_may_pass() {
        for (status, passes) in [(401, false), (403, false), (404, false), (429, true), (500, true), (503, true)] {
            assert_eq!(refusal(status, "", "").may_pass(), passes, "{status}");
        }
        assert!(!Failure::from(ProxyError::ManagementNotConfigured("no account".into())).may_pass());
        let timeout = ProxyError::UpstreamTimeout { host: "h".to_owned(), seconds: 1 };
        assert!(Failure::from(timeout).may_pass());
    }

    #[test]
    fn a_wait_is_read_in_seconds() {
        assert_eq!(refusal(429, " 7", "").retry_after(), Some(Duration::from_secs(7)));
        for text in ["", "-1", "1.5", "Sat, 21 Nov 2026 16:00:00 GMT"] {
            assert_eq!(refusal(429, text, "").retry_after(), None, "{text}");
        }
    }
}
