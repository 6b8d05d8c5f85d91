//! The configuration as it was written: every key that exists, by its name. Nothing is decided here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use rustls::pki_types::CertificateDer;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, de};
use url::Url;

use super::access::{HostName, Origin, PeerUsers};
use super::choices::{Cloud, CredentialKind, LogFormat, LogLevel, ModelList};
use super::endpoint::{Endpoint, authority_url, metadata_url, service_url};
use super::lists;
use super::names::{ResourceId, ResourceName, Scope, Segment};
use super::prices::{Currency, Rate};
use super::usage::Retention;
use crate::tls;

/// All sections.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    pub(super) listen: Listen,
    pub(super) upstream: Upstream,
    pub(super) azure: Azure,
    pub(super) credential: Credential,
    pub(super) management: Management,
    pub(super) access: Access,
    pub(super) admin: Admin,
    #[serde(default)]
    pub(super) apps: BTreeMap<String, App>,
    pub(super) limits: Limits,
    pub(super) usage: Usage,
    #[serde(default)]
    pub(super) prices: BTreeMap<String, Price>,
    pub(super) telemetry: Telemetry,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listen {
    /// TCP address; port 0 picks a free one, an empty text is none.
    #[serde(deserialize_with = "listen_address")]
    pub(super) address: Option<SocketAddr>,
    /// A path for a socket that only this user can open; an empty text is none.
    #[serde(default, deserialize_with = "file_or_none")]
    pub(super) unix_socket: Option<PathBuf>,
    /// Whether the address may be one that other machines reach.
    #[serde(deserialize_with = "flag")]
    pub(super) allow_remote: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    /// The resource. `AZURE_OPENAI_ENDPOINT`.
    pub(super) endpoint: Option<Endpoint>,
    /// What the resource's token is asked for.
    pub(super) scope: Option<Scope>,
    /// What is answered to whoever asks for the list of models.
    pub(super) models: ModelList,
    /// PEM bundle trusted besides the system's roots.
    #[serde(default, deserialize_with = "certificates")]
    pub(super) ca_file: Vec<CertificateDer<'static>>,
    /// DNS, TCP and TLS together.
    #[serde(deserialize_with = "duration")]
    pub(super) connect_timeout: Duration,
    /// From the last byte of the request to the head of the response.
    #[serde(deserialize_with = "duration")]
    pub(super) response_timeout: Duration,
    /// The longest silence inside a response's content.
    #[serde(deserialize_with = "duration")]
    pub(super) idle_timeout: Duration,
    /// Whether refusals that the proxy can explain get a hint.
    #[serde(deserialize_with = "flag")]
    pub(super) explain_errors: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Azure {
    /// Sets authority, scopes and management endpoint together.
    pub(super) cloud: Cloud,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Credential {
    pub(super) kind: CredentialKind,
    /// `AZURE_TENANT_ID`.
    pub(super) tenant_id: Option<Segment>,
    /// Application, or user-assigned identity. `AZURE_CLIENT_ID`.
    pub(super) client_id: Option<Segment>,
    /// Another way to name a user-assigned identity.
    pub(super) object_id: Option<Segment>,
    /// Another way to name a user-assigned identity.
    pub(super) resource_id: Option<ResourceId>,
    /// `AZURE_CLIENT_SECRET`.
    #[serde(default, deserialize_with = "secret")]
    pub(super) client_secret: Option<SecretString>,
    /// PKCS#12 or PEM. `AZURE_CLIENT_CERTIFICATE_PATH`.
    #[serde(default, deserialize_with = "file")]
    pub(super) client_certificate_path: Option<PathBuf>,
    /// `AZURE_CLIENT_CERTIFICATE_PASSWORD`.
    #[serde(default, deserialize_with = "secret")]
    pub(super) client_certificate_password: Option<SecretString>,
    /// Subject name and issuer authentication. `AZURE_CLIENT_SEND_CERTIFICATE_CHAIN`.
    #[serde(deserialize_with = "flag")]
    pub(super) send_certificate_chain: bool,
    /// `AZURE_FEDERATED_TOKEN_FILE`.
    #[serde(default, deserialize_with = "file")]
    pub(super) federated_token_file: Option<PathBuf>,
    /// `AZURE_AUTHORITY_HOST`.
    #[serde(default, deserialize_with = "authority")]
    pub(super) authority_host: Option<Url>,
    /// `AZURE_POD_IDENTITY_AUTHORITY_HOST`.
    #[serde(deserialize_with = "metadata_service")]
    pub(super) imds_endpoint: Url,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Management {
    #[serde(default, deserialize_with = "optional_service")]
    pub(super) endpoint: Option<Url>,
    /// `AZURE_SUBSCRIPTION_ID`.
    pub(super) subscription_id: Option<Segment>,
    /// Default region of `/management/models`.
    pub(super) location: Option<Segment>,
    /// The account's group; with `account`, or not at all.
    pub(super) resource_group: Option<ResourceName>,
    pub(super) account: Option<ResourceName>,
    pub(super) api_version: Segment,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Access {
    /// `Host` values served.
    #[serde(deserialize_with = "lists::list")]
    pub(super) allowed_hosts: Vec<HostName>,
    /// Origins whose web pages may call.
    #[serde(deserialize_with = "lists::list")]
    pub(super) allowed_origins: Vec<Origin>,
    /// Whose processes may connect.
    pub(super) peer_users: PeerUsers,
    /// Whether callers must present an app's key.
    #[serde(deserialize_with = "flag")]
    pub(super) require_key: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    /// TCP address of a listener for probes; port 0 picks a free one, an empty text is none.
    #[serde(default, deserialize_with = "listen_address")]
    pub(super) address: Option<SocketAddr>,
    /// Whether the end can be asked for there.
    #[serde(deserialize_with = "flag")]
    pub(super) quitquitquit: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct App {
    /// A local key, or `sha256:` and its digest.
    #[serde(default, deserialize_with = "secret")]
    pub(super) key: Option<SecretString>,
    /// A file with the same.
    #[serde(default, deserialize_with = "file")]
    pub(super) key_file: Option<PathBuf>,
    #[serde(default, deserialize_with = "optional_texts")]
    pub(super) models: Option<Vec<String>>,
    #[serde(default, deserialize_with = "requests")]
    pub(super) requests_per_minute: Option<NonZeroU32>,
    #[serde(default, deserialize_with = "tokens")]
    pub(super) tokens_per_minute: Option<NonZeroU64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    #[serde(deserialize_with = "places")]
    pub(super) max_connections: usize,
    #[serde(deserialize_with = "places")]
    pub(super) max_in_flight: usize,
    #[serde(deserialize_with = "size")]
    pub(super) max_body: u64,
    #[serde(deserialize_with = "duration")]
    pub(super) header_timeout: Duration,
    #[serde(deserialize_with = "duration_or_zero")]
    pub(super) shutdown_grace: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Usage {
    #[serde(deserialize_with = "flag")]
    pub(super) enabled: bool,
    #[serde(default, deserialize_with = "file")]
    pub(super) database: Option<PathBuf>,
    pub(super) retention: Retention,
    pub(super) currency: Currency,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Price {
    pub(super) input: Option<Rate>,
    pub(super) cached: Option<Rate>,
    pub(super) output: Option<Rate>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Telemetry {
    pub(super) log_format: LogFormat,
    /// A level, or directives by module as in `info,identity=debug`.
    pub(super) log_level: LogLevel,
    /// An empty text is none. Not read further here: what is wrong with `OTEL_EXPORTER_OTLP_ENDPOINT` keeps nothing from starting.
    pub(super) otlp_endpoint: Option<String>,
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    String::deserialize(deserializer)
}

fn listen_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = text(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let numeric = text.strip_prefix("localhost:").map_or(text.clone(), |port| format!("127.0.0.1:{port}"));
    let expected = "expected an address and a port, like 127.0.0.1:8642 or [::1]:8642, or nothing";
    numeric.parse().map(Some).map_err(|_| de::Error::custom(expected))
}

fn optional_texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    lists::texts(deserializer).map(Some)
}

fn requests<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NonZeroU32>, D::Error> {
    a_minute(deserializer)
}

fn tokens<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NonZeroU64>, D::Error> {
    a_minute(deserializer)
}

/// Read as text, for the same reason as below.
fn a_minute<'de, T: FromStr, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let text = text(deserializer)?;
    let expected = "expected how many in a minute, a whole number of at least 1; leave it out for no limit";
    text.parse().map(Some).map_err(|_| de::Error::custom(expected))
}

fn certificates<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<CertificateDer<'static>>, D::Error> {
    tls::certificates(Path::new(&text(deserializer)?)).map_err(de::Error::custom)
}

fn not_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = text(deserializer)?;
    if text.is_empty() { Err(de::Error::custom("must not be empty")) } else { Ok(text) }
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    not_empty(deserializer).map(SecretString::from).map(Some)
}

fn file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    not_empty(deserializer).map(PathBuf::from).map(Some)
}

fn file_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    Ok(Some(PathBuf::from(text(deserializer)?)).filter(|path| !path.as_os_str().is_empty()))
}

/// Read as text: as a flag, the library would take numbers and more words than these.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match text(deserializer)?.as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(de::Error::custom("expected true or false")),
    }
}

fn authority<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    authority_url(&text(deserializer)?).map(Some).map_err(de::Error::custom)
}

fn optional_service<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    service_url(&text(deserializer)?).map(Some).map_err(de::Error::custom)
}

fn metadata_service<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    metadata_url(&text(deserializer)?).map_err(de::Error::custom)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let duration = duration_or_zero(deserializer)?;
    if duration.is_zero() { Err(de::Error::custom("must be longer than nothing")) } else { Ok(duration) }
}

fn duration_or_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    /// A day: beyond that a deadline is a mistake, and sums of durations stay far from overflow.
    const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
    let text = text(deserializer)?;
    let duration = humantime::parse_duration(&text)
        .map_err(|error| de::Error::custom(format!("expected a duration like 10s, 5m or 1h ({error})")))?;
    if duration > LONGEST { Err(de::Error::custom("must not be longer than 24h")) } else { Ok(duration) }
}

/// Read as text: as a number, `yes` would be 1 and `10.7` would be 10.
fn places<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    /// More than a process may have files open, and fewer than a semaphore has places.
    const MOST: usize = 1_000_000;
    match text(deserializer)?.parse() {
        Ok(number) if (1..=MOST).contains(&number) => Ok(number),
        _ => Err(de::Error::custom(format!("expected a whole number, at least 1 and at most {MOST}"))),
    }
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    /// Beyond that a size is a mistake; the library takes what is too large for the largest there is.
    const MOST: u64 = 1 << 40;
    match text(deserializer)?.parse().map(|size: ByteSize| size.as_u64()) {
        // Nothing would pass with 0, and whoever writes it may mean that everything should.
        Ok(size) if (1..=MOST).contains(&size) => Ok(size),
        Ok(_) => Err(de::Error::custom("must be at least 1 byte and at most 1TiB")),
        Err(_) => Err(de::Error::custom("expected a size like 512MiB, 1GB or 65536")),
    }
}
