//! What a certificate says, for people to read. Whether it is any good is rustls's to judge.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use serde::{Serialize, Serializer};
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// More names than this are counted, not listed.
const MOST_NAMES: usize = 12;

#[derive(Debug, Default, Serialize)]
pub(super) struct Certificate {
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) names: Vec<String>,
    #[serde(serialize_with = "written")]
    pub(super) not_before: Option<SystemTime>,
    #[serde(serialize_with = "written")]
    pub(super) not_after: Option<SystemTime>,
}

impl Certificate {
    /// One that cannot be read is still one that was shown.
    pub(super) fn read(shown: &CertificateDer<'_>) -> Self {
        let Ok(certificate) = x509_cert::Certificate::from_der(shown) else {
            let unreadable = || "(unreadable)".to_owned();
            return Self { subject: unreadable(), issuer: unreadable(), ..Self::default() };
        };
        let content = &certificate.tbs_certificate;
        let names = content.get::<SubjectAltName>().ok().flatten().map(|(_, names)| names.0).unwrap_or_default();
        Self {
            subject: name(&content.subject.to_string()),
            issuer: name(&content.issuer.to_string()),
            names: names.iter().filter_map(written_name).collect(),
            not_before: Some(UNIX_EPOCH + content.validity.not_before.to_unix_duration()),
            not_after: Some(UNIX_EPOCH + content.validity.not_after.to_unix_duration()),
        }
    }

    pub(super) fn until(&self) -> String {
        day(self.not_after)
    }

    /// On two lines.
    pub(super) fn told(&self) -> [String; 2] {
        let listed = self.names.iter().take(MOST_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
        let names = match self.names.len().checked_sub(MOST_NAMES) {
            None | Some(0) if listed.is_empty() => String::new(),
            None | Some(0) => format!("; for {listed}"),
            Some(more) => format!("; for {listed} and {more} more"),
        };
        let validity = format!("valid from {} to {}", day(self.not_before), day(self.not_after));
        [self.subject.clone(), format!("issued by {}; {validity}{names}", self.issuer)]
    }
}

/// A day, as everybody writes it.
pub(super) fn day(time: Option<SystemTime>) -> String {
    let written = time.map(|time| humantime::format_rfc3339_seconds(time).to_string());
    written.as_deref().and_then(|time| time.split('T').next()).unwrap_or("an unknown day").to_owned()
}

fn name(text: &str) -> String {
    if text.is_empty() { "(no name)".to_owned() } else { text.to_owned() }
}

fn written_name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
        GeneralName::IpAddress(octets) => {
            let octets = octets.as_bytes();
            let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

/// As RFC 3339 writes a time.
#[expect(clippy::ref_option, reason = "serde passes fields by reference")]
fn written<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(&humantime::format_rfc3339_seconds(*time)),
        None => serializer.serialize_none(),
    }
}
