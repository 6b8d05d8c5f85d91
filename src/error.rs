//! Every failure that the proxy answers itself, and the one place where a failure becomes a status.

use std::borrow::Cow;
use std::fmt;
use std::io;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;

/// Where an error of the proxy says so (RFC 9209).
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

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

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::InvalidPath(_) | Self::InvalidRequest(_) => StatusCode::BAD_REQUEST,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RequestTimeout { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::HostDenied { .. } => StatusCode::MISDIRECTED_REQUEST,
            Self::OriginDenied | Self::PeerDenied { .. } | Self::QuitDenied | Self::ModelDenied { .. } => {
                StatusCode::FORBIDDEN
            }
            Self::InvalidKey => StatusCode::UNAUTHORIZED,
            Self::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::NotFound | Self::NotOfAdmin | Self::NoSuchModel { .. } | Self::ManagementNotConfigured(_) => {
                StatusCode::NOT_FOUND
            }
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::UpstreamUnreachable { .. } | Self::UpstreamTls { .. } | Self::UpstreamProtocol { .. } => {
                StatusCode::BAD_GATEWAY
            }
            Self::UpstreamTimeout { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::CredentialUnavailable { .. } | Self::Overloaded { .. } | Self::TooManyViewers { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// The `code` that programs can rely on.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidPath(_) => "invalid_path",
            Self::InvalidRequest(_) | Self::HeadTooLarge => "invalid_request",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::Overloaded { .. } | Self::TooManyViewers { .. } => "overloaded",
            Self::RequestTimeout { .. } => "request_timeout",
            Self::HostDenied { .. } => "host_denied",
            Self::OriginDenied => "origin_denied",
            Self::PeerDenied { .. } | Self::QuitDenied => "peer_denied",
            Self::InvalidKey => "invalid_key",
            Self::ModelDenied { .. } => "model_denied",
            Self::RateLimited { .. } => "rate_limited",
            Self::NotFound | Self::NotOfAdmin | Self::NoSuchModel { .. } => "not_found",
            Self::ManagementNotConfigured(_) => "management_not_configured",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::UpstreamUnreachable { .. } => "upstream_unreachable",
            Self::UpstreamTls { .. } => "upstream_tls",
            Self::UpstreamProtocol { .. } => "upstream_protocol",
            Self::UpstreamTimeout { .. } => "upstream_timeout",
            Self::CredentialUnavailable { .. } => "credential_unavailable",
        }
    }

    /// RFC 9209's proxy error type (§2.3).
    fn proxy_status(&self) -> &'static str {
        match self {
            Self::InvalidPath(_)
            | Self::InvalidRequest(_)
            | Self::HeadTooLarge
            | Self::BodyTooLarge { .. }
            | Self::RequestTimeout { .. } => "http_request_error",
            Self::HostDenied { .. }
            | Self::OriginDenied
            | Self::PeerDenied { .. }
            | Self::QuitDenied
            | Self::InvalidKey
            | Self::ModelDenied { .. }
            | Self::RateLimited { .. }
            | Self::NotFound
            | Self::NotOfAdmin
            | Self::NoSuchModel { .. }
            | Self::ManagementNotConfigured(_)
            | Self::MethodNotAllowed { .. } => "http_request_denied",
            Self::UpstreamUnreachable { kind: Unreachable::Dns, .. } => "dns_error",
            Self::UpstreamUnreachable { kind: Unreachable::Refused, .. } => "connection_refused",
            Self::UpstreamUnreachable { kind: Unreachable::Timeout, .. } => "connection_timeout",
            Self::UpstreamUnreachable { kind: Unreachable::Unavailable, .. } => "destination_unavailable",
            Self::UpstreamTls { certificate: true, .. } => "tls_certificate_error",
            Self::UpstreamTls { certificate: false, .. } => "tls_protocol_error",
            Self::UpstreamProtocol { .. } => "http_protocol_error",
            Self::UpstreamTimeout { .. } => "http_response_timeout",
            Self::CredentialUnavailable { .. } => "proxy_internal_error",
            Self::Overloaded { .. } | Self::TooManyViewers { .. } => "connection_limit_reached",
        }
    }

    /// What a request's log line says instead of the message, where that stands in another line already or repeats the path.
    fn logged(&self) -> Option<&'static str> {
        match self {
            Self::CredentialUnavailable { .. } => Some("no token for Azure"),
            Self::NoSuchModel { .. } => Some("there is no such deployment"),
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::CredentialUnavailable { retry_after, .. } | Self::RateLimited { retry_after, .. } => {
                Some(*retry_after)
            }
            // Requests are short, mostly.
            Self::Overloaded { .. } | Self::TooManyViewers { .. } => Some(1),
            Self::InvalidPath(_)
            | Self::InvalidRequest(_)
            | Self::HeadTooLarge
            | Self::BodyTooLarge { .. }
            | Self::HostDenied { .. }
            | Self::OriginDenied
            | Self::PeerDenied { .. }
            | Self::QuitDenied
            | Self::InvalidKey
            | Self::ModelDenied { .. }
            | Self::NotFound
            | Self::NotOfAdmin
            | Self::NoSuchModel { .. }
            | Self::ManagementNotConfigured(_)
            | Self::MethodNotAllowed { .. }
            | Self::UpstreamUnreachable { .. }
            | Self::UpstreamTls { .. }
            | Self::UpstreamProtocol { .. }
            | Self::UpstreamTimeout { .. }
            | Self::RequestTimeout { .. } => None,
        }
    }
}

/// How many of the requests under way are whose.
struct OfThese(Option<usize>);

impl fmt::Display for OfThese {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(share) => write!(f, "; this app has {share}, and the rest is kept for others that compete"),
            None => f.write_str(", and so many are"),
        }
    }
}

/// The deployments that there are, as a message names them.
struct Deployed<'a>(&'a [String]);

impl fmt::Display for Deployed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// More would be a list, and that is what `/v1/models` is for.
        const MOST: usize = 20;
        match self.0 {
            [] => f.write_str("there are none that this caller may see"),
            few if few.len() <= MOST => write!(f, "there are {}", few.join(", ")),
            many => write!(f, "there are {} others: see /v1/models", many.len()),
        }
    }
}

/// A user of this machine, as a message names it.
struct Peer(Option<u32>);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(uid) => write!(f, "the user {uid} of this machine"),
            None => f.write_str("a process that the system does not name a user of"),
        }
    }
}

/// The end of a sentence that tells a failure.
pub(crate) struct ToMendIt<'a>(pub(crate) Option<&'a str>);

impl fmt::Display for ToMendIt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |advice| write!(f, ". To mend it: {advice}"))
    }
}

/// An answered error, as it goes into the request's log line: an extension of the response.
#[derive(Debug, Clone)]
pub struct ErrorReport {
    /// [`ProxyError::code`].
    pub code: &'static str,
    /// What the caller was told.
    pub message: String,
}

impl IntoResponse for ProxyError {
    /// The shape of OpenAI's errors, so that every client shows the message.
    fn into_response(self) -> Response {
        let message = self.to_string();
        let content = json!({
            "error": { "message": message, "type": "proxy_error", "param": null, "code": self.code() }
        });
        let report = ErrorReport { code: self.code(), message: self.logged().map_or(message, str::to_owned) };
        let mut response = Response::new(Body::from(content.to_string()));
        *response.status_mut() = self.status();
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        fields.insert(PROXY_STATUS, proxy_status(self.proxy_status()));
        if let Some(seconds) = self.retry_after() {
            fields.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if matches!(self, Self::InvalidKey) {
            // RFC 9110 §15.5.2 wants a challenge with every 401.
            fields.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Self::MethodNotAllowed { allowed } = self {
            fields.insert(header::ALLOW, HeaderValue::from_static(allowed));
        }
        response.extensions_mut().insert(report);
        response
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

fn proxy_status(kind: &'static str) -> HeaderValue {
    #[expect(clippy::expect_used, reason = "the kinds stand above and are tokens (RFC 8941)")]
    HeaderValue::try_from(format!("aoai-auth-proxy; error={kind}")).expect("a token")
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
