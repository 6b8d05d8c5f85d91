//! The emulator's RSA key: signs JSON web tokens and tells whether a token was signed with it.

use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rsa::KeyPair;
use rsa::RsaPrivateKey;
use rsa::pkcs1::EncodeRsaPrivateKey;
use rsa::traits::PublicKeyParts;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::web_tokens::{self, Algorithm, Header};

/// The name under which the key set publishes the key; token headers repeat it.
const KEY_ID: &str = "emulator-signing-key";

/// The size that Entra uses.
const KEY_BITS: usize = 2048;

/// An RSA key pair, made when it is first needed and shared by every emulator of the process.
pub(super) struct SigningKey {
    pair: KeyPair,
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
        let key = RsaPrivateKey::new(&mut rand::rngs::OsRng, KEY_BITS).expect("an RSA key can be made");
        let der = key.to_pkcs1_der().expect("a fresh key can be written as DER");
        Self {
            pair: KeyPair::from_der(der.as_bytes()).expect("ring reads the key"),
            modulus: URL_SAFE_NO_PAD.encode(key.n().to_bytes_be()),
            exponent: URL_SAFE_NO_PAD.encode(key.e().to_bytes_be()),
        }
    }

    /// A signed token that carries `claims`.
    pub(super) fn sign(&self, claims: &impl Serialize) -> String {
        self.signed(&Header { kid: Some(KEY_ID.to_owned()), ..Header::new(Algorithm::RS256) }, claims)
    }

    /// The same with any header.
    pub(super) fn signed(&self, header: &Header, claims: &impl Serialize) -> String {
        web_tokens::sign(&self.pair, header, claims)
    }

    /// The claims of `token`, if it was signed with this key. Nothing else about it is judged.
    pub(super) fn open<T: DeserializeOwned>(&self, token: &str) -> Option<T> {
        web_tokens::open(token, self.pair.public().as_ref()).ok()
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
