//! Private keys, as PKCS#8 and PKCS#1 write them: RSA alone.

use pkcs8::{ObjectIdentifier, PrivateKeyInfo};
use ring::signature::RsaKeyPair;
use x509_cert::der::oid::db::rfc5912::{ID_EC_PUBLIC_KEY, RSA_ENCRYPTION};
use x509_cert::der::oid::db::rfc8410::ID_ED_25519;

use super::error::Problem;

/// The key of a `PRIVATE KEY`.
pub(super) fn pkcs8(der: &[u8]) -> Result<RsaKeyPair, Problem> {
    rsa(&PrivateKeyInfo::try_from(der).map_err(|_| Problem::BrokenKey)?)
}

/// The key, if it is one for RSA.
pub(super) fn rsa(key: &PrivateKeyInfo<'_>) -> Result<RsaKeyPair, Problem> {
    match key.algorithm.oid {
        RSA_ENCRYPTION => pkcs1(key.private_key),
        other => Err(Problem::NotRsa(name(other))),
    }
}

/// The key of an `RSA PRIVATE KEY`.
pub(super) fn pkcs1(der: &[u8]) -> Result<RsaKeyPair, Problem> {
    RsaKeyPair::from_der(der).map_err(|rejected| match rejected.to_string().as_str() {
        "TooSmall" => Problem::ShortKey,
        "TooLarge" => Problem::LongKey,
        _ => Problem::BrokenKey,
    })
}

fn name(algorithm: ObjectIdentifier) -> String {
    match algorithm {
        ID_EC_PUBLIC_KEY => "elliptic curves".to_owned(),
        ID_ED_25519 => "Ed25519".to_owned(),
        other => format!("the algorithm {other}"),
    }
}

#[cfg(test)]
mod tests {
    use rsa::pkcs1::der::Encode;
    use rsa::pkcs1::{RsaPrivateKey, UintRef};

    use super::*;

    #[test]
    fn a_key_that_ring_finds_too_long_is_named() {
        let number = [0xff; 640];
        let number = UintRef::new(&number).expect("a number");
        let key = RsaPrivateKey {
            modulus: number,
            public_exponent: UintRef::new(&[1, 0, 1]).expect("a number"),
            private_exponent: number,
            prime1: number,
            prime2: number,
            exponent1: number,
            exponent2: number,
            coefficient: number,
            other_prime_infos: None,
        };
        assert!(matches!(pkcs1(&key.to_der().expect("DER")), Err(Problem::LongKey)));
    }
}
