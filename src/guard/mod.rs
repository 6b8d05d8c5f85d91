//! Who may call. A loopback address keeps other machines out; this keeps out the web pages in this machine's browsers,
//! which reach loopback addresses as well as any program does.

use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderName, Method, Request};

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
    if let Some(authority) = request.uri().authority() {
        return if is_ours(authority) { Ok(()) } else { Err(ProxyError::InvalidPath("names another host")) };
    }
    match field.map(Authority::try_from) {
        None => Err(ProxyError::InvalidRequest("the request has no Host".into())),
        Some(Ok(authority)) if is_ours(&authority) => Ok(()),
        Some(_) => Err(ProxyError::HostDenied),
    }
}

/// Exact names, any port. A trailing dot, a user or anything else that only looks like one of ours is another name.
fn is_ours(authority: &Authority) -> bool {
    let host = authority.host();
    !authority.as_str().contains('@') && ALLOWED_HOSTS.iter().any(|allowed| allowed.eq_ignore_ascii_case(host))
}

/// Browsers name the origin of every request that could do harm, and say whether its page is of the same site.
fn check_origin<B>(request: &Request<B>) -> Result<(), ProxyError> {
    let fields = request.headers();
    let same_site = |value: &http::HeaderValue| matches!(value.as_bytes(), b"same-origin" | b"none");
    if fields.contains_key(ORIGIN) || !fields.get_all(SEC_FETCH_SITE).iter().all(same_site) {
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
    fn web_pages_are_turned_away() {
        for origin in ["https://evil.com", "null", "http://localhost:3000", "http://localhost"] {
            assert_eq!(code("/v1/models", &[("host", "localhost"), ("origin", origin)]), "origin_denied", "{origin}");
        }
        for site in ["cross-site", "same-site", "nonsense"] {
            assert_eq!(
                code("/v1/models", &[("host", "localhost"), ("sec-fetch-site", site)]),
                "origin_denied",
                "{site}"
            );
        }
        for site in ["none", "same-origin"] {
            assert_eq!(code("/", &[("host", "localhost"), ("sec-fetch-site", site)]), "admitted", "{site}");
        }
        let twice = [("host", "localhost"), ("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")];
        assert_eq!(code("/", &twice), "origin_denied");
    }
}
