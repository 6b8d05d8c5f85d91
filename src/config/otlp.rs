//! Where traces and metrics go, and how: `telemetry.otlp_endpoint`, and the standard variables of OpenTelemetry around it.
//!
//! These variables are meant for every program of a place, some of which speak what this one does not. One that means nothing
//! here keeps nothing from starting: it is told, and what it says is left out of account.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use url::Url;

use super::Environment;
use super::endpoint::collector_url;
use super::error::{ConfigError, Shown, printable};
use super::layers::Layers;

/// The variables that are read, but for the one of the key.
pub(super) const VARIABLES: [&str; 13] = [
    "OTEL_SDK_DISABLED",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    HEADERS,
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_TRACES_EXPORTER",
    "OTEL_METRICS_EXPORTER",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_METRIC_EXPORT_INTERVAL",
];

/// The key of the endpoint, and the variable that names it to every program of a place.
const KEY: &str = "telemetry.otlp_endpoint";
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// Fields for the collector, which are as good as a key.
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";

const SERVICE_NAME: &str = "service.name";

/// Where traces and metrics go, and how.
#[derive(Debug, Clone)]
pub struct Otlp {
    /// `telemetry.otlp_endpoint`, `OTEL_EXPORTER_OTLP_ENDPOINT`: what `/v1/traces` and `/v1/metrics` are put behind.
    pub endpoint: Url,
    /// Whether a key of ours names it, and not the variable that is meant for every program of a place.
    pub is_ours: bool,
    /// `OTEL_EXPORTER_OTLP_HEADERS`: marked, so that no value is ever shown.
    pub headers: HeaderMap,
    /// `OTEL_EXPORTER_OTLP_TIMEOUT`: how long one batch may take, all attempts together.
    pub timeout: Duration,
    /// `OTEL_TRACES_EXPORTER`: how traces are sampled, if there are any.
    pub traces: Option<Sampling>,
    /// `OTEL_METRICS_EXPORTER`: whether there are metrics.
    pub metrics: bool,
    /// `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`: what every message says of its sender.
    pub resource: BTreeMap<String, String>,
    /// `OTEL_BSP_SCHEDULE_DELAY`: how long a span waits for others.
    pub batch_delay: Duration,
    /// `OTEL_BSP_MAX_QUEUE_SIZE`: room for spans that wait for the collector, those under way among them.
    pub most_spans: usize,
    /// `OTEL_METRIC_EXPORT_INTERVAL`: how often metrics are sent.
    pub metrics_interval: Duration,
}

/// Which requests have a span: `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Whether the caller decides, if it says so.
    pub by_parent: bool,
    /// Of the others, this part.
    pub ratio: f64,
}

/// What the variables come to.
pub(super) struct Read {
    pub(super) otlp: Option<Otlp>,
    /// What is left out of account, and why, for people.
    pub(super) ignored: Vec<String>,
}

/// Reads `endpoint`, if there is one, and the variables around it.
///
/// # Errors
///
/// An endpoint that is none, if it was said to us: whoever names it by a key of ours means this program.
pub(super) fn otlp(layers: &Layers, endpoint: Option<&str>, environment: &Environment) -> Result<Read, ConfigError> {
    let mut variables = Variables { environment, ignored: Vec::new() };
    let Some(text) = endpoint.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(Read { otlp: None, ignored: variables.ignored });
    };
    let is_ours = layers.origins(KEY).next().is_none_or(|(layer, _)| !layer.ends_with(ENDPOINT));
    let otlp = match collector_url(text) {
        Err(problem) if is_ours => return Err(layers.bad_value(KEY, problem)),
        // The protocol says more than an address that is not for us.
        _ if variables.is_disabled() || !is_ours && !variables.is_spoken() => None,
        Ok(endpoint) => variables.otlp(endpoint, is_ours),
        Err(problem) => {
            variables.ignore(ENDPOINT, &format!("{problem}; nothing is exported"));
            None
        }
    };
    Ok(Read { otlp, ignored: variables.ignored })
}

/// The value of a variable, as far as it may be shown.
pub(super) fn shown(variable: &str, value: &str) -> Shown {
    if variable == HEADERS { Shown::hidden() } else { Shown::url(value) }
}

struct Variables<'a> {
    environment: &'a Environment,
    ignored: Vec<String>,
}

impl<'a> Variables<'a> {
    fn is_disabled(&self) -> bool {
        self.get("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true"))
    }

    fn otlp(&mut self, endpoint: Url, is_ours: bool) -> Option<Otlp> {
        let traces = if self.is_sent("OTEL_TRACES_EXPORTER") { Some(self.sampling()) } else { None };
        Some(Otlp {
            endpoint,
            is_ours,
            headers: self.headers(),
            timeout: self.milliseconds("OTEL_EXPORTER_OTLP_TIMEOUT", Duration::from_secs(10)),
            traces,
            metrics: self.is_sent("OTEL_METRICS_EXPORTER"),
            resource: self.resource(),
            batch_delay: self.milliseconds("OTEL_BSP_SCHEDULE_DELAY", Duration::from_secs(5)),
            most_spans: self.spans(),
            metrics_interval: self.milliseconds("OTEL_METRIC_EXPORT_INTERVAL", Duration::from_secs(60)),
        })
        .filter(|otlp| otlp.traces.is_some() || otlp.metrics)
    }

    /// Whether an endpoint that is meant for all speaks what is spoken here.
    fn is_spoken(&mut self) -> bool {
        const SPOKEN: &str = "http/protobuf";
        let protocol = self.get("OTEL_EXPORTER_OTLP_PROTOCOL").filter(|protocol| *protocol != SPOKEN);
        if let Some(protocol) = protocol {
            self.ignored.push(format!(
                "nothing is sent to OTEL_EXPORTER_OTLP_ENDPOINT: OTEL_EXPORTER_OTLP_PROTOCOL={} is not spoken here, and \
                 {SPOKEN} is (a collector's port 4318); AOAI_PROXY__TELEMETRY__OTLP_ENDPOINT=http://HOST:4318 says so to this \
                 program alone",
                printable(protocol)
            ));
        }
        protocol.is_none()
    }

    /// Whether OTLP is among the exporters of a signal: it is if nothing is said.
    fn is_sent(&self, variable: &str) -> bool {
        self.get(variable).is_none_or(|list| list.split(',').any(|name| name.trim() == "otlp"))
    }

    fn sampling(&mut self) -> Sampling {
        let name = self.get("OTEL_TRACES_SAMPLER").unwrap_or("parentbased_always_on");
        let (by_parent, root) = name.strip_prefix("parentbased_").map_or((false, name), |root| (true, root));
        let ratio = match root {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => self.ratio(),
            _ => {
                let problem = "expected always_on, always_off, traceidratio or one of these behind parentbased_";
                self.ignore("OTEL_TRACES_SAMPLER", problem);
                return Sampling { by_parent: true, ratio: 1.0 };
            }
        };
        Sampling { by_parent, ratio }
    }

    fn ratio(&mut self) -> f64 {
        const ALL: f64 = 1.0;
        let Some(text) = self.get("OTEL_TRACES_SAMPLER_ARG") else { return ALL };
        match text.trim().parse() {
            Ok(ratio) if (0.0..=ALL).contains(&ratio) => ratio,
            _ => {
                self.ignore("OTEL_TRACES_SAMPLER_ARG", "expected a number from 0 to 1");
                ALL
            }
        }
    }

    fn headers(&mut self) -> HeaderMap {
        let Some(text) = self.get(HEADERS) else { return HeaderMap::new() };
        let fields = pairs(text).and_then(|pairs| pairs.iter().map(|(name, value)| field(name, value)).collect());
        fields.unwrap_or_else(|| {
            self.ignore(HEADERS, "expected NAME=VALUE, with commas between them, percent-encoded");
            HeaderMap::new()
        })
    }

    fn resource(&mut self) -> BTreeMap<String, String> {
        let mut resource = BTreeMap::from([(SERVICE_NAME.to_owned(), env!("CARGO_PKG_NAME").to_owned())]);
        if let Some(text) = self.get("OTEL_RESOURCE_ATTRIBUTES") {
            match pairs(text) {
                Some(pairs) => resource.extend(pairs),
                None => self.ignore("OTEL_RESOURCE_ATTRIBUTES", "expected NAME=VALUE, with commas between them"),
            }
        }
        if let Some(name) = self.get("OTEL_SERVICE_NAME") {
            resource.insert(SERVICE_NAME.to_owned(), name.to_owned());
        }
        resource
    }

    fn spans(&mut self) -> usize {
        const USUAL: usize = 2048;
        /// Some hundred mebibytes.
        const MOST: usize = 65_536;
        let Some(text) = self.get("OTEL_BSP_MAX_QUEUE_SIZE") else { return USUAL };
        match text.trim().parse() {
            Ok(number) if (1..=MOST).contains(&number) => number,
            _ => {
                self.ignore("OTEL_BSP_MAX_QUEUE_SIZE", "expected a whole number from 1 to 65536");
                USUAL
            }
        }
    }

    fn milliseconds(&mut self, variable: &'static str, usual: Duration) -> Duration {
        /// A day: beyond that it is a mistake.
        const MOST: u64 = 24 * 60 * 60 * 1000;
        let Some(text) = self.get(variable) else { return usual };
        match u64::from_str(text.trim()) {
            Ok(time) if (1..=MOST).contains(&time) => Duration::from_millis(time),
            _ => {
                self.ignore(variable, "expected milliseconds, a whole number of at least 1");
                usual
            }
        }
    }

    fn get(&self, variable: &str) -> Option<&'a str> {
        self.environment.get(variable)
    }

    fn ignore(&mut self, variable: &'static str, problem: &str) {
        let value = shown(variable, self.get(variable).unwrap_or_default());
        self.ignored.push(format!("environment variable {variable}={value} is left out of account: {problem}"));
    }
}

/// `NAME=VALUE,NAME=VALUE`, as `baggage` is written; nothing if it is anything else.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let decoded = |text: &str| percent_decode_str(text.trim()).decode_utf8().ok().map(String::from);
    let pair = |text: &str| {
        let (name, value) = text.split_once('=')?;
        Some((decoded(name).filter(|name| !name.is_empty())?, decoded(value)?))
    };
    text.split(',').filter(|text| !text.trim().is_empty()).map(pair).collect()
}

fn field(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some((name.parse().ok()?, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Overrides, Telemetry};

    const COLLECTOR: (&str, &str) = (ENDPOINT, "http://collector:4318/base/");

    fn read(variables: &[(&str, &str)], assignments: &[&str]) -> Telemetry {
        let resource = ("AZURE_OPENAI_ENDPOINT", "https://name.openai.azure.com");
        let environment = variables.iter().copied().chain([resource]).collect();
        let assignments = assignments.iter().copied().map(str::to_owned).collect();
        Config::load(&environment, &Overrides { assignments, ..Overrides::default() })
            .expect("a configuration")
            .telemetry
    }

    fn with(variables: &[(&str, &str)]) -> (Otlp, Vec<String>) {
        let telemetry = read(&[variables, &[COLLECTOR]].concat(), &[]);
        (telemetry.otlp.expect("an endpoint"), telemetry.ignored)
    }

    #[test]
    fn nothing_is_sent_unless_somebody_says_where() {
        assert!(read(&[("OTEL_SERVICE_NAME", "x")], &[]).otlp.is_none());
        assert!(read(&[COLLECTOR], &["telemetry.otlp_endpoint="]).otlp.is_none());
        assert!(read(&[COLLECTOR, ("OTEL_SDK_DISABLED", "True")], &[]).otlp.is_none());
        let none = [COLLECTOR, ("OTEL_TRACES_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "prometheus")];
        assert!(read(&none, &[]).otlp.is_none());
        let (otlp, ignored) = with(&none[2..]);
        assert!(otlp.traces.is_some() && !otlp.metrics && ignored.is_empty(), "{ignored:?}");
        assert_eq!(otlp.endpoint.as_str(), COLLECTOR.1);
    }

    #[test]
    fn another_protocol_is_told_and_starts_nothing() {
        let grpc = [COLLECTOR, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
        let telemetry = read(&grpc, &[]);
        assert!(telemetry.otlp.is_none());
        assert!(telemetry.ignored[0].contains("OTEL_EXPORTER_OTLP_PROTOCOL=grpc"), "{:?}", telemetry.ignored);
        let ours = read(&grpc, &["telemetry.otlp_endpoint=http://collector:4318"]);
        assert!(ours.otlp.is_some() && ours.ignored.is_empty(), "whoever says it to us means us");
    }

    #[test]
    fn an_address_that_is_for_others_is_told_and_starts_nothing() {
        for text in ["collector:4317", "grpc://collector:4317", "http://c:4318/v1/traces", "no address"] {
            let telemetry = read(&[(ENDPOINT, text)], &[]);
            assert!(telemetry.otlp.is_none(), "{text}");
            let [told] = telemetry.ignored.as_slice() else { panic!("{text}: {:?}", telemetry.ignored) };
            assert!(told.contains("OTEL_EXPORTER_OTLP_ENDPOINT=") && told.contains("nothing is exported"), "{told}");
            let ours = vec!["upstream.endpoint=https://h".to_owned(), format!("{KEY}={text}")];
            let error = Config::isolated(&Overrides { assignments: ours, ..Overrides::default() }).expect_err(text);
            assert!(error.to_string().contains(KEY), "{error}");
        }
        assert_eq!(read(&[(ENDPOINT, "c:1"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], &[]).ignored.len(), 1);
        assert!(read(&[(ENDPOINT, "c:1"), ("OTEL_SDK_DISABLED", "true")], &[]).ignored.is_empty());
        assert!(!read(&[COLLECTOR], &[]).otlp.expect("an endpoint").is_ours);
        assert!(read(&[], &["telemetry.otlp_endpoint=http://c:4318"]).otlp.expect("an endpoint").is_ours);
    }

    #[test]
    fn samplers_have_their_standard_names() {
        let sampling = |name, argument| {
            with(&[("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", argument)]).0.traces.expect("traces")
        };
        for (name, argument, by_parent, ratio) in [
            ("", "", true, 1.0),
            ("always_on", "0.1", false, 1.0),
            ("always_off", "", false, 0.0),
            ("traceidratio", "0.25", false, 0.25),
            ("parentbased_always_off", "", true, 0.0),
            ("parentbased_traceidratio", "0.5", true, 0.5),
        ] {
            assert_eq!(sampling(name, argument), Sampling { by_parent, ratio }, "{name}");
        }
    }

    #[test]
    fn what_means_nothing_here_is_told_and_starts_all_the_same() {
        let (otlp, ignored) = with(&[
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "65537"),
            ("OTEL_RESOURCE_ATTRIBUTES", "=x"),
        ]);
        assert_eq!(otlp.traces, Some(Sampling { by_parent: true, ratio: 1.0 }));
        assert_eq!((otlp.timeout, otlp.metrics_interval), (Duration::from_secs(10), Duration::from_secs(60)));
        assert!(otlp.headers.is_empty());
        assert_eq!((otlp.most_spans, ignored.len()), (2048, 6), "{ignored:?}");
        assert!(!ignored.concat().contains("hunter2"), "{ignored:?}");
        let (otlp, ignored) = with(&[("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "NaN")]);
        assert_eq!((otlp.traces.map(|sampling| sampling.ratio), ignored.len()), (Some(1.0), 1));
    }

    #[test]
    fn fields_for_the_collector_are_read_and_not_shown() {
        let (otlp, _) = with(&[("OTEL_EXPORTER_OTLP_HEADERS", " api-key=hunter%3D2 , x-team = a,")]);
        let value = |name| otlp.headers.get(name).and_then(|value| value.to_str().ok());
        assert_eq!((value("api-key"), value("x-team")), (Some("hunter=2"), Some("a")));
        assert!(!format!("{otlp:?}").contains("hunter"), "{otlp:?}");
    }

    #[test]
    fn the_sender_is_named_as_it_was_told() {
        let name = |variables: &[_]| with(variables).0.resource["service.name"].clone();
        let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=of%20a%20list,deployment.environment.name=test");
        assert_eq!(name(&[]), "aoai-auth-proxy");
        assert_eq!(name(&[attributes]), "of a list");
        assert_eq!(name(&[attributes, ("OTEL_SERVICE_NAME", "alone")]), "alone");
        assert_eq!(with(&[attributes]).0.resource["deployment.environment.name"], "test");
    }
}
