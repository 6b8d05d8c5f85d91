//! A failure as the response that a caller gets.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;

use super::{ProxyError, Unreachable};

/// Where an error of the proxy says so (RFC 9209).
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

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

impl ProxyError {
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

fn proxy_status(kind: &'static str) -> HeaderValue {
    #[expect(clippy::expect_used, reason = "the kinds stand above and are tokens (RFC 8941)")]
    HeaderValue::try_from(format!("aoai-auth-proxy; error={kind}")).expect("a token")
}
