//! The certificates that a server shows, kept for people to see. They are judged as always.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_platform_verifier::Verifier;

use super::{TlsError, judged_by, verifier};

/// The certificates that the last server showed, its own first, good or not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorded(Arc<Mutex<Vec<CertificateDer<'static>>>>);

impl Recorded {
    /// What was shown; nothing if it did not come to that.
    pub(crate) fn take(&self) -> Vec<CertificateDer<'static>> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// As [`client`](super::client), and keeps what a server shows.
pub(crate) fn recorded(extra: &[CertificateDer<'static>]) -> Result<(ClientConfig, Recorded), TlsError> {
    let (provider, judge) = verifier(extra)?;
    let shown = Recorded::default();
    let tls = judged_by(provider, Arc::new(Recorder { judge, shown: shown.clone() }))?;
    Ok((tls, shown))
}

/// Hands on what its judge says, and nothing else: a server that is not trusted gets no byte more than it always would.
#[derive(Debug)]
struct Recorder {
    judge: Verifier,
    shown: Recorded,
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(end_entity).chain(intermediates).map(|shown| shown.clone().into_owned());
        *self.shown.0.lock().unwrap_or_else(PoisonError::into_inner) = chain.collect();
        self.judge.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}
