//! What can come of asking the management plane instead of a list.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;

use crate::error::ProxyError;

/// Why there is no list.
#[derive(Debug, Clone)]
pub enum Failure {
    /// The management plane said no: its own answer.
    Refusal(Box<http::Response<Bytes>>),
    /// It was not asked, or what it said is no answer.
    Error(ProxyError),
}

/// What a refusal of ARM's says.
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
        match self {
            Self::Refusal(refusal) => {
                serde_json::from_slice(refusal.body()).map_or_else(|_| Said::default(), |Content { error }| error)
            }
            Self::Error(_) => Said::default(),
        }
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
                let plain = |text: String| text.replace(char::is_control, " ").trim_end_matches('.').to_owned();
                write!(f, "the management plane answered {}", refusal.status())?;
                for part in [code, message].map(plain).iter().filter(|part| !part.is_empty()) {
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
