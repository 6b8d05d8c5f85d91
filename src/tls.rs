//! Whom outgoing connections trust: the system's authorities, and those of `upstream.ca_file`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls_platform_verifier::Verifier;

/// The configuration of every outgoing TLS connection.
///
/// # Errors
///
/// If `ca_file` cannot be read or holds no certificate, or if there is no authority to trust at all.
pub fn client(ca_file: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let extra = ca_file.map(certificates).transpose()?.unwrap_or_default();
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier::new_with_extra_roots(extra, provider.clone())?;
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        // Not dangerous: the verifier is the platform's own.
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// Nobody to trust.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// `upstream.ca_file` cannot be used.
    #[error("`upstream.ca_file` = {}: {problem}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The TLS library cannot be set up.
    #[error("cannot set up TLS; are the system's certificate authorities installed (ca-certificates)?")]
    Setup(#[from] rustls::Error),
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |problem: String| TlsError::CaFile { path: path.to_owned(), problem };
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found = found.map_err(|error| wrong(format!("cannot be read as PEM: {error}")))?;
    if found.is_empty() { Err(wrong("holds no certificate".to_owned())) } else { Ok(found) }
}
