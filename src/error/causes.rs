//! What lies behind a failure: the errors of libraries.

use std::fmt;
use std::io;

use super::{ProxyError, Unreachable};

impl ProxyError {
    /// What kept a connection to `host` from being made, from the errors of whichever library tried.
    pub(crate) fn from_connecting(host: String, error: &(dyn std::error::Error + 'static)) -> Self {
        if let Some(tls) = tls_cause(error) {
            let certificate = matches!(tls, rustls::Error::InvalidCertificate(_));
            let advice = if certificate {
                "; if a company's own authority signed it, name that authority's certificate in upstream.ca_file"
            } else {
                ""
            };
            return Self::UpstreamTls { host, problem: format!("{tls}{advice}"), certificate };
        }
        let causes = std::iter::successors(Some(error), |error| error.source());
        let kind = causes.filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind).last();
        let problem = Causes(error).to_string();
        let kind = match kind {
            _ if problem.contains("dns error") => Unreachable::Dns,
            Some(io::ErrorKind::ConnectionRefused) => Unreachable::Refused,
            Some(io::ErrorKind::TimedOut) => Unreachable::Timeout,
            _ => Unreachable::Unavailable,
        };
        Self::UpstreamUnreachable { host, problem, kind }
    }
}

/// The TLS library's error among the causes. It comes wrapped in input and output errors, which do not name what they wrap
/// as their source.
pub(crate) fn tls_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    match (error.downcast_ref::<rustls::Error>(), error.downcast_ref::<io::Error>().and_then(io::Error::get_ref)) {
        (Some(tls), _) => Some(tls),
        (None, Some(wrapped)) => tls_cause(wrapped),
        (None, None) => error.source().and_then(tls_cause),
    }
}

/// The whole chain of causes of an error, for messages that people read once.
pub(crate) struct Causes<'a>(pub(crate) &'a (dyn std::error::Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.0.to_string();
        f.write_str(&last)?;
        for cause in std::iter::successors(self.0.source(), |error| error.source()) {
            let text = cause.to_string();
            // Some libraries repeat their cause in their own words.
            if !last.contains(&text) {
                write!(f, ": {text}")?;
            }
            last = text;
        }
        Ok(())
    }
}
