//! JSON web tokens as Entra, clusters and applications write them: in the compact form (RFC 7515 §3.1), signed with RSA and SHA-256.
//! The cryptography is ring's, which is there for TLS anyway.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RSA_PSS_2048_8192_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaParameters,
    UnparsedPublicKey,
};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

/// How a token is signed (RFC 7518 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Algorithm {
    /// With PKCS #1's first padding.
    RS256,
    /// With PSS.
    PS256,
}

/// What a token says of itself (RFC 7515 §4.1).
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) alg: Algorithm,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) typ: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) x5t: Option<String>,
    #[serde(rename = "x5t#S256", skip_serializing_if = "Option::is_none")]
    pub(super) x5t_s256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) x5c: Option<Vec<String>>,
    #[serde(skip_serializing)]
    pub(super) crit: Option<IgnoredAny>,
}

/// Why a token is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It is none that can be read.
    Malformed,
    /// Its signature is not of that key.
    Signature,
}

impl Algorithm {
    fn encoding(self) -> &'static dyn RsaEncoding {
        match self {
            Self::RS256 => &RSA_PKCS1_SHA256,
            Self::PS256 => &RSA_PSS_SHA256,
        }
    }

    fn parameters(self) -> &'static RsaParameters {
        match self {
            Self::RS256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::PS256 => &RSA_PSS_2048_8192_SHA256,
        }
    }
}

impl Header {
    /// Of a token that names no key.
    pub(super) fn new(alg: Algorithm) -> Self {
        Self { alg, typ: Some("JWT".to_owned()), kid: None, x5t: None, x5t_s256: None, x5c: None, crit: None }
    }

    /// Of `token`, whoever has signed it.
    pub(super) fn of(token: &str) -> Result<Self, Flaw> {
        let (header, _) = token.split_once('.').ok_or(Flaw::Malformed)?;
        let header: Self = part(header)?;
        // What must be understood is not (RFC 7515 §4.1.11).
        if header.crit.is_some() { Err(Flaw::Malformed) } else { Ok(header) }
    }
}

/// A token with `claims`.
#[expect(clippy::expect_used, reason = "claims are plain structs, and ring signs with any key that it has read")]
pub(super) fn sign(key: &KeyPair, header: &Header, claims: &impl Serialize) -> String {
    let (alg, header) = (header.alg, serde_json::to_vec(header).expect("a header can be written"));
    let claims = serde_json::to_vec(claims).expect("claims can be written");
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(alg.encoding(), &SystemRandom::new(), signed.as_bytes(), &mut signature).expect("a token can be signed");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The claims of `token`, if it was signed with `key`, which is written as PKCS #1 has it. Nothing else about it is judged.
pub(super) fn open<T: DeserializeOwned>(token: &str, key: &[u8]) -> Result<T, Flaw> {
    let alg = Header::of(token)?.alg;
    let (signed, signature) = token.rsplit_once('.').ok_or(Flaw::Malformed)?;
    let (_, claims) = signed.split_once('.').ok_or(Flaw::Malformed)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Flaw::Malformed)?;
    let key = UnparsedPublicKey::new(alg.parameters(), key);
    key.verify(signed.as_bytes(), &signature).map_err(|_| Flaw::Signature)?;
    part(claims)
}

fn part<T: DeserializeOwned>(text: &str) -> Result<T, Flaw> {
    let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| Flaw::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| Flaw::Malformed)
}

#[cfg(test)]
mod tests {
    use rsa::pkcs1::EncodeRsaPublicKey;
    use rsa::{BigUint, RsaPublicKey};
    use serde_json::{Value, json};

    use super::*;
    use crate::emulator::signing::SigningKey;

    /// The example of RFC 7515 §A.2: the token…
    const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.\
        eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
        cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQj\
        bKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZE\
        Sc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    /// …and the modulus of its key.
    const MODULUS: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-\
        SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg\
        665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";

    fn key() -> Vec<u8> {
        let modulus = BigUint::from_bytes_be(&URL_SAFE_NO_PAD.decode(MODULUS).unwrap());
        RsaPublicKey::new(modulus, 65_537_u32.into()).unwrap().to_pkcs1_der().unwrap().into_vec()
    }

    fn opened(token: &str) -> Result<Value, Flaw> {
        open(token, &key())
    }

    #[test]
    fn the_example_of_the_standard_is_opened() {
        let claims = json!({ "iss": "joe", "exp": 1_300_819_380, "http://example.com/is_root": true });
        assert_eq!(opened(TOKEN), Ok(claims));
    }

    #[test]
    fn what_is_not_as_it_was_signed_is_not_opened() {
        let [header, claims, signature] = TOKEN.split('.').collect::<Vec<_>>().try_into().unwrap();
        let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let with = |header: &str| opened(&format!("{}.{claims}.{signature}", encoded(header)));
        assert_eq!(opened(&format!("{header}.{}.{signature}", encoded("{}"))), Err(Flaw::Signature));
        assert_eq!(opened(&format!("{header}.{claims}.")), Err(Flaw::Signature));
        // The same token, said to be signed in the other way.
        assert_eq!(with(r#"{"alg":"PS256"}"#), Err(Flaw::Signature));
        for unknown in [r#"{"alg":"none"}"#, r#"{"alg":"HS256"}"#, r#"{"alg":"RS256","crit":["b64"]}"#, "{}", ""] {
            assert_eq!(with(unknown), Err(Flaw::Malformed), "{unknown}");
        }
        let padded = format!("{TOKEN}==");
        let more = format!("{TOKEN}.{signature}");
        for text in ["", "a", "a.b", "..", "no.token.this", header, &padded, &more] {
            assert!(opened(text).is_err(), "{text}");
        }
    }

    #[test]
    fn each_way_to_sign_can_be_checked() {
        let key = SigningKey::shared();
        let claims = json!({ "sub": "somebody" });
        for algorithm in [Algorithm::RS256, Algorithm::PS256] {
            let token = key.signed(&Header::new(algorithm), &claims);
            assert_eq!(key.open(&token).as_ref(), Some(&claims));
            assert_eq!(opened(&token), Err(Flaw::Signature));
        }
    }
}
