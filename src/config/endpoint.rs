//! The addresses that a configuration may name: the resource's endpoint and the services around it.

use std::net::IpAddr;

use http::uri::{Authority, Scheme};
use serde::Deserialize;
use url::{Host, Url};

/// Where the resource is: scheme, authority, and what its paths begin with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Endpoint {
    scheme: Scheme,
    authority: Authority,
    prefix: String,
}

impl Endpoint {
    /// Reads `https://NAME.openai.azure.com`, with or without a trailing `/`, `/openai` or `/openai/v1`.
    ///
    /// A path before that is kept: Foundry projects live under `/api/projects/NAME`, and gateways under paths of their own.
    ///
    /// # Errors
    ///
    /// Says what would be right if the text is no URL, names a scheme other than `https` (`http` for a loopback host), or
    /// carries a user, a query or a fragment.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = service_url(text)?;
        let path = url.path().trim_end_matches('/');
        let path = path.strip_suffix("/openai/v1").or_else(|| path.strip_suffix("/openai")).unwrap_or(path);
        if path.contains("..") || path.contains("//") || path.contains('%') {
            return Err("the path must be plain: no `..`, `//` or `%`".to_owned());
        }
        let authority = url.authority().parse().map_err(|_| "the host is not one that HTTP can name".to_owned())?;
        let scheme = if url.scheme() == "http" { Scheme::HTTP } else { Scheme::HTTPS };
        Ok(Self { scheme, authority, prefix: path.to_owned() })
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
    let url = plain_url(text)?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if url.host().is_some_and(|host| host_is_loopback(&host)) => Ok(url),
        "http" => Err("must begin with https://; http:// is for a loopback host only".to_owned()),
        other => Err(format!("must begin with https://, not {other}://")),
    }
}

/// Reads the address of the metadata service, which speaks plain HTTP on a link-local address.
pub(super) fn metadata_url(text: &str) -> Result<Url, String> {
    let url = plain_url(text)?;
    if matches!(url.scheme(), "http" | "https") { Ok(url) } else { Err("must begin with http://".to_owned()) }
}

/// Whether `host`, as an authority writes it, is this machine.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    Host::parse(host).is_ok_and(|host| host_is_loopback(&host))
}

fn host_is_loopback<S: AsRef<str>>(host: &Host<S>) -> bool {
    match host {
        Host::Domain(name) => name.as_ref().eq_ignore_ascii_case("localhost"),
        Host::Ipv4(address) => IpAddr::from(*address).is_loopback(),
        Host::Ipv6(address) => IpAddr::from(*address).is_loopback(),
    }
}

fn plain_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text.trim()).map_err(|error| format!("is not a URL ({error}); expected https://HOST"))?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err("names no host; expected https://HOST".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not carry a user name or password".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not carry a query or a fragment".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_people_paste_mean_the_same() {
        for text in ["", "/", "/openai", "/openai/", "/openai/v1", "/openai/v1/"] {
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
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }
}
