//! Whom outgoing connections trust: the system's authorities, and those of `upstream.ca_file`.

mod recorded;

use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls_platform_verifier::Verifier;

pub(crate) use recorded::{Recorded, recorded};

/// TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS; are the system's certificate authorities installed (ca-certificates)?")]
pub struct TlsError(#[from] rustls::Error);

/// The configuration of every outgoing TLS connection: the system's authorities and `extra` ones, TLS 1.2 and 1.3.
///
/// # Errors
///
/// If there is no authority to trust, or an extra one is no certificate.
pub fn client(extra: &[CertificateDer<'static>]) -> Result<ClientConfig, TlsError> {
    let (provider, verifier) = verifier(extra)?;
    judged_by(provider, Arc::new(verifier))
}

fn verifier(extra: &[CertificateDer<'static>]) -> Result<(Arc<CryptoProvider>, Verifier), TlsError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier::new_with_extra_roots(extra.iter().cloned(), provider.clone())?;
    Ok((provider, verifier))
}

/// Not dangerous: the judge is the platform's own verifier, or hands on what that one says.
fn judged_by(provider: Arc<CryptoProvider>, judge: Arc<dyn ServerCertVerifier>) -> Result<ClientConfig, TlsError> {
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(judge)
        .with_no_client_auth())
}

/// The certificates of a PEM file.
///
/// # Errors
///
/// Says what is wrong if the file cannot be read or holds none.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match found {
        Err(error) => Err(format!("cannot be read as PEM: {error}")),
        Ok(found) if found.is_empty() => Err("holds no certificate in PEM form".to_owned()),
        Ok(found) => Ok(found),
    }
}
