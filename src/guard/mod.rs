//! Who may call at all. A loopback address keeps other machines out; this keeps out the web pages in this machine's
//! browsers, which reach loopback addresses as well as any program does.

mod cors;

use std::net::{Ipv4Addr, Ipv6Addr};

use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderName, HeaderValue, Method, Request, Version};

use crate::config::{self, HostName, Origin};
use crate::error::ProxyError;
use crate::forward::target;

pub use cors::Cors;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The names that are answered to, and the web pages that may call.
#[derive(Debug)]
pub struct Guard {
    /// Any other name that leads here was made to (DNS rebinding).
    hosts: Vec<HostName>,
    /// Whether any address is answered to besides: an address leads where it says, whoever wrote it.
    takes_addresses: bool,
    origins: Vec<Origin>,
}

/// The name that is answered to wherever probes are.
const LOCALHOST: &str = "localhost";

impl Guard {
    /// As configured.
    #[must_use]
    pub fn new(access: &config::Access) -> Self {
        Self { hosts: access.hosts.clone(), takes_addresses: false, origins: access.origins.clone() }
    }

    /// For the listener for probes: whoever asks a pod or a machine names it by its address, and no web page has a reason to.
    #[must_use]
    pub fn of_admin(access: &config::Access) -> Self {
        let mut hosts = access.hosts.clone();
        if let (false, Ok(localhost)) = (hosts.iter().any(|host| host.as_str() == LOCALHOST), LOCALHOST.parse()) {
            hosts.push(localhost);
        }
        Self { hosts, takes_addresses: true, origins: Vec::new() }
    }

    /// Lets a request in or says why not. What comes from a web page that may call is answered with the fields that its
    /// browser wants.
    ///
    /// # Errors
    ///
    /// [`ProxyError::InvalidPath`] for a tunnel, [`ProxyError::HostDenied`] for a request to another name than the proxy's,
    /// [`ProxyError::OriginDenied`] for one that a web page makes which may not.
    pub fn admit<B>(&self, request: &Request<B>) -> Result<Option<Cors>, ProxyError> {
        // Names of methods differ by case (RFC 9110 §9.1), and yet some servers take these for the same.
        let is = |method: Method| request.method().as_str().eq_ignore_ascii_case(method.as_str());
        if is(Method::CONNECT) {
            return Err(ProxyError::InvalidPath("asks for a tunnel; this is no forward proxy"));
        }
        if is(Method::TRACE) {
            // Whoever answers a TRACE sends back what it got (RFC 9110 §9.3.8): our token, to the caller.
            let of_the_resource = target::is_of_the_resource(request.uri().path());
            let allowed = if of_the_resource { "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS" } else { "GET, HEAD" };
            return Err(ProxyError::MethodNotAllowed { allowed });
        }
        self.check_host(request)?;
        self.check_origin(request)
    }

    /// The host that is asked, from the target if that names one (RFC 9112 §3.2.2), else from `Host`, must be one of ours.
    fn check_host<B>(&self, request: &Request<B>) -> Result<(), ProxyError> {
        let mut named = request.headers().get_all(HOST).iter();
        let field = match (named.next(), named.next()) {
            (None, _) => None,
            (Some(one), None) => Some(one.to_str()),
            (Some(_), Some(_)) => return Err(ProxyError::InvalidRequest("the request has more than one Host".into())),
        };
        match (request.uri().authority().map(Authority::as_str), field) {
            // HTTP/2 says in `:authority` what HTTP/1.1 says in `Host`; a `Host` besides must say the same (RFC 9113 §8.3.1).
            (Some(authority), None) if self.is_ours(authority) => Ok(()),
            (Some(authority), Some(Ok(host))) if self.is_ours(authority) && self.is_ours(host) => Ok(()),
            (Some(_), _) if request.version() != Version::HTTP_2 => Err(ProxyError::InvalidPath("names another host")),
            (None, Some(Ok(host))) if self.is_ours(host) => Ok(()),
            (None, None) => Err(ProxyError::InvalidRequest("the request has no Host".into())),
            (_, _) => Err(self.denied()),
        }
    }

    /// Exact names, any port. A trailing dot, a user or anything else that only looks like one of ours is another name; the
    /// library takes `[::1].example` for `[::1]`.
    fn is_ours(&self, named: &str) -> bool {
        let (host, port) = match named.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (named, ""),
        };
        port.bytes().all(|byte| byte.is_ascii_digit())
            && (self.hosts.iter().any(|allowed| allowed.as_str().eq_ignore_ascii_case(host))
                || self.takes_addresses && is_address(host))
    }

    fn denied(&self) -> ProxyError {
        let addresses = self.takes_addresses.then_some("any address");
        let allowed: Vec<&str> = self.hosts.iter().map(HostName::as_str).chain(addresses).collect();
        ProxyError::HostDenied { allowed: allowed.join(", ") }
    }

    /// Browsers name the origin of every request that could do harm, and say where its page is from. A page of the same site
    /// is not of the same origin: another port of this machine may be another user's.
    fn check_origin<B>(&self, request: &Request<B>) -> Result<Option<Cors>, ProxyError> {
        let fields = request.headers();
        let mut origins = fields.get_all(ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, _) => {
                let own = |value: &HeaderValue| matches!(value.as_bytes(), b"none" | b"same-origin");
                let is_own = fields.get_all(SEC_FETCH_SITE).iter().all(own);
                if is_own { Ok(None) } else { Err(ProxyError::OriginDenied) }
            }
            (Some(origin), None)
                if self.origins.iter().any(|allowed| allowed.as_str().as_bytes() == origin.as_bytes()) =>
            {
                Ok(Some(Cors::new(origin.clone())))
            }
            (Some(_), _) => Err(ProxyError::OriginDenied),
        }
    }
}

/// Whether a URL's host is an address, as browsers and probes write one.
fn is_address(host: &str) -> bool {
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    bracketed.map_or_else(|| host.parse::<Ipv4Addr>().is_ok(), |host| host.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(origins: &[&str]) -> Guard {
        let hosts = ["localhost", "127.0.0.1", "[::1]"].map(|host| host.parse().expect("a host"));
        let origins = origins.iter().map(|origin| origin.parse().expect("an origin"));
        Guard { hosts: hosts.into(), takes_addresses: false, origins: origins.collect() }
    }

    fn request(target: &str, fields: &[(&str, &str)]) -> Request<()> {
        let builder = Request::builder().uri(target);
        fields.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value)).body(()).expect("a request")
    }

    fn code(target: &str, fields: &[(&str, &str)]) -> &'static str {
        guard(&[]).admit(&request(target, fields)).map_or_else(|error| error.code(), |_| "admitted")
    }

    #[test]
    fn only_this_machines_names_are_answered() {
        for host in ["localhost", "localhost:8642", "LOCALHOST", "127.0.0.1:1", "[::1]:8642", "[::1]", "localhost:"] {
            assert_eq!(code("/v1/models", &[("host", host)]), "admitted", "{host}");
        }
        for host in [
            "127.0.0.1.evil.com",
            "localhost.evil.com",
            "evil.com",
            "evil.com:localhost",
            "localhost.",
            "127.0.0.1.",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0.0.0.0",
            "[::ffff:127.0.0.1]",
            "[0:0:0:0:0:0:0:1]",
            "[::1",
            "::1",
            "::1]",
            "[::1].evil.com",
            "[::1].evil.com:80",
            "[::1]x",
            "[::1%25lo]",
            "localhost:80:80",
            "localhost:8o",
            "localhost:-1",
            "a@localhost",
            "localhost@evil.com",
            "localhost/",
            "localhost#",
            "localhost,evil.com",
            "",
            ":8642",
            "local host",
            "127.0.0.2",
            "lоcalhost",
        ] {
            assert_eq!(code("/v1/models", &[("host", host)]), "host_denied", "{host}");
        }
    }

    #[test]
    fn probes_name_an_address_and_web_pages_cannot() {
        let access = config::Access {
            hosts: vec!["proxy.internal".parse().expect("a host")],
            origins: vec!["https://app.example".parse().expect("an origin")],
            peer_users: config::PeerUsers::Any,
            require_key: false,
        };
        let guard = Guard::of_admin(&access);
        let code = |fields: &[(&str, &str)]| {
            guard.admit(&request("/readyz", fields)).map_or_else(|error| error.code(), |_| "admitted")
        };
        for host in [
            "10.1.2.3:8643",
            "10.1.2.3",
            "[fd00::1]:8643",
            "[::1]",
            "127.0.0.1",
            "0.0.0.0:1",
            "localhost",
            "Proxy.Internal:1",
        ] {
            assert_eq!(code(&[("host", host)]), "admitted", "{host}");
        }
        for host in [
            "evil.com",
            "10.1.2.3.evil.com",
            "10.1.2",
            "0x7f000001",
            "2130706433",
            "[::1%25lo]",
            "[::1].evil.com",
            "::1",
            "",
        ] {
            assert_eq!(code(&[("host", host)]), "host_denied", "{host}");
        }
        for field in [("origin", "https://app.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")] {
            assert_eq!(code(&[("host", "10.1.2.3"), field]), "origin_denied", "{field:?}");
        }
    }

    #[test]
    fn a_request_has_one_host() {
        assert_eq!(code("/v1/models", &[]), "invalid_request");
        assert_eq!(code("/v1/models", &[("host", "localhost"), ("host", "evil.com")]), "invalid_request");
        assert_eq!(code("/v1/models", &[("host", "localhost"), ("host", "localhost")]), "invalid_request");
        assert_eq!(code("http://evil.com/v1/models", &[("host", "localhost")]), "invalid_path");
        assert_eq!(code("http://localhost:1/v1/models", &[("host", "localhost")]), "admitted");
        assert_eq!(code("http://localhost:1/v1/models", &[("host", "evil.com")]), "invalid_path");
        assert_eq!(code("http://u@localhost/v1/models", &[("host", "localhost")]), "invalid_path");
    }

    #[test]
    fn http2_names_the_host_in_its_authority() {
        let code = |target: &str, host: Option<&str>| {
            let mut request = request(target, &host.map(|host| ("host", host)).into_iter().collect::<Vec<_>>());
            *request.version_mut() = Version::HTTP_2;
            guard(&[]).admit(&request).map_or_else(|error| error.code(), |_| "admitted")
        };
        assert_eq!(code("http://localhost/v1/models", None), "admitted");
        assert_eq!(code("http://localhost/v1/models", Some("127.0.0.1")), "admitted");
        assert_eq!(code("http://evil.com/v1/models", None), "host_denied");
        assert_eq!(code("http://localhost/v1/models", Some("evil.com")), "host_denied");
    }

    #[test]
    fn nothing_is_reflected_and_nothing_tunnelled() {
        let oddly = ["trace", "Connect"].map(|method| Method::from_bytes(method.as_bytes()).expect("a method"));
        for method in [Method::TRACE, Method::CONNECT].into_iter().chain(oddly) {
            let mut request = request("/v1/models", &[("host", "localhost")]);
            *request.method_mut() = method;
            assert!(guard(&[]).admit(&request).is_err());
        }
    }

    #[test]
    fn web_pages_are_turned_away() {
        for origin in
            ["https://evil.com", "null", "", "http://localhost:3000", "http://localhost", "http://localhost:8642"]
        {
            assert_eq!(code("/v1/models", &[("host", "localhost"), ("origin", origin)]), "origin_denied", "{origin}");
        }
        for site in ["cross-site", "same-site", "nonsense", "", "none, cross-site", "None"] {
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

    #[test]
    fn a_listed_origin_is_the_very_same() {
        let code = |fields: &[(&str, &str)]| {
            let fields: Vec<_> = [&[("host", "localhost")], fields].concat();
            let guard = guard(&["https://app.example", "http://localhost:3000"]);
            guard.admit(&request("/v1/models", &fields)).map_or_else(
                |error| error.code(),
                |cors| match cors {
                    Some(_) => "cors",
                    None => "admitted",
                },
            )
        };
        for origin in ["https://app.example", "http://localhost:3000"] {
            assert_eq!(code(&[("origin", origin), ("sec-fetch-site", "cross-site")]), "cors", "{origin}");
        }
        assert_eq!(code(&[]), "admitted");
        for origin in [
            "http://app.example",
            "https://app.example.evil.com",
            "https://app.example:443",
            "https://app.example/",
            "https://APP.example",
            "https://evil.com https://app.example",
            "https://xapp.example",
            "http://localhost",
            "http://localhost:30000",
            "null",
        ] {
            assert_eq!(code(&[("origin", origin)]), "origin_denied", "{origin}");
        }
        assert_eq!(code(&[("origin", "https://app.example"), ("origin", "https://evil.com")]), "origin_denied");
        assert_eq!(code(&[("origin", "https://app.example"), ("origin", "https://app.example")]), "origin_denied");
        assert_eq!(code(&[("sec-fetch-site", "cross-site")]), "origin_denied", "no origin says whose page it is");
    }
}
