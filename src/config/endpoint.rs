//! The addresses that a configuration may name: the resource's endpoint and the services around it.

use std::net::IpAddr;

use http::uri::{Authority, Scheme};
use rustls::pki_types::{DnsName, ServerName};
use serde::Deserialize;
use url::{Host, ParseError, Url};

/// Where the resource is: scheme, authority, and what its paths begin with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Endpoint {
    scheme: Scheme,
    authority: Authority,
    server_name: ServerName<'static>,
    prefix: String,
}

impl Endpoint {
    /// Reads `https://NAME.openai.azure.com`, with or without a trailing `/`, `/openai` or `/openai/v1`.
    ///
    /// A path before that is kept: Foundry projects live under `/api/projects/NAME`, and gateways under paths of their own.
    ///
    /// # Errors
    ///
    /// Says what would be right if the text is no URL, names a scheme other than `https` (`http` for a loopback host) or a
    /// host that DNS cannot name, carries a user, a query or a fragment, or is what one operation is asked at.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (url, server_name) = service(text)?;
        let path = url.path().trim_end_matches('/');
        let path = path.strip_suffix("/openai/v1").or_else(|| path.strip_suffix("/openai")).unwrap_or(path);
        let path = path.trim_end_matches('/');
        if ["/openai/deployments", "/openai/v1/"].iter().any(|inside| path.contains(inside)) {
            return Err(
                "is the address of one deployment or operation; expected the resource's, like https://NAME.openai.azure.com. \
                 A request names its deployment as its model"
                    .to_owned(),
            );
        }
        if path.contains("..") || path.contains("//") || path.contains('%') {
            return Err("the path must be plain: no `..`, `//` or `%`".to_owned());
        }
        let authority = url.authority().parse().map_err(|_| "the host is not one that HTTP can name".to_owned())?;
        let scheme = if url.scheme() == "http" { Scheme::HTTP } else { Scheme::HTTPS };
        Ok(Self { scheme, authority, server_name, prefix: path.to_owned() })
    }

    /// `https`, or `http` for a loopback host.
    #[must_use]
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Host and, if it is not the scheme's own, port.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The name that the resource's certificate must carry.
    #[must_use]
    pub fn server_name(&self) -> &ServerName<'static> {
        &self.server_name
    }

    /// What every path on the resource begins with: mostly nothing.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether this is a Foundry project rather than a whole resource.
    #[must_use]
    pub fn is_foundry_project(&self) -> bool {
        self.prefix.starts_with("/api/projects/")
    }

    /// Whether the resource is on this machine (an emulator).
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(self.authority.host())
    }
}

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.prefix)
    }
}

/// Reads the address of a service: `https`, or `http` for a loopback host.
pub(super) fn service_url(text: &str) -> Result<Url, String> {
    service(text).map(|(url, _)| url)
}

fn service(text: &str) -> Result<(Url, ServerName<'static>), String> {
    let (url, server_name) = plain_url(text)?;
    match url.scheme() {
        "https" => Ok((url, server_name)),
        "http" if url.host().is_some_and(|host| host_is_loopback(&host)) => Ok((url, server_name)),
        "http" => Err("must begin with https://; http:// is for a loopback host only".to_owned()),
        other => Err(format!("must begin with https://, not {other}://")),
    }
}

/// Reads the address of Entra, which is never asked over plain HTTP and whose paths begin with the tenant.
pub(super) fn authority_url(text: &str) -> Result<Url, String> {
    let (url, _) = plain_url(text)?;
    match (url.scheme(), url.path()) {
        ("https", "/") => Ok(url),
        ("https", _) => Err("must not carry a path: the tenant goes there; expected https://HOST".to_owned()),
        (other, _) => Err(format!("must begin with https://, not {other}://")),
    }
}

/// Reads the address of the metadata service, which speaks plain HTTP on a link-local address.
pub(super) fn metadata_url(text: &str) -> Result<Url, String> {
    let (url, _) = plain_url(text)?;
    if matches!(url.scheme(), "http" | "https") { Ok(url) } else { Err("must begin with http://".to_owned()) }
}

/// Reads the address of a collector. In a cluster these mostly speak plain HTTP, and no token of ours goes there.
pub(super) fn collector_url(text: &str) -> Result<Url, String> {
    let expected = "expected http://HOST:4318 or https://HOST, without /v1/traces";
    if !text.contains("://") {
        return Err(format!("begins with no scheme; {expected}"));
    }
    let (url, _) = plain_url(text)?;
    let path = url.path().trim_end_matches('/');
    match url.scheme() {
        "http" | "https" if !["/v1/traces", "/v1/metrics", "/v1/logs"].iter().any(|one| path.ends_with(one)) => Ok(url),
        "http" | "https" => Err(format!("is the address of one kind of data; {expected}")),
        other => Err(format!("must begin with http:// or https://, not {other}; {expected}")),
    }
}

/// Whether `host`, as an authority writes it, is this machine.
#[must_use]
pub(super) fn is_loopback(host: &str) -> bool {
    Host::parse(host).is_ok_and(|host| host_is_loopback(&host))
}

fn host_is_loopback<S: AsRef<str>>(host: &Host<S>) -> bool {
    match host {
        Host::Domain(name) => name.as_ref().eq_ignore_ascii_case("localhost"),
        Host::Ipv4(address) => IpAddr::from(*address).is_loopback(),
        Host::Ipv6(address) => IpAddr::from(*address).is_loopback(),
    }
}

fn plain_url(text: &str) -> Result<(Url, ServerName<'static>), String> {
    let url = Url::parse(text.trim()).map_err(|error| match error {
        ParseError::RelativeUrlWithoutBase => "begins with no scheme; expected https://HOST".to_owned(),
        error => format!("is not a URL ({error}); expected https://HOST"),
    })?;
    let server_name = server_name(&url)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not carry a user name or password".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not carry a query or a fragment; expected https://HOST".to_owned());
    }
    Ok((url, server_name))
}

/// Who is asked for at the other end: a URL's host may hold what no DNS name can.
pub(super) fn server_name(url: &Url) -> Result<ServerName<'static>, String> {
    match url.host() {
        None => Err("names no host; expected https://HOST".to_owned()),
        Some(Host::Ipv4(address)) => Ok(address.into()),
        Some(Host::Ipv6(address)) => Ok(address.into()),
        Some(Host::Domain(name)) => DnsName::try_from(name.to_owned())
            .map(ServerName::DnsName)
            .map_err(|_| "names a host that is no DNS name; was a variable left unreplaced in it?".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_people_paste_mean_the_same() {
        for text in ["", "/", "//", "/openai", "/openai/", "/openai/v1", "/openai/v1/", "//openai/v1", "///openai//"] {
            let endpoint = Endpoint::parse(&format!("https://Name.openai.azure.com{text}")).expect(text);
            assert_eq!(endpoint.to_string(), "https://name.openai.azure.com");
        }
    }

    #[test]
    fn a_project_keeps_its_path() {
        let endpoint = Endpoint::parse("https://r.services.ai.azure.com/api/projects/p/openai/v1").expect("a project");
        assert_eq!(endpoint.prefix(), "/api/projects/p");
        assert!(endpoint.is_foundry_project());
    }

    #[test]
    fn plain_http_is_for_this_machine() {
        for text in ["http://127.0.0.1:1", "http://localhost:1/openai", "http://[::1]:1"] {
            assert!(Endpoint::parse(text).expect(text).is_loopback());
        }
        for text in [
            "http://name.openai.azure.com",
            "http://127.0.0.1.evil.com",
            "http://10.0.0.1",
            "http://localhost.evil.com",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for text in [
            "",
            "name.openai.azure.com",
            "ftp://h",
            "https://",
            "https://u:p@h",
            "https://h?x=1",
            "https://h#f",
            "https://h/a%2fb",
            "https://h//a",
            "https://h/openai//v1",
            "https://$NAME.openai.azure.com",
            "https://name..openai.azure.com",
            "https://-name.openai.azure.com",
            "https://name.1",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_collector_is_asked_over_http_too() {
        for text in ["http://collector:4318", "https://collector.example/otlp/", "http://10.0.0.1:4318"] {
            assert!(collector_url(text).is_ok(), "{text}");
        }
        for text in
            ["collector:4317", "grpc://collector", "http://c:4318/v1/traces", "http://c/v1/metrics/", "http://u:p@c"]
        {
            assert!(collector_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_certificate_must_carry_the_host() {
        for (text, name) in [
            ("https://Name.openai.azure.com", "name.openai.azure.com"),
            ("https://name.openai.azure.com:8443/openai", "name.openai.azure.com"),
            ("https://my_name.internal", "my_name.internal"),
            ("https://127.0.0.1:1", "127.0.0.1"),
            ("https://[::1]:1", "::1"),
        ] {
            assert_eq!(Endpoint::parse(text).expect(text).server_name().to_str(), name);
        }
    }

    #[test]
    fn entra_is_a_host_that_speaks_tls() {
        assert!(authority_url("https://login.microsoftonline.com").is_ok());
        assert!(authority_url("https://127.0.0.1:1/").is_ok());
        for text in
            ["http://127.0.0.1:1", "https://h/tenant", "https://h?x", "https://h..x", "login.microsoftonline.com"]
        {
            assert!(authority_url(text).is_err(), "{text}");
        }
    }
}
