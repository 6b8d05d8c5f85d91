//! Who may call. A loopback address keeps other machines out; this keeps out the web pages in this machine's browsers,
//! which reach loopback addresses as well as any program does.

use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderName, HeaderValue, Method, Request, Version};

use crate::error::ProxyError;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The names under which this machine is asked. Any other name that leads here was made to (DNS rebinding).
const ALLOWED_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Lets a request in or says why not.
///
/// # Errors
///
/// [`ProxyError::InvalidPath`] for a tunnel, [`ProxyError::HostDenied`] for a request to another name than this machine's,
/// [`ProxyError::OriginDenied`] for one that a web page of another site makes.
pub fn admit<B>(request: &Request<B>) -> Result<(), ProxyError> {
    if request.method() == Method::CONNECT {
        return Err(ProxyError::InvalidPath("asks for a tunnel; this is no forward proxy"));
    }
    if request.method() == Method::TRACE {
        // Whoever answers a TRACE sends back what it got (RFC 9110 §9.3.8): our token, to the caller.
        return Err(ProxyError::MethodNotAllowed { allowed: "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS" });
    }
    check_host(request)?;
    check_origin(request)
}

/// The host that is asked, from the target if that names one (RFC 9112 §3.2.2), else from `Host`, must be one of ours.
fn check_host<B>(request: &Request<B>) -> Result<(), ProxyError> {
    let mut named = request.headers().get_all(HOST).iter();
    let field = match (named.next(), named.next()) {
        (None, _) => None,
        (Some(one), None) => Some(one.as_bytes()),
        (Some(_), Some(_)) => return Err(ProxyError::InvalidRequest("the request has more than one Host".into())),
    };
    let field = field.map(Authority::try_from);
    match (request.uri().authority(), field) {
        // HTTP/2 says in `:authority` what HTTP/1.1 says in `Host`; a `Host` besides must say the same (RFC 9113 §8.3.1).
        (Some(authority), None) if is_ours(authority) => Ok(()),
        (Some(authority), Some(Ok(host))) if is_ours(authority) && is_ours(&host) => Ok(()),
        (Some(_), _) if request.version() != Version::HTTP_2 => Err(ProxyError::InvalidPath("names another host")),
        (None, Some(Ok(host))) if is_ours(&host) => Ok(()),
        (None, None) => Err(ProxyError::InvalidRequest("the request has no Host".into())),
        (_, _) => Err(ProxyError::HostDenied),
    }
}

/// Exact names, any port. A trailing dot, a user or anything else that only looks like one of ours is another name; the
/// library takes `[::1].example` for `[::1]`.
fn is_ours(authority: &Authority) -> bool {
    let named = authority.as_str();
    let (host, port) = match named.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (named, ""),
    };
    port.bytes().all(|byte| byte.is_ascii_digit())
        && ALLOWED_HOSTS.iter().any(|allowed| allowed.eq_ignore_ascii_case(host))
}

/// Browsers name the origin of every request that could do harm, and say whether its page is of the same site.
fn check_origin<B>(request: &Request<B>) -> Result<(), ProxyError> {
    let fields = request.headers();
    let ours = |value: &HeaderValue| matches!(value.as_bytes(), b"none" | b"same-origin" | b"same-site");
    if fields.contains_key(ORIGIN) || !fields.get_all(SEC_FETCH_SITE).iter().all(ours) {
        return Err(ProxyError::OriginDenied);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, fields: &[(&str, &str)]) -> Request<()> {
        let builder = Request::builder().uri(target);
        fields.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value)).body(()).expect("a request")
    }

    fn code(target: &str, fields: &[(&str, &str)]) -> &'static str {
        admit(&request(target, fields)).map_or_else(|error| error.code(), |()| "admitted")
    }

    #[test]
    fn only_this_machines_names_are_answered() {
        for host in ["localhost", "localhost:8642", "LOCALHOST", "127.0.0.1:1", "[::1]:8642", "[::1]"] {
            assert_eq!(code("/v1/models", &[("host", host)]), "admitted", "{host}");
        }
        for host in [
            "127.0.0.1.evil.com",
            "localhost.evil.com",
            "evil.com",
            "localhost.",
            "127.0.0.1.",
            "127.1",
            "2130706433",
            "0.0.0.0",
            "[::ffff:127.0.0.1]",
            "[::1].evil.com",
            "[::1].evil.com:80",
            "[::1]x",
            "localhost:80:80",
            "a@localhost",
            "localhost@evil.com",
            "",
            "local host",
            "127.0.0.2",
        ] {
            assert_eq!(code("/v1/models", &[("host", host)]), "host_denied", "{host}");
        }
    }

    #[test]
    fn a_request_has_one_host() {
        assert_eq!(code("/v1/models", &[]), "invalid_request");
        assert_eq!(code("/v1/models", &[("host", "localhost"), ("host", "evil.com")]), "invalid_request");
        assert_eq!(code("http://evil.com/v1/models", &[("host", "localhost")]), "invalid_path");
        assert_eq!(code("http://localhost:1/v1/models", &[("host", "localhost")]), "admitted");
        assert_eq!(code("http://u@localhost/v1/models", &[("host", "localhost")]), "invalid_path");
    }

    #[test]
    fn http2_names_the_host_in_its_authority() {
        let code = |target: &str, host: Option<&str>| {
            let mut request = request(target, &host.map(|host| ("host", host)).into_iter().collect::<Vec<_>>());
            *request.version_mut() = Version::HTTP_2;
            admit(&request).map_or_else(|error| error.code(), |()| "admitted")
        };
        assert_eq!(code("http://localhost/v1/models", None), "admitted");
        assert_eq!(code("http://localhost/v1/models", Some("127.0.0.1")), "admitted");
        assert_eq!(code("http://evil.com/v1/models", None), "host_denied");
        assert_eq!(code("http://localhost/v1/models", Some("evil.com")), "host_denied");
    }

    #[test]
    fn nothing_is_reflected_and_nothing_tunnelled() {
        for method in [Method::TRACE, Method::CONNECT] {
            let mut request = request("/v1/models", &[("host", "localhost")]);
            *request.method_mut() = method;
            assert!(admit(&request).is_err());
        }
    }

    #[test]
    fn web_pages_are_turned_away() {
        for origin in ["https://evil.com", "null", "http://localhost:3000", "http://localhost"] {
            assert_eq!(code("/v1/models", &[("host", "localhost"), ("origin", origin)]), "origin_denied", "{origin}");
        }
        for site in ["cross-site", "nonsense"] {
            assert_eq!(
                code("/v1/models", &[("host", "localhost"), ("sec-fetch-site", site)]),
                "origin_denied",
                "{site}"
            );
        }
        for site in ["none", "same-origin", "same-site"] {
            assert_eq!(code("/", &[("host", "localhost"), ("sec-fetch-site", site)]), "admitted", "{site}");
        }
        let twice = [("host", "localhost"), ("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")];
        assert_eq!(code("/", &twice), "origin_denied");
    }
}
