//! `HTTPS_PROXY`, `NO_PROXY` and their kin, for every outgoing connection that may use them.

use std::fmt;

use http::Uri;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};

use super::{Environment, is_loopback};

/// Which forward proxy an outgoing connection goes through. The variables mean what they mean to curl.
#[derive(Clone, Default)]
pub struct Proxies {
    all: String,
    http: String,
    https: String,
    no: String,
}

impl Proxies {
    /// Reads the variables, lower case before upper case. `HTTP_PROXY` is not read in upper case where a web server may
    /// have set it from a request (CGI, recognised by `REQUEST_METHOD`).
    pub(super) fn read(environment: &Environment) -> Self {
        let either = |lower, upper| environment.get(lower).or_else(|| environment.get(upper)).unwrap_or("").to_owned();
        let cgi = environment.get("REQUEST_METHOD").is_some();
        Self {
            all: either("all_proxy", "ALL_PROXY"),
            http: either("http_proxy", if cgi { "http_proxy" } else { "HTTP_PROXY" }),
            https: either("https_proxy", "HTTPS_PROXY"),
            no: either("no_proxy", "NO_PROXY"),
        }
    }

    /// The rules, ready to be asked.
    #[must_use]
    pub fn rules(&self) -> ProxyRules {
        ProxyRules(
            Matcher::builder()
                .all(self.all.clone())
                .http(self.http.clone())
                .https(self.https.clone())
                .no(self.no.clone())
                .build(),
        )
    }
}

/// Presence only: a proxy's URL may hold a password.
impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = |text: &String| !text.is_empty();
        f.debug_struct("Proxies")
            .field("all", &set(&self.all))
            .field("http", &set(&self.http))
            .field("https", &set(&self.https))
            .field("no", &self.no)
            .finish()
    }
}

/// Says for a destination which proxy leads there.
pub struct ProxyRules(Matcher);

impl ProxyRules {
    /// The proxy for `destination`, if it is not reached directly. This machine always is.
    #[must_use]
    pub fn intercept(&self, destination: &Uri) -> Option<Intercept> {
        if destination.host().is_none_or(is_loopback) { None } else { self.0.intercept(destination) }
    }
}

impl fmt::Debug for ProxyRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyRules")
    }
}
