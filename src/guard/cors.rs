//! What a browser must be told before it lets a web page call and read the answer (the Fetch standard's CORS protocol,
//! <https://fetch.spec.whatwg.org/#http-cors-protocol>).

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, VARY,
};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
/// Seconds for which a browser need not ask again.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
/// A page on a public address asks for one on this machine (<https://wicg.github.io/private-network-access/>).
const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// A web page's origin that is allowed.
#[derive(Debug, Clone)]
pub struct Cors {
    origin: HeaderValue,
}

impl Cors {
    pub(super) fn new(origin: HeaderValue) -> Self {
        Self { origin }
    }

    /// The answer if the request only asks whether another would be allowed.
    #[must_use]
    pub fn preflight<B, C: Default>(&self, request: &Request<B>) -> Option<Response<C>> {
        let asked = request.headers();
        if request.method() != Method::OPTIONS || !asked.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
            return None;
        }
        let mut response = Response::new(C::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let fields = response.headers_mut();
        fields.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        fields.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        // Whatever fields it wants to send: those that must not pass are removed from the request itself.
        if let Some(names) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            fields.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
        if asked.get(REQUEST_PRIVATE_NETWORK).is_some_and(|wanted| wanted == "true") {
            fields.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
        }
        Some(response)
    }

    /// Lets the page read a response and all of its fields. What the resource says to browsers is meant for pages that call
    /// it, and is removed. Credentials that a browser adds by itself are never allowed: none are of use here.
    pub fn allow(&self, is_preflight: bool, fields: &mut HeaderMap) {
        if !is_preflight {
            let its_own: Vec<_> =
                fields.keys().filter(|name| name.as_str().starts_with("access-control-")).cloned().collect();
            for name in its_own {
                fields.remove(name);
            }
            let exposed: Vec<&str> =
                fields.keys().map(HeaderName::as_str).filter(|name| must_be_exposed(name)).collect();
            // Names joined by commas are a value.
            if let Some(exposed) = HeaderValue::try_from(exposed.join(", ")).ok().filter(|names| !names.is_empty()) {
                fields.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
            }
        }
        fields.insert(ACCESS_CONTROL_ALLOW_ORIGIN, self.origin.clone());
        fields.append(VARY, HeaderValue::from_static("origin"));
    }
}

/// Whether a page sees a field only if it is told that it may (CORS-safelisted response-header names), and ever.
fn must_be_exposed(name: &str) -> bool {
    !matches!(
        name,
        "cache-control"
            | "content-language"
            | "content-length"
            | "content-type"
            | "expires"
            | "last-modified"
            | "pragma"
    ) && !matches!(name, "connection" | "set-cookie" | "transfer-encoding" | "upgrade" | "vary")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect()
    }

    fn cors() -> Cors {
        Cors::new(HeaderValue::from_static("https://app.example"))
    }

    fn preflight(method: &Method, lines: &[(&'static str, &'static str)]) -> Option<Response<()>> {
        let mut request = Request::new(());
        *request.method_mut() = method.clone();
        *request.headers_mut() = fields(lines);
        cors().preflight(&request)
    }

    #[test]
    fn a_preflight_is_told_what_it_asks_for() {
        let asked = [
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization,content-type"),
            ("access-control-request-private-network", "true"),
        ];
        let mut response = preflight(&Method::OPTIONS, &asked).expect("a preflight");
        cors().allow(true, response.headers_mut());
        assert_eq!(response.status(), 204);
        let told = |name: &str| response.headers()[name].to_str().expect("text").to_owned();
        assert_eq!(told("access-control-allow-origin"), "https://app.example");
        assert_eq!(told("access-control-allow-headers"), "authorization,content-type");
        assert_eq!(told("access-control-allow-methods"), "GET, HEAD, POST, PUT, PATCH, DELETE");
        assert_eq!(told("access-control-allow-private-network"), "true");
        assert_eq!(told("vary"), "origin");
        assert!(!response.headers().contains_key("access-control-allow-credentials"));
        assert!(preflight(&Method::OPTIONS, &[]).is_none());
        assert!(preflight(&Method::POST, &asked).is_none());
    }

    #[test]
    fn a_page_reads_every_field_and_no_other_page_does() {
        let mut response = fields(&[
            ("content-type", "application/json"),
            ("x-request-id", "1"),
            ("apim-request-id", "2"),
            ("vary", "accept-encoding"),
            ("set-cookie", "a=1"),
            ("access-control-allow-origin", "*"),
            ("access-control-allow-credentials", "true"),
        ]);
        cors().allow(false, &mut response);
        assert_eq!(response["access-control-expose-headers"], "x-request-id, apim-request-id");
        let origins: Vec<_> = response.get_all("access-control-allow-origin").iter().collect();
        assert_eq!(origins, ["https://app.example"]);
        assert!(!response.contains_key("access-control-allow-credentials"));
        assert_eq!(response.get_all("vary").iter().collect::<Vec<_>>(), ["accept-encoding", "origin"]);
    }
}
