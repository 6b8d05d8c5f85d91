//! Every failure that the proxy answers itself, and the one place where a failure becomes a status.

mod answer;
mod causes;
mod words;

use std::borrow::Cow;
use std::fmt;

pub use answer::ErrorReport;
pub(crate) use causes::{Causes, tls_cause};
pub(crate) use words::ToMendIt;
use words::{Deployed, OfThese, Peer};

/// A request that the proxy answers itself, because it cannot or must not pass it on.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProxyError {
    /// The path could leave its prefix or is ambiguous.
    #[error("the request path {0}")]
    InvalidPath(&'static str),
    /// The request is malformed or ambiguous, or broke off.
    #[error("{0}")]
    InvalidRequest(Cow<'static, str>),
    /// A request's head is longer than anybody needs.
    #[error("the request's head is too large: at most 64 KiB and 128 fields are read")]
    HeadTooLarge,
    /// The request's content is longer than is allowed.
    #[error("the request's content is longer than {most} bytes (limits.max_body)")]
    BodyTooLarge {
        /// What is allowed.
        most: u64,
    },
    /// More requests are under way than may be.
    #[error("{most} requests may be under way (limits.max_in_flight){}", OfThese(*share))]
    Overloaded {
        /// How many may be.
        most: usize,
        /// How many the app has, if the rest is kept for others.
        share: Option<usize>,
    },
    /// So many watch the status that there is no room for more.
    #[error("{most} viewers watch the status, and no more may")]
    TooManyViewers {
        /// How many may.
        most: usize,
    },
    /// The request names a host that is not this machine.
    #[error("this proxy answers to {allowed} only (access.allowed_hosts)")]
    HostDenied {
        /// The names that it answers to.
        allowed: String,
    },
    /// A web page makes the request.
    #[error(
        "a web page may not use this proxy: the request has an Origin that is not among access.allowed_origins, or a browser \
         says that it comes from another site"
    )]
    OriginDenied,
    /// A process of a user that may not connect makes the connection.
    #[error("{} may not use this proxy (access.peer_users)", Peer(*uid))]
    PeerDenied {
        /// The user's number, if the system says it.
        uid: Option<u32>,
    },
    /// Whoever is on another machine asks for the end.
    #[error(
        "only this machine, or what shares its network namespace, may end the proxy (POST /quitquitquit): ask localhost"
    )]
    QuitDenied,
    /// No app's key, where one is needed.
    #[error(
        "this proxy wants the key of an app, as `Authorization: Bearer KEY` or `api-key: KEY` (access.require_key)"
    )]
    InvalidKey,
    /// A model that the app may not ask for.
    #[error("the app {app} may not ask for {asked}; it may for {allowed} (apps.{app}.models)")]
    ModelDenied {
        /// The app's name.
        app: String,
        /// The model, or that none can be seen.
        asked: String,
        /// What it may ask for.
        allowed: String,
    },
    /// More than the app may ask for in a minute.
    #[error("the app {app} has used up its {limit} (apps.{app}.{key} = {most}); come again in {retry_after} s")]
    RateLimited {
        /// The app's name.
        app: String,
        /// What of it is used up.
        limit: &'static str,
        /// The setting.
        key: &'static str,
        /// Its value.
        most: u64,
        /// Whole seconds until there is something left.
        retry_after: u64,
    },
    /// No such route.
    #[error("no such route; OpenAI's API is under /v1/ (base URL http://HOST:PORT/v1)")]
    NotFound,
    /// No such route on the listener for probes.
    #[error("no such route: this is the admin listener (admin.address), and requests for Azure go to listen.address")]
    NotOfAdmin,
    /// A management route, and it is not known which subscription, region or account is meant.
    #[error("{0}")]
    ManagementNotConfigured(Cow<'static, str>),
    /// A model that is none of the account's deployments, or none that the app may see.
    #[error("there is no deployment {asked}; {}", Deployed(deployed))]
    NoSuchModel {
        /// What was asked for.
        asked: String,
        /// What there is.
        deployed: Vec<String>,
    },
    /// A route of the proxy's own, and not a method it knows.
    #[error("this route answers {allowed} only")]
    MethodNotAllowed {
        /// The methods that it knows, as `Allow` lists them.
        allowed: &'static str,
    },
    /// No connection to the upstream.
    #[error("cannot reach {host}: {problem}")]
    UpstreamUnreachable {
        /// Host and port.
        host: String,
        /// What the network said.
        problem: String,
        /// RFC 9209's name for it.
        kind: Unreachable,
    },
    /// A connection, and no agreement on who is at its other end.
    #[error("no TLS connection to {host}: {problem}")]
    UpstreamTls {
        /// Host and port.
        host: String,
        /// What the TLS library said.
        problem: String,
        /// Whether it was the certificate.
        certificate: bool,
    },
    /// The upstream closed the connection, or what it said is not HTTP.
    #[error("{host} gave no valid response: {problem}")]
    UpstreamProtocol {
        /// Host and port.
        host: String,
        /// What the HTTP library said.
        problem: String,
    },
    /// The upstream said nothing for too long.
    #[error("{host} sent no response within {seconds} s")]
    UpstreamTimeout {
        /// Host and port.
        host: String,
        /// The deadline that passed.
        seconds: u64,
    },
    /// The caller stopped in the middle of its request.
    #[error("the request's {part} {} {seconds} s", part.stopped())]
    RequestTimeout {
        /// Where it stopped.
        part: RequestPart,
        /// The deadline that passed.
        seconds: u64,
    },
    /// There is no token to send.
    #[error("no token for Azure: {problem}{}", ToMendIt(remedy.as_deref()))]
    CredentialUnavailable {
        /// The credential's own words.
        problem: String,
        /// What a person can do about it.
        remedy: Option<String>,
        /// Whole seconds until the next attempt is due.
        retry_after: u64,
    },
}

/// A part of a request that a caller may be slow with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestPart {
    /// Request line and fields.
    Head,
    /// What follows them.
    Content,
}

impl RequestPart {
    /// What it means that its deadline has passed.
    fn stopped(self) -> &'static str {
        match self {
            Self::Head => "was not complete within",
            Self::Content => "stood still for",
        }
    }
}

impl fmt::Display for RequestPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Head => "head",
            Self::Content => "content",
        })
    }
}

/// Why no connection was made, in RFC 9209's terms (§2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// The name has no address.
    Dns,
    /// The connection was refused.
    Refused,
    /// Nothing answered in time.
    Timeout,
    /// Anything else.
    Unavailable,
}
