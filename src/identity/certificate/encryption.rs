//! What a password opens: PBES2, and the older encryption that PKCS#12 brought along.

use cbc::Decryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipher, BlockDecryptMut, KeyInit, KeyIvInit};
use des::TdesEde3;
use pkcs8::pkcs5::pbes2::{Kdf, PBES2_OID, PBKDF2_OID, Parameters, Pbkdf2Params, Pbkdf2Prf};
use pkcs12::kdf::{Pkcs12KeyType, derive_key};
use pkcs12::pbe_params::Pkcs12PbeParams;
use pkcs12::{PKCS_12_PBE_WITH_SHAAND3_KEY_TRIPLE_DES_CBC, PKCS_12_PBEWITH_SHAAND40_BIT_RC2_CBC};
use rc2::Rc2;
use sha1::Sha1;
use x509_cert::der::asn1::{AnyRef, OctetStringRef};
use x509_cert::der::referenced::OwnedToRef;
use x509_cert::der::{self, Decode, Reader};
use x509_cert::spki::{AlgorithmIdentifierOwned, AlgorithmIdentifierRef};
use zeroize::Zeroizing;

use super::error::Problem;

/// A password, in the two forms that it is used in.
pub(super) struct Password<'a> {
    text: &'a str,
    /// For PKCS#12's own derivation of keys: UTF-16 with a terminator.
    pub(super) wide: Zeroizing<Vec<u8>>,
}

impl<'a> Password<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let units = text.encode_utf16().chain([0]);
        Self { text, wide: Zeroizing::new(units.flat_map(u16::to_be_bytes).collect()) }
    }

    /// Not even an empty text: no terminator either.
    pub(super) fn null() -> Self {
        Self { text: "", wide: Zeroizing::default() }
    }

    /// What to say when it opens nothing.
    pub(super) fn refused(&self) -> Problem {
        if self.text.is_empty() { Problem::NoPassword } else { Problem::WrongPassword }
    }
}

/// Decrypts DER. That what comes out is DER, and no other bytes, tells a wrong password where its padding fits by chance.
pub(super) fn decrypt(
    algorithm: &AlgorithmIdentifierOwned,
    encrypted: &[u8],
    password: &Password<'_>,
) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let unsupported = || Problem::Encryption(algorithm.oid.to_string());
    let parameters = algorithm.parameters.as_ref().ok_or_else(unsupported)?;
    let older = || parameters.decode_as::<Pkcs12PbeParams>().map_err(|_| unsupported());
    let plain = match algorithm.oid {
        PBES2_OID => {
            let parameters = pbes2(parameters.owned_to_ref()).map_err(|_| unsupported())?;
            parameters.decrypt(password.text, encrypted).ok().map(Zeroizing::new)
        }
        PKCS_12_PBE_WITH_SHAAND3_KEY_TRIPLE_DES_CBC => pbes1::<TdesEde3>(24, &older()?, encrypted, password),
        PKCS_12_PBEWITH_SHAAND40_BIT_RC2_CBC => pbes1::<Rc2>(5, &older()?, encrypted, password),
        _ => return Err(unsupported()),
    };
    plain.filter(|plain| AnyRef::from_der(plain).is_ok()).ok_or_else(|| password.refused())
}

/// As the library reads them, but for one thing: Go writes PBKDF2's pseudo-random function without its NULL.
fn pbes2(parameters: AnyRef<'_>) -> der::Result<Parameters<'_>> {
    parameters.sequence(|reader| {
        let kdf: AlgorithmIdentifierRef<'_> = reader.decode()?;
        let encryption: AlgorithmIdentifierRef<'_> = reader.decode()?;
        let kdf = match (kdf.oid, kdf.parameters) {
            (PBKDF2_OID, Some(parameters)) => Kdf::Pbkdf2(parameters.sequence(pbkdf2)?),
            _ => kdf.try_into()?,
        };
        Ok(Parameters { kdf, encryption: encryption.try_into()? })
    })
}

fn pbkdf2<'a>(reader: &mut impl Reader<'a>) -> der::Result<Pbkdf2Params<'a>> {
    Ok(Pbkdf2Params {
        salt: OctetStringRef::decode(reader)?.as_bytes(),
        iteration_count: reader.decode()?,
        key_length: reader.decode()?,
        prf: match Option::<AlgorithmIdentifierRef<'_>>::decode(reader)? {
            Some(prf) => AlgorithmIdentifierRef { parameters: Some(AnyRef::NULL), ..prf }.try_into()?,
            None => Pbkdf2Prf::default(),
        },
    })
}

/// Key and first block both come from the password, by RFC 7292's appendix B.
fn pbes1<C: BlockCipher + BlockDecryptMut + KeyInit>(
    key_length: usize,
    parameters: &Pkcs12PbeParams,
    encrypted: &[u8],
    password: &Password<'_>,
) -> Option<Zeroizing<Vec<u8>>> {
    let derive = |kind, length| {
        let salt = parameters.salt.as_bytes();
        Zeroizing::new(derive_key::<Sha1>(&password.wide, salt, kind, parameters.iterations, length))
    };
    let key = derive(Pkcs12KeyType::EncryptionKey, key_length);
    let first_block = derive(Pkcs12KeyType::Iv, C::block_size());
    let cipher = Decryptor::<C>::new_from_slices(&key, &first_block).ok()?;
    cipher.decrypt_padded_vec_mut::<Pkcs7>(encrypted).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use pkcs8::ObjectIdentifier;
    use pkcs8::pkcs5::pbes2::{AES_256_CBC_OID, HMAC_WITH_SHA256_OID};
    use x509_cert::der::{Any, Encode};

    use super::*;

    const PLAIN: &[u8] = &[0x04, 2, 1, 2];

    fn tlv(tag: u8, contents: &[Vec<u8>]) -> Vec<u8> {
        let content = contents.concat();
        [vec![tag, u8::try_from(content.len()).expect("a short form")], content].concat()
    }

    fn algorithm(oid: ObjectIdentifier, parameters: &[u8]) -> AlgorithmIdentifierOwned {
        AlgorithmIdentifierOwned { oid, parameters: Some(Any::from_der(parameters).expect("DER")) }
    }

    #[test]
    fn a_pseudo_random_function_may_lack_its_null() {
        let (salt, first_block) = ([7; 8], [9; 16]);
        let library = Parameters::pbkdf2_sha256_aes256cbc(300, &salt, &first_block).expect("parameters");
        let encrypted = library.encrypt("sesame", PLAIN).expect("encrypted");
        let oid = |oid: ObjectIdentifier| oid.to_der().expect("DER");
        for null in [vec![], vec![5, 0]] {
            let prf = tlv(0x30, &[oid(HMAC_WITH_SHA256_OID), null]);
            let pbkdf2 = tlv(0x30, &[tlv(0x04, &[salt.to_vec()]), vec![0x02, 2, 1, 44], prf]);
            let kdf = tlv(0x30, &[oid(PBKDF2_OID), pbkdf2]);
            let aes = tlv(0x30, &[oid(AES_256_CBC_OID), tlv(0x04, &[first_block.to_vec()])]);
            let algorithm = algorithm(PBES2_OID, &tlv(0x30, &[kdf, aes]));
            let plain = decrypt(&algorithm, &encrypted, &Password::new("sesame")).expect("opened");
            assert_eq!(*plain, PLAIN);
            let refused = decrypt(&algorithm, &encrypted, &Password::new("wrong"));
            assert!(matches!(refused, Err(Problem::WrongPassword)));
        }
    }

    #[test]
    fn a_wrong_password_is_told_also_where_padding_comes_out_by_chance() {
        let (salt, first_block) = ([7; 8], [9; 16]);
        let library = Parameters::pbkdf2_sha256_aes256cbc(1, &salt, &first_block).expect("parameters");
        let encrypted = library.encrypt("sesame", PLAIN).expect("encrypted");
        let algorithm = algorithm(PBES2_OID, &library.to_der().expect("DER"));
        for wrong in 0..2000 {
            let refused = decrypt(&algorithm, &encrypted, &Password::new(&wrong.to_string()));
            assert!(matches!(refused, Err(Problem::WrongPassword)), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let rc4 = algorithm(pkcs12::PKCS_12_PBE_WITH_SHAAND128_BIT_RC4, &[0x05, 0]);
        let refused = decrypt(&rc4, &[], &Password::new("sesame")).expect_err("a refusal");
        assert!(refused.to_string().contains("1.2.840.113549.1.12.1.1"), "{refused}");
    }

    #[test]
    fn a_password_outside_the_basic_plane_is_written_as_openssl_does() {
        assert_eq!(*Password::new("a🔑").wide, [0, 0x61, 0xd8, 0x3d, 0xdd, 0x11, 0, 0]);
    }
}
