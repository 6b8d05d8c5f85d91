//! What is said of a request in the words of OpenTelemetry's conventions, of HTTP and of generative AI, and a few of our own.

use std::sync::Arc;

use http::Method;
use opentelemetry::{KeyValue, StringValue};
use url::Url;

use crate::config::Config;
use crate::telemetry::recorder::{Finished, Outcome};

/// Whose the resource's models are.
pub(super) const PROVIDER: (&str, &str) = ("gen_ai.provider.name", "azure.ai.openai");
/// The proxy speaks to callers without TLS.
pub(super) const SCHEME: (&str, &str) = ("url.scheme", "http");

pub(super) const APP: &str = "aoai_proxy.app";
pub(super) const ERROR: &str = "error.type";
pub(super) const METHOD: &str = "http.request.method";
pub(super) const MODEL: &str = "gen_ai.request.model";
pub(super) const OPERATION: &str = "gen_ai.operation.name";
pub(super) const ROUTE: &str = "http.route";
pub(super) const STATUS: &str = "http.response.status_code";
pub(super) const VERSION: &str = "network.protocol.version";

/// Where requests are answered.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) resource: Place,
    pub(super) management: Place,
}

/// Host and port.
#[derive(Debug)]
pub(super) struct Place {
    host: Arc<str>,
    port: i64,
}

impl Places {
    pub(super) fn of(config: &Config) -> Self {
        let endpoint = &config.upstream.endpoint;
        let usual = if *endpoint.scheme() == http::uri::Scheme::HTTP { 80 } else { 443 };
        let host = endpoint.authority().host().trim_matches(['[', ']']);
        let resource = Place { host: host.into(), port: endpoint.authority().port_u16().unwrap_or(usual).into() };
        Self { resource, management: Place::of(&config.management.endpoint) }
    }
}

impl Place {
    fn of(url: &Url) -> Self {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        Self { host: host.into(), port: url.port_or_known_default().unwrap_or_default().into() }
    }

    pub(super) fn attributes(&self) -> [KeyValue; 2] {
        [text("server.address", self.host.clone()), KeyValue::new("server.port", self.port)]
    }
}

/// An attribute that is a text.
pub(super) fn text(name: &'static str, value: impl Into<StringValue>) -> KeyValue {
    KeyValue::new(name, value.into())
}

/// An attribute that is always the same.
pub(super) fn fixed((name, value): (&'static str, &'static str)) -> KeyValue {
    KeyValue::new(name, value)
}

/// A method by its name, if it is one that everybody knows: callers may make some up.
pub(super) fn method(method: &Method) -> &'static str {
    METHODS.get(method_number(method)).copied().unwrap_or("_OTHER")
}

/// All that there are names for, and what stands for the rest.
pub(super) const METHODS: [&str; 10] =
    ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE", "_OTHER"];

/// Where a method stands among [`METHODS`].
pub(super) fn method_number(method: &Method) -> usize {
    let known = METHODS.iter().position(|name| *name == method.as_str());
    known.unwrap_or(METHODS.len() - 1)
}

/// What went wrong, in a word of ours or by the status, if anything did. Refusals of the resource are failures of whoever asked
/// for a model's answer.
pub(super) fn error(request: &Finished<'_>) -> Option<StringValue> {
    if !request.went_wrong() {
        return None;
    }
    match (request.outcome, request.code, request.status) {
        (Outcome::BrokeOff, ..) => Some(Outcome::BrokeOff.as_str().into()),
        (_, Some(code), _) => Some(code.into()),
        (_, None, status) => status.map(|status| status.as_str().to_owned().into()),
    }
}

/// Whether it is the server's fault: a refusal is the caller's, and no failed span of a server.
pub(super) fn is_failure(request: &Finished<'_>) -> bool {
    request.outcome == Outcome::BrokeOff || request.status.is_some_and(|status| status.is_server_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_that_callers_make_up_have_one_name() {
        assert_eq!(method(&Method::GET), "GET");
        assert_eq!(method(&Method::from_bytes(b"BREW").unwrap()), "_OTHER");
        assert_eq!(method(&Method::from_bytes(b"get").unwrap()), "_OTHER");
    }
}
