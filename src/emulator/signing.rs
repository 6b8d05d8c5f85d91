//! The emulator's RSA key: signs JSON web tokens and tells whether a token was signed with it.

use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use rsa::RsaPrivateKey;
use rsa::pkcs1::{EncodeRsaPrivateKey, EncodeRsaPublicKey};
use rsa::traits::PublicKeyParts;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::web_tokens;

/// The name under which the key set publishes the key; token headers repeat it.
const KEY_ID: &str = "emulator-signing-key";

/// The size that Entra uses.
const KEY_BITS: usize = 2048;

/// An RSA key pair, made when it is first needed and shared by every emulator of the process.
pub(super) struct SigningKey {
    private: EncodingKey,
    public: DecodingKey,
    modulus: String,
    exponent: String,
}

impl SigningKey {
    /// The key of this process. Making it takes a while and blocks: call it where blocking is allowed.
    pub(super) fn shared() -> &'static Self {
        static KEY: OnceLock<SigningKey> = OnceLock::new();
        KEY.get_or_init(Self::generate)
    }

    #[expect(clippy::expect_used, reason = "fails only without randomness, and then nothing can be emulated")]
    fn generate() -> Self {
        web_tokens::provide();
        let key = RsaPrivateKey::new(&mut rand::rngs::OsRng, KEY_BITS).expect("an RSA key can be made");
        let der = key.to_pkcs1_der().expect("a fresh key can be written as DER");
        let public = key.to_public_key().to_pkcs1_der().expect("its public half can be, too");
        Self {
            private: EncodingKey::from_rsa_der(der.as_bytes()),
            public: DecodingKey::from_rsa_der(public.as_bytes()),
            modulus: URL_SAFE_NO_PAD.encode(key.n().to_bytes_be()),
            exponent: URL_SAFE_NO_PAD.encode(key.e().to_bytes_be()),
        }
    }

    /// A signed token that carries `claims`.
    #[expect(clippy::expect_used, reason = "the claims are plain structs and the key is known to be good")]
    pub(super) fn sign(&self, claims: &impl Serialize) -> String {
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(KEY_ID.to_owned());
        encode(&header, claims, &self.private).expect("claims can be signed")
    }

    /// The claims of `token`, if it was signed with this key. Nothing else about it is judged.
    pub(super) fn open<T: DeserializeOwned>(&self, token: &str) -> Option<T> {
        let mut signature_only = Validation::new(Algorithm::RS256);
        signature_only.required_spec_claims.clear();
        signature_only.validate_exp = false;
        signature_only.validate_nbf = false;
        signature_only.validate_aud = false;
        decode(token, &self.public, &signature_only).ok().map(|token| token.claims)
    }

    /// The public half as a JSON web key set.
    pub(super) fn key_set(&self) -> Value {
        json!({ "keys": [{
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID, "n": self.modulus, "e": self.exponent,
        }] })
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SigningKey").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_what_it_signed() {
        let key = SigningKey::shared();
        let token = key.sign(&json!({ "aud": "somebody", "exp": 1 }));
        assert_eq!(key.open::<Value>(&token).unwrap()["aud"], "somebody");
    }

    #[test]
    fn refuses_a_changed_token() {
        let key = SigningKey::shared();
        let token = key.sign(&json!({ "aud": "somebody" }));
        let (head, signature) = token.rsplit_once('.').unwrap();
        let (header, _) = head.split_once('.').unwrap();
        let forged = URL_SAFE_NO_PAD.encode(r#"{"aud":"somebody else"}"#);
        assert_eq!(key.open::<Value>(&format!("{header}.{forged}.{signature}")), None);
    }

    #[test]
    fn refuses_a_token_of_another_key() {
        let token = SigningKey::generate().sign(&json!({ "aud": "somebody" }));
        assert_eq!(SigningKey::shared().open::<Value>(&token), None);
    }
}
