//! `HTTPS_PROXY`, `NO_PROXY` and their kin, for every outgoing connection that may use them.

use std::fmt;

use http::Uri;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use url::Url;

use super::endpoint::server_name;
use super::error::Shown;
use super::{ConfigError, Environment};

/// This machine, in the language of `NO_PROXY`.
const THIS_MACHINE: &str = "localhost,127.0.0.0/8,::1";

/// Which forward proxy an outgoing connection goes through. The variables mean what they mean to curl.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    http: Option<ForwardProxy>,
    https: Option<ForwardProxy>,
    exempt: String,
}

impl Proxies {
    /// Reads the variables, lower case before upper case. `HTTP_PROXY` is not read in upper case where a web server may
    /// have set it from a request (CGI, recognised by `REQUEST_METHOD`).
    ///
    /// What no connection would use is not looked at: `ALL_PROXY` beside both others, or any beside `NO_PROXY=*`.
    pub(super) fn read(environment: &Environment) -> Result<Self, ConfigError> {
        let first = |names: &[&'static str]| {
            names
                .iter()
                .find_map(|name| Some((*name, environment.get(name)?.trim())))
                .filter(|(_, text)| !text.is_empty())
        };
        let exempt = first(&["no_proxy", "NO_PROXY"]).map_or("", |(_, text)| text);
        if exempt.split(',').any(|host| host.trim() == "*") {
            return Ok(Self::default());
        }
        let all = first(&["all_proxy", "ALL_PROXY"]);
        let cgi = environment.get("REQUEST_METHOD").is_some();
        let http = first(if cgi { &["http_proxy"] } else { &["http_proxy", "HTTP_PROXY"] });
        let https = first(&["https_proxy", "HTTPS_PROXY"]);
        let parse = |(variable, text)| ForwardProxy::parse(variable, text);
        Ok(Self {
            http: http.or(all).map(parse).transpose()?,
            https: https.or(all).map(parse).transpose()?,
            exempt: format!("{THIS_MACHINE},{exempt}"),
        })
    }

    /// The rules, ready to be asked.
    #[must_use]
    pub fn rules(&self) -> ProxyRules {
        let text = |proxy: &Option<ForwardProxy>| proxy.as_ref().map_or(String::new(), |proxy| proxy.0.to_string());
        ProxyRules(Matcher::builder().http(text(&self.http)).https(text(&self.https)).no(self.exempt.clone()).build())
    }

    /// Makes a client that is being built go through the same proxies, and read no variable itself.
    ///
    /// # Errors
    ///
    /// If the client's library takes a proxy's address for none.
    pub fn apply(&self, builder: reqwest::ClientBuilder) -> Result<reqwest::ClientBuilder, reqwest::Error> {
        let exempt = || reqwest::NoProxy::from_string(&self.exempt);
        let mut builder = builder.no_proxy();
        if let Some(ForwardProxy(url)) = &self.http {
            builder = builder.proxy(reqwest::Proxy::http(url.clone())?.no_proxy(exempt()));
        }
        if let Some(ForwardProxy(url)) = &self.https {
            builder = builder.proxy(reqwest::Proxy::https(url.clone())?.no_proxy(exempt()));
        }
        Ok(builder)
    }
}

/// The address of a forward proxy, with user and password if it asks for them.
#[derive(Clone)]
struct ForwardProxy(Url);

impl ForwardProxy {
    fn parse(variable: &'static str, text: &str) -> Result<Self, ConfigError> {
        Self::url(text).map(Self).ok_or_else(|| ConfigError::BadValue {
            key: variable.to_owned(),
            value: Shown::url(text),
            layer: "the environment".to_owned(),
            problem: "a forward proxy is spoken to over plain HTTP and no other way: expected http://HOST:PORT or \
                      http://USER:PASSWORD@HOST:PORT. NO_PROXY names the hosts that are reached without it, * being all"
                .to_owned(),
        })
    }

    /// Without a scheme, `http` is meant.
    fn url(text: &str) -> Option<Url> {
        let url = Url::parse(&if text.contains("://") { text.to_owned() } else { format!("http://{text}") }).ok()?;
        let address = url.scheme() == "http" && url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        // Whatever `http` cannot read, the matcher would pass over, and connect directly.
        let understood = url.as_str().parse::<Uri>().is_ok();
        (address && understood && server_name(&url).is_ok()).then_some(url)
    }
}

/// Host and port only.
impl fmt::Debug for ForwardProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.origin().ascii_serialization())
    }
}

/// Says for a destination which proxy leads there.
pub struct ProxyRules(Matcher);

impl ProxyRules {
    /// The proxy for `destination`, if it is not reached directly. This machine always is.
    #[must_use]
    pub fn intercept(&self, destination: &Uri) -> Option<Intercept> {
        self.0.intercept(destination)
    }
}

impl fmt::Debug for ProxyRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyRules")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Proxies, ConfigError> {
        Proxies::read(&variables.iter().copied().collect())
    }

    /// Where the variables make a connection to `destination` go, and what it says there about us.
    fn way(variables: &[(&str, &str)], destination: &str) -> Option<(String, Option<String>)> {
        let intercept = read(variables).expect("proxies").rules().intercept(&destination.parse().expect("a URI"))?;
        let words = intercept.basic_auth().map(|words| words.to_str().expect("text").to_owned());
        Some((intercept.uri().to_string(), words))
    }

    #[test]
    fn each_scheme_has_its_proxy() {
        let both = [("HTTP_PROXY", "http://one:1"), ("HTTPS_PROXY", "two:2")];
        let proxy = |variables, destination| way(variables, destination).map(|(proxy, _)| proxy);
        assert_eq!(proxy(&both, "http://name.invalid/").as_deref(), Some("http://one:1/"));
        assert_eq!(proxy(&both, "https://name.invalid/").as_deref(), Some("http://two:2/"));
        let all = [("ALL_PROXY", "http://one:1"), ("https_proxy", ""), ("HTTPS_PROXY", " two:2 ")];
        assert_eq!(proxy(&all, "http://name.invalid/").as_deref(), Some("http://one:1/"));
        assert_eq!(proxy(&all, "https://name.invalid/").as_deref(), Some("http://two:2/"));
        let twice = [("https_proxy", "http://lower:1"), ("HTTPS_PROXY", "http://upper:1")];
        assert_eq!(proxy(&twice, "https://name.invalid/").as_deref(), Some("http://lower:1/"));
        let cgi = [("HTTP_PROXY", "http://one:1"), ("REQUEST_METHOD", "GET")];
        assert_eq!(proxy(&cgi, "http://name.invalid/"), None);
        assert_eq!(proxy(&[], "https://name.invalid/"), None);
    }

    #[test]
    fn user_and_password_are_for_the_proxy() {
        let (proxy, words) =
            way(&[("HTTPS_PROXY", "http://me:p%40s$!@proxy:1")], "https://name.invalid/").expect("one");
        assert_eq!((proxy.as_str(), words.as_deref()), ("http://proxy:1/", Some("Basic bWU6cEBzJCE=")));
        let (_, words) = way(&[("HTTPS_PROXY", "me:p@s@proxy:1")], "https://name.invalid/").expect("one");
        assert_eq!(words.as_deref(), Some("Basic bWU6cEBz"));
        let proxies = read(&[("ALL_PROXY", "http://me:hunter2@proxy:1")]).expect("proxies");
        assert!(!format!("{proxies:?}").contains("hunter2"), "{proxies:?}");
    }

    #[test]
    fn some_hosts_are_reached_without() {
        let variables = [("ALL_PROXY", "http://proxy:1"), ("NO_PROXY", "azure.com, 10.0.0.0/8")];
        for direct in [
            "https://name.openai.azure.com/",
            "https://10.1.2.3/",
            "http://127.0.0.1:1/",
            "http://localhost/",
            "http://[::1]:1/",
        ] {
            assert!(way(&variables, direct).is_none(), "{direct}");
        }
        assert!(way(&variables, "https://login.microsoftonline.com/").is_some());
        for destination in ["https://name.invalid/", "https://11.0.0.1/"] {
            assert!(way(&[("ALL_PROXY", "http://proxy:1"), ("NO_PROXY", "*")], destination).is_none());
        }
    }

    #[test]
    fn what_is_no_plain_http_proxy_is_refused() {
        for text in [
            "https://proxy:1",
            "socks5://proxy:1",
            "socks5h://me:hunter2@proxy:1",
            "http://",
            "http://me:hunter2@",
            "http://proxy:port",
            "proxy:99999",
            "http://$PROXY:3128",
            "http://proxy:1/path",
            "http://me:hun/ter2@proxy:1",
            "http://me:hun#hunter2@proxy:1",
            "two words",
        ] {
            let refused = read(&[("HTTPS_PROXY", text)]).expect_err(text).to_string();
            assert!(refused.starts_with("`HTTPS_PROXY` = ") && refused.contains("NO_PROXY"), "{refused}");
            assert!(!refused.contains("ter2"), "{refused}");
        }
        let unused = [("ALL_PROXY", "socks5://proxy:1"), ("HTTP_PROXY", "proxy:1"), ("HTTPS_PROXY", "proxy:1")];
        assert!(read(&unused).is_ok());
        assert!(read(&unused[..2]).is_err(), "connections with TLS would use it");
        assert!(read(&[unused[0], ("NO_PROXY", "*")]).is_ok());
    }
}
