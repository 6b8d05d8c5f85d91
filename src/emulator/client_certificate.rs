//! The application's certificate, and whether a client assertion was signed with it.
//!
//! <https://learn.microsoft.com/entra/identity-platform/certificate-credentials>

use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::CertificateParams;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use ring::rsa::KeyPair;
use rsa::RsaPrivateKey;
use rsa::pkcs8::{EncodePrivateKey, LineEnding};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::Deserialize;

use super::web_tokens::{Flaw, Header, open};
use super::world::SERVICE_PRINCIPAL;

const KEY_BITS: usize = 2048;

/// A certificate that no authority has signed, as applications have them.
pub(super) struct ClientCertificate {
    pem: String,
    der: Vec<u8>,
    key: KeyPair,
}

/// Why an assertion proves nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CertificateFlaw {
    /// It is no assertion.
    Malformed,
    /// The application has no such certificate.
    Unregistered(String),
    /// It was not signed with the certificate's key.
    Signature,
    /// It is for somebody else.
    Audience,
    /// It is not valid at this time, or for too long.
    Expired,
}

impl From<Flaw> for CertificateFlaw {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Malformed => Self::Malformed,
            Flaw::Signature => Self::Signature,
        }
    }
}

#[derive(Deserialize)]
struct Claims {
    aud: String,
    iss: String,
    sub: String,
    jti: String,
    nbf: u64,
    exp: u64,
}

impl ClientCertificate {
    /// The certificate of this process, made when it is first asked for. That takes a while and blocks.
    pub(super) fn shared() -> &'static Self {
        MADE.get_or_init(Self::generate)
    }

    #[expect(clippy::expect_used, reason = "fails only without randomness, and then nothing can be emulated")]
    fn generate() -> Self {
        let key = RsaPrivateKey::new(&mut rand::rngs::OsRng, KEY_BITS).expect("an RSA key can be made");
        let document = key.to_pkcs8_der().expect("a fresh key can be written as DER");
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(document.as_bytes()));
        let pair = rcgen::KeyPair::try_from(&der).expect("ring reads the key");
        let certificate = CertificateParams::default().self_signed(&pair).expect("a certificate can be signed");
        // The order in which `az ad sp create-for-rbac --create-cert` writes them.
        let private = key.to_pkcs8_pem(LineEnding::LF).expect("a fresh key can be written as PEM");
        Self {
            pem: format!("{}{}", private.as_str(), certificate.pem()),
            der: certificate.der().to_vec(),
            key: KeyPair::from_pkcs8(document.as_bytes()).expect("ring reads the key"),
        }
    }

    /// Private key and certificate.
    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    fn is_named_by(&self, header: &Header) -> bool {
        let thumbprint = |algorithm| URL_SAFE_NO_PAD.encode(digest(algorithm, &self.der));
        let sent = header.x5c.as_ref().is_none_or(|chain| chain.first() == Some(&STANDARD.encode(&self.der)));
        let long = header.x5t_s256.as_ref().is_some_and(|name| *name == thumbprint(&SHA256));
        let short = header.x5t.as_ref().is_some_and(|name| *name == thumbprint(&SHA1_FOR_LEGACY_USE_ONLY));
        sent && (long || short)
    }
}

static MADE: OnceLock<ClientCertificate> = OnceLock::new();

/// Whether an assertion names a certificate: those of a federation name none.
pub(super) fn is_meant(assertion: &str) -> bool {
    Header::of(assertion).is_ok_and(|header| header.x5t.is_some() || header.x5t_s256.is_some())
}

/// Checks an assertion of the application for one of `audiences`.
pub(super) fn judge(now: u64, audiences: &[&str], assertion: &str) -> Result<(), CertificateFlaw> {
    /// Entra wants five to ten minutes, and takes up to a day.
    const LONGEST: u64 = 24 * 60 * 60;
    let header = Header::of(assertion)?;
    let name = header.x5t_s256.clone().or(header.x5t.clone()).unwrap_or_default();
    let unregistered = || CertificateFlaw::Unregistered(name.clone());
    let certificate = MADE.get().filter(|certificate| certificate.is_named_by(&header)).ok_or_else(unregistered)?;
    let claims: Claims = open(assertion, certificate.key.public().as_ref())?;
    if claims.iss != SERVICE_PRINCIPAL.client_id || claims.sub != claims.iss || claims.jti.is_empty() {
        Err(CertificateFlaw::Malformed)
    } else if !audiences.contains(&claims.aud.as_str()) {
        Err(CertificateFlaw::Audience)
    } else if claims.nbf > now || claims.exp <= now || claims.exp > now + LONGEST {
        Err(CertificateFlaw::Expired)
    } else {
        Ok(())
    }
}

impl std::fmt::Debug for ClientCertificate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ClientCertificate").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::emulator::web_tokens::{Algorithm, sign};

    const AUDIENCE: &str = "https://authority/tenant/oauth2/v2.0/token";

    fn header(algorithm: Algorithm) -> Header {
        let mut header = Header::new(algorithm);
        let certificate = ClientCertificate::shared();
        header.x5t_s256 = Some(URL_SAFE_NO_PAD.encode(digest(&SHA256, &certificate.der)));
        header
    }

    fn claims() -> Value {
        let id = SERVICE_PRINCIPAL.client_id;
        json!({ "aud": AUDIENCE, "iss": id, "sub": id, "jti": "1", "nbf": 100, "exp": 700 })
    }

    fn judged(header: &Header, claims: &Value, now: u64) -> Result<(), CertificateFlaw> {
        judge(now, &[AUDIENCE], &sign(&ClientCertificate::shared().key, header, claims))
    }

    #[test]
    fn what_the_application_signed_is_taken_in_its_time() {
        for algorithm in [Algorithm::RS256, Algorithm::PS256] {
            assert_eq!(judged(&header(algorithm), &claims(), 100), Ok(()));
        }
        let mut short = header(Algorithm::RS256);
        let certificate = ClientCertificate::shared();
        short.x5t_s256 = None;
        short.x5t = Some(URL_SAFE_NO_PAD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &certificate.der)));
        short.x5c = Some(vec![STANDARD.encode(&certificate.der)]);
        assert_eq!(judged(&short, &claims(), 699), Ok(()));
        for now in [99, 700] {
            assert_eq!(judged(&header(Algorithm::PS256), &claims(), now), Err(CertificateFlaw::Expired));
        }
    }

    #[test]
    fn what_is_wrong_is_told_apart() {
        let with = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            judged(&header(Algorithm::PS256), &claims, 100)
        };
        assert_eq!(with("aud", json!("https://elsewhere")), Err(CertificateFlaw::Audience));
        assert_eq!(with("sub", json!("somebody")), Err(CertificateFlaw::Malformed));
        assert_eq!(with("exp", json!(10_000_000)), Err(CertificateFlaw::Expired));
        let mut other = header(Algorithm::PS256);
        other.x5t_s256 = Some("other".to_owned());
        assert_eq!(judged(&other, &claims(), 100), Err(CertificateFlaw::Unregistered("other".to_owned())));
        let mut chain = header(Algorithm::PS256);
        chain.x5c = Some(vec!["other".to_owned()]);
        assert!(matches!(judged(&chain, &claims(), 100), Err(CertificateFlaw::Unregistered(_))));
        assert_eq!(judge(100, &[AUDIENCE], "no.token.this"), Err(CertificateFlaw::Malformed));

        let good = sign(&ClientCertificate::shared().key, &header(Algorithm::PS256), &claims());
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let bent = if signature.starts_with('A') { "B" } else { "A" };
        let forged = format!("{signed}.{bent}{}", &signature[1..]);
        assert_eq!(judge(100, &[AUDIENCE], &forged), Err(CertificateFlaw::Signature));
    }
}
