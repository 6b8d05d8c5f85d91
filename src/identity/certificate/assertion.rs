//! Client assertions: what an application shows to Entra in place of a secret.
//!
//! <https://learn.microsoft.com/entra/identity-platform/certificate-credentials>

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::RSA_PSS_SHA256;
use secrecy::SecretString;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{CertificateError, ClientCertificate};

/// How long an assertion is good for. Entra advises five to ten minutes; the longer, the less clocks need to agree.
const LIFETIME: Duration = Duration::from_secs(10 * 60);

impl ClientCertificate {
    /// A signed assertion that `client_id` holds this certificate, good at `audience` (the token endpoint's URL) for ten
    /// minutes from `now`. `send_chain` puts the certificates in, for applications that trust a subject name of an issuer
    /// in place of one certificate.
    pub(in crate::identity) fn assertion(
        &self,
        audience: &str,
        client_id: &str,
        now: SystemTime,
        send_chain: bool,
    ) -> Result<SecretString, CertificateError> {
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let message = format!("{}.{}", encode(&self.header(send_chain)), encode(&claims(audience, client_id, now)));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PSS_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature)
            .map_err(|_| CertificateError::Unsigned)?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)).into())
    }

    fn header(&self, send_chain: bool) -> Value {
        let mut header = json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": self.thumbprint });
        if send_chain {
            header["x5c"] = self.chain.iter().map(|certificate| STANDARD.encode(certificate)).collect();
        }
        header
    }
}

fn claims(audience: &str, client_id: &str, now: SystemTime) -> Value {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "aud": audience,
        "iss": client_id,
        "sub": client_id,
        "jti": Uuid::new_v4().to_string(),
        "iat": now.as_secs(),
        "nbf": now.as_secs(),
        "exp": (now + LIFETIME).as_secs(),
    })
}
