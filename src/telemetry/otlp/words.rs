//! What is said of a request in the words of OpenTelemetry's conventions, of HTTP and of generative AI, and a few of our own.

use std::sync::Arc;

use http::Method;
use opentelemetry::{KeyValue, StringValue};

use crate::config::Config;
use crate::telemetry::methods;
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

/// What stands for the methods that callers make up.
pub(super) const OTHER_METHOD: &str = "_OTHER";

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
    /// Both as one text.
    both: Arc<str>,
}

impl Places {
    pub(super) fn of(config: &Config) -> Self {
        let endpoint = &config.upstream.endpoint;
        let usual = if *endpoint.scheme() == http::uri::Scheme::HTTP { 80 } else { 443 };
        let authority = endpoint.authority();
        let resource = Place::new(authority.host(), authority.port_u16().unwrap_or(usual));
        let management = &config.management.endpoint;
        let port = management.port_or_known_default().unwrap_or_default();
        Self { resource, management: Place::new(management.host_str().unwrap_or_default(), port) }
    }
}

impl Place {
    fn new(host: &str, port: u16) -> Self {
        let both = format!("{host}:{port}").into();
        Self { host: host.trim_matches(['[', ']']).into(), port: port.into(), both }
    }

    /// Of a span, which is the proxy's: `server.address` would be its own.
    pub(super) fn upstream(&self) -> KeyValue {
        text("aoai_proxy.upstream", self.both.clone())
    }

    /// Of a client's metrics: it is the server.
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

/// A method by its name, if everybody knows it.
pub(super) fn method(method: &Method) -> &'static str {
    methods::name(method).unwrap_or(OTHER_METHOD)
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
