//! An application's certificate with its private key: read from a file, ready to sign client assertions.

mod assertion;
mod encryption;
mod error;
mod key;
mod pem;
mod pkcs12;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use ::pkcs12::pfx::Pfx;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::signature::RsaKeyPair;
use secrecy::{ExposeSecret, SecretString};
use x509_cert::der::Decode;
use x509_cert::{Certificate, TbsCertificate};
use zeroize::Zeroizing;

use encryption::Password;
pub(super) use error::CertificateError;
use error::Problem;

/// The first byte of whatever is DER.
const SEQUENCE: u8 = 0x30;

/// An application's certificate with its private key, ready to sign client assertions.
pub(super) struct ClientCertificate {
    key: RsaKeyPair,
    /// The certificates as DER, each followed by its issuer's. The first is the key's own.
    chain: Vec<Vec<u8>>,
    /// What tells Entra which of an application's certificates this is.
    thumbprint: String,
    expires_at: SystemTime,
}

/// What a file holds.
#[derive(Default)]
struct Contents {
    keys: Vec<RsaKeyPair>,
    certificates: Vec<Vec<u8>>,
}

impl ClientCertificate {
    /// Reads PEM or PKCS#12, told apart by what is in the file.
    pub(super) fn read(path: &Path, password: Option<&SecretString>) -> Result<Self, CertificateError> {
        let password = Password::new(password.map_or("", ExposeSecret::expose_secret));
        bytes(path)
            .and_then(|bytes| Contents::read(&bytes, &password))
            .and_then(Self::new)
            .map_err(|problem| CertificateError::File { path: path.to_owned(), problem })
    }

    /// When Entra stops taking it.
    pub(super) fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    fn new(contents: Contents) -> Result<Self, Problem> {
        let Contents { keys, certificates } = contents;
        match (keys.is_empty(), certificates.is_empty()) {
            (false, false) => {}
            (true, false) => return Err(Problem::NoKey),
            (false, true) => return Err(Problem::NoCertificate),
            (true, true) => return Err(Problem::Nothing),
        }
        let parsed: Vec<_> = certificates.iter().filter_map(|der| Parsed::new(der)).collect();
        let own = |key: &RsaKeyPair| parsed.iter().find(|certificate| certificate.belongs_to(key));
        match keys.into_iter().find_map(|key| own(&key).map(|leaf| (key, leaf))) {
            Some((key, leaf)) => Ok(Self {
                key,
                chain: chain(leaf, &parsed),
                thumbprint: URL_SAFE_NO_PAD.encode(digest(&SHA256, leaf.der)),
                expires_at: leaf.expires_at(),
            }),
            None if parsed.len() < certificates.len() => Err(Problem::BrokenCertificate),
            None => Err(Problem::NoMatch),
        }
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").field("thumbprint", &self.thumbprint).finish_non_exhaustive()
    }
}

impl Contents {
    fn read(bytes: &[u8], password: &Password<'_>) -> Result<Self, Problem> {
        // What stands between PEM's sections may be in any encoding.
        let text = Zeroizing::new(String::from_utf8_lossy(bytes).into_owned());
        if text.contains(pem::BEGIN) {
            pem::read(&text, password)
        } else if let Ok(pfx) = Pfx::from_der(bytes) {
            pkcs12::read(&pfx, password)
        } else if Certificate::from_der(bytes).is_ok() {
            Err(Problem::BareCertificate)
        } else if bytes.first() == Some(&SEQUENCE) {
            Err(Problem::BrokenPkcs12)
        } else if text.trim().is_empty() {
            Err(Problem::Empty)
        } else {
            Err(Problem::Unknown)
        }
    }
}

fn bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, Problem> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Zeroizing::new(bytes)),
        Err(_) if path.is_dir() => Err(Problem::Directory),
        Err(error) => Err(Problem::Unreadable(error)),
    }
}

/// A certificate, and what it says.
struct Parsed<'a> {
    der: &'a [u8],
    says: TbsCertificate,
}

impl<'a> Parsed<'a> {
    fn new(der: &'a [u8]) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?;
        Some(Self { der, says: certificate.tbs_certificate })
    }

    fn belongs_to(&self, key: &RsaKeyPair) -> bool {
        self.says.subject_public_key_info.subject_public_key.raw_bytes() == key.public().as_ref()
    }

    fn expires_at(&self) -> SystemTime {
        UNIX_EPOCH + self.says.validity.not_after.to_date_time().unix_duration()
    }
}

/// A certificate and those above it, as far as they are there. Files hold them in any order, and others beside them.
fn chain(leaf: &Parsed<'_>, all: &[Parsed<'_>]) -> Vec<Vec<u8>> {
    let mut chain = vec![leaf.der.to_vec()];
    let mut last = leaf;
    while last.says.issuer != last.says.subject {
        let above =
            |other: &&Parsed<'_>| other.says.subject == last.says.issuer && !chain.contains(&other.der.to_vec());
        let Some(issuer) = all.iter().find(above) else { break };
        chain.push(issuer.der.to_vec());
        last = issuer;
    }
    chain
}
