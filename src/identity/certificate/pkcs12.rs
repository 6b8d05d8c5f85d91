//! PKCS#12 (`.pfx`, `.p12`): certificates and private keys under one password (RFC 7292).

use cms::content_info::ContentInfo;
use cms::encrypted_data::EncryptedData;
use pkcs8::PrivateKeyInfo;
use pkcs12::authenticated_safe::AuthenticatedSafe;
use pkcs12::cert_type::CertBag;
use pkcs12::kdf::{Pkcs12KeyType, derive_key};
use pkcs12::mac_data::MacData;
use pkcs12::pbe_params::EncryptedPrivateKeyInfo;
use pkcs12::pfx::Pfx;
use pkcs12::safe_bag::{SafeBag, SafeContents};
use pkcs12::{PKCS_12_CERT_BAG_OID, PKCS_12_KEY_BAG_OID, PKCS_12_PKCS8_KEY_BAG_OID, PKCS_12_X509_CERT_OID};
use ring::hmac;
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use x509_cert::der::Decode;
use x509_cert::der::asn1::{ContextSpecific, OctetString};
use x509_cert::der::oid::db::rfc5911::{ID_DATA, ID_ENCRYPTED_DATA};
use x509_cert::der::oid::db::rfc5912::{ID_SHA_1, ID_SHA_256, ID_SHA_512};
use zeroize::Zeroizing;

use super::Contents;
use super::encryption::{Password, decrypt};
use super::error::Problem;
use super::key;

/// The derivation of a key: password, salt, purpose, rounds, length.
type Derivation = fn(&[u8], &[u8], Pkcs12KeyType, i32, usize) -> Vec<u8>;

pub(super) fn read(pfx: &Pfx, password: &Password<'_>) -> Result<Contents, Problem> {
    match open(pfx, password) {
        // A file can be without a password in two ways; .NET and Key Vault write this one.
        Err(Problem::NoPassword) => open(pfx, &Password::null()),
        opened => opened,
    }
}

fn open(pfx: &Pfx, password: &Password<'_>) -> Result<Contents, Problem> {
    let safe: OctetString = pfx.auth_safe.content.decode_as().map_err(|_| Problem::BrokenPkcs12)?;
    if let Some(mac) = &pfx.mac_data {
        authenticate(mac, safe.as_bytes(), password)?;
    }
    let mut contents = Contents::default();
    for part in parse::<AuthenticatedSafe<'_>>(safe.as_bytes())? {
        for bag in parse::<SafeContents>(&opened(&part, password)?)? {
            unpack(bag, password, &mut contents)?;
        }
    }
    Ok(contents)
}

/// Tells a wrong password before anything is decrypted with it.
fn authenticate(mac: &MacData, safe: &[u8], password: &Password<'_>) -> Result<(), Problem> {
    let (digest, derive): (hmac::Algorithm, Derivation) = match mac.mac.algorithm.oid {
        ID_SHA_1 => (hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, derive_key::<Sha1>),
        ID_SHA_256 => (hmac::HMAC_SHA256, derive_key::<Sha256>),
        ID_SHA_512 => (hmac::HMAC_SHA512, derive_key::<Sha512>),
        other => return Err(Problem::Encryption(other.to_string())),
    };
    let length = digest.digest_algorithm().output_len();
    let salt = mac.mac_salt.as_bytes();
    let key = Zeroizing::new(derive(&password.wide, salt, Pkcs12KeyType::Mac, mac.iterations, length));
    let key = hmac::Key::new(digest, &key);
    hmac::verify(&key, safe, mac.mac.digest.as_bytes()).map_err(|_| password.refused())
}

/// One part of the file, encrypted as a whole or not at all.
fn opened(part: &ContentInfo, password: &Password<'_>) -> Result<Zeroizing<Vec<u8>>, Problem> {
    match part.content_type {
        ID_DATA => {
            let data: OctetString = part.content.decode_as().map_err(|_| Problem::BrokenPkcs12)?;
            Ok(Zeroizing::new(data.into_bytes()))
        }
        ID_ENCRYPTED_DATA => {
            let data: EncryptedData = part.content.decode_as().map_err(|_| Problem::BrokenPkcs12)?;
            let content = data.enc_content_info;
            let encrypted = content.encrypted_content.ok_or(Problem::BrokenPkcs12)?;
            decrypt(&content.content_enc_alg, encrypted.as_bytes(), password)
        }
        other => Err(Problem::Encryption(other.to_string())),
    }
}

/// Puts what a bag holds to the rest. Whatever is neither key nor certificate is left where it is.
fn unpack(bag: SafeBag, password: &Password<'_>, contents: &mut Contents) -> Result<(), Problem> {
    let value = Zeroizing::new(bag.bag_value);
    match bag.bag_id {
        PKCS_12_CERT_BAG_OID => {
            let bag = parse::<ContextSpecific<CertBag>>(&value)?.value;
            if bag.cert_id == PKCS_12_X509_CERT_OID {
                contents.certificates.push(bag.cert_value.into_bytes());
            }
        }
        PKCS_12_KEY_BAG_OID => {
            let key = parse::<ContextSpecific<PrivateKeyInfo<'_>>>(&value)?.value;
            contents.keys.push(key::rsa(&key)?);
        }
        PKCS_12_PKCS8_KEY_BAG_OID => {
            let key = parse::<ContextSpecific<EncryptedPrivateKeyInfo>>(&value)?.value;
            let key = decrypt(&key.encryption_algorithm, key.encrypted_data.as_bytes(), password)?;
            contents.keys.push(key::pkcs8(&key)?);
        }
        _ => {}
    }
    Ok(())
}

fn parse<'a, T: Decode<'a>>(der: &'a [u8]) -> Result<T, Problem> {
    T::from_der(der).map_err(|_| Problem::BrokenPkcs12)
}
