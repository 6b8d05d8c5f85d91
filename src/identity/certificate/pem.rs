//! PEM text: certificates and private keys, the keys also encrypted, with anything between them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pkcs12::pbe_params::EncryptedPrivateKeyInfo;
use rustls::pki_types::pem::{PemObject, SectionKind};
use x509_cert::der::Decode;
use zeroize::Zeroizing;

use super::Contents;
use super::encryption::{Password, decrypt};
use super::error::Problem;
use super::key;

/// What every PEM text holds.
pub(super) const BEGIN: &str = "-----BEGIN ";

const BEGIN_ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const END_ENCRYPTED: &str = "-----END ENCRYPTED PRIVATE KEY-----";
const OLD_ENCRYPTION: &str = "Proc-Type: 4,ENCRYPTED";

pub(super) fn read(text: &str, password: &Password<'_>) -> Result<Contents, Problem> {
    if text.contains(OLD_ENCRYPTION) {
        return Err(Problem::OldEncryption);
    }
    let mut contents = Contents::default();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
        let (kind, der) = section.map_err(|_| Problem::BrokenPem)?;
        let der = Zeroizing::new(der);
        match kind {
            SectionKind::Certificate => contents.certificates.push(der.to_vec()),
            SectionKind::PrivateKey => contents.keys.push(key::pkcs8(&der)?),
            SectionKind::RsaPrivateKey => contents.keys.push(key::pkcs1(&der)?),
            SectionKind::EcPrivateKey => return Err(Problem::NotRsa("elliptic curves".to_owned())),
            _ => {}
        }
    }
    // The library knows no encrypted keys, and passes them over.
    for section in text.split(BEGIN_ENCRYPTED).skip(1) {
        let (section, _) = section.split_once(END_ENCRYPTED).ok_or(Problem::BrokenPem)?;
        contents.keys.push(encrypted(section, password)?);
    }
    Ok(contents)
}

fn encrypted(section: &str, password: &Password<'_>) -> Result<ring::signature::RsaKeyPair, Problem> {
    let base64: String = section.split_whitespace().collect();
    let der = STANDARD.decode(base64).map_err(|_| Problem::BrokenPem)?;
    let key = EncryptedPrivateKeyInfo::from_der(&der).map_err(|_| Problem::BrokenKey)?;
    key::pkcs8(&decrypt(&key.encryption_algorithm, key.encrypted_data.as_bytes(), password)?)
}
