//! The throw-away certificate authority of one emulator, and the server certificate it signs.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::NamedTempFile;
use time::OffsetDateTime;
use tokio_rustls::TlsAcceptor;

use crate::clock::{Clock, SystemClock};

/// How long before now the certificates begin, against clocks that are slow.
const BACKDATED: Duration = Duration::from_secs(24 * 3600);

/// How long the certificates last. Some platforms refuse server certificates that last longer than 825 days.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// An authority whose key nobody keeps, and a server that it vouches for.
#[derive(Debug)]
pub(super) struct Authority {
    pem: String,
    file: NamedTempFile,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    /// Makes an authority and a certificate for `localhost`, `127.0.0.1` and `::1`.
    pub(super) fn new() -> io::Result<Self> {
        let (authority, pem) = authority().map_err(io::Error::other)?;
        let (certificate, key) = server(&authority).map_err(io::Error::other)?;
        let mut file = tempfile::Builder::new().prefix("emulator-ca-").suffix(".pem").tempfile()?;
        file.write_all(pem.as_bytes())?;
        file.flush()?;
        Ok(Self { pem, file, chain: vec![certificate], key })
    }

    /// The authority's certificate.
    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    /// The file with the authority's certificate; it goes when this value goes.
    pub(super) fn file(&self) -> &Path {
        self.file.path()
    }

    /// Accepts TLS connections that speak one of `protocols`.
    pub(super) fn acceptor(&self, protocols: &[&str]) -> io::Result<TlsAcceptor> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(io::Error::other)?;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn authority() -> Result<(Issuer<'static, KeyPair>, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = lasting(CertificateParams::new(Vec::new())?);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "Azure emulator: trust for this run only");
    let pem = params.self_signed(&key)?.pem();
    Ok((Issuer::new(params, key), pem))
}

fn server(authority: &Issuer<'_, KeyPair>) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), rcgen::Error> {
    let key = KeyPair::generate()?;
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut params = lasting(CertificateParams::new(names)?);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.distinguished_name.push(DnType::CommonName, "Azure emulator");
    let certificate = params.signed_by(&key, authority)?;
    Ok((certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
}

/// TLS clients judge certificates by the machine's time, whatever the emulator's clock says.
fn lasting(mut params: CertificateParams) -> CertificateParams {
    let now = SystemClock.now();
    params.not_before = OffsetDateTime::from(now - BACKDATED);
    params.not_after = OffsetDateTime::from(now + LIFETIME);
    params
}
