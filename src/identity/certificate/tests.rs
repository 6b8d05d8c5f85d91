//! Certificates from files, good and bad, and what they sign.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::{CertificateError, ClientCertificate, Parsed, chain};

const PASSWORD: &str = "sesame";
/// `openssl x509 -fingerprint -sha256` of the certificate in all files but `chain.pem`.
const FINGERPRINT: &str =
    "07:60:DE:73:75:C8:6C:38:D9:3E:63:C0:B6:56:F3:6E:0B:4C:4F:C4:36:E9:75:B5:F9:01:CB:D8:01:4A:D4:13";
/// The same of the leaf in `chain.pem`.
const LEAF_FINGERPRINT: &str =
    "8B:AD:A0:8F:0F:22:0F:1C:1A:EE:AE:1D:7E:CF:C9:2D:8F:DB:43:B2:26:4F:D4:25:7F:6A:FB:FE:A5:78:51:7A";
/// `openssl x509 -enddate` of the first: 2126-10-28 05:29:55.
const ENDS: u64 = 4_948_838_995;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/certificates").join(name)
}

fn open(name: &str, password: Option<&str>) -> Result<ClientCertificate, CertificateError> {
    ClientCertificate::read(&fixture(name), password.map(SecretString::from).as_ref())
}

fn text(name: &str) -> String {
    std::fs::read_to_string(fixture(name)).expect("a fixture")
}

/// The words about a file with `content`, without its name.
fn refusal_of(content: &[u8], password: Option<&str>) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("certificate");
    std::fs::write(&path, content).expect("a file");
    refusal(&path, password)
}

fn refusal(path: &Path, password: Option<&str>) -> String {
    let error = ClientCertificate::read(path, password.map(SecretString::from).as_ref()).expect_err("a refusal");
    let words = error.to_string();
    words.strip_prefix(&format!("{} ", path.display())).expect("the file's name in front").to_owned()
}

/// Fingerprints as `openssl` writes them.
fn fingerprint(thumbprint: &str) -> String {
    let bytes = URL_SAFE_NO_PAD.decode(thumbprint).expect("base64url");
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

fn part(assertion: &str, index: usize) -> Value {
    let part = assertion.split('.').nth(index).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

#[test]
fn every_form_of_a_file_gives_the_same_certificate() {
    for (name, password) in [
        ("combined.pem", None),
        ("pkcs1.pem", None),
        ("encrypted.pem", Some(PASSWORD)),
        ("modern.pfx", Some(PASSWORD)),
        ("legacy.pfx", Some(PASSWORD)),
        ("no-password.pfx", None),
        ("no-password.pfx", Some("")),
        ("null-password.pfx", None),
        ("combined.pem", Some("for nothing")),
    ] {
        let certificate = open(name, password).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(fingerprint(&certificate.thumbprint), FINGERPRINT, "{name}");
        assert_eq!(certificate.expires_at(), UNIX_EPOCH + Duration::from_secs(ENDS), "{name}");
        assert_eq!(certificate.chain.len(), 1, "{name}");
    }
}

#[test]
fn files_are_told_apart_by_content() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("certificate.pem");
    std::fs::copy(fixture("modern.pfx"), &path).expect("a file");
    ClientCertificate::read(&path, Some(&PASSWORD.into())).expect("PKCS#12");
    let friendly_name = b"Bag Attributes\r\n    friendlyName: caf\xe9\r\n";
    let windows = [&friendly_name[..], text("combined.pem").replace('\n', "\r\n").as_bytes()].concat();
    std::fs::write(&path, windows).expect("a file");
    ClientCertificate::read(&path, None).expect("PEM, and what openssl writes around it");
}

#[test]
fn an_assertion_says_what_entra_asks_for_and_is_signed() {
    let certificate = open("combined.pem", None).expect("a certificate");
    let audience = "https://login.microsoftonline.com/t/oauth2/v2.0/token";
    let now = UNIX_EPOCH + Duration::from_millis(1_700_000_000_999);
    let assertion = certificate.assertion(audience, "client", now, false).expect("an assertion");
    let assertion = assertion.expose_secret();

    let header = part(assertion, 0);
    assert_eq!((&header["alg"], &header["typ"]), (&"PS256".into(), &"JWT".into()));
    assert_eq!(fingerprint(header["x5t#S256"].as_str().expect("text")), FINGERPRINT);
    assert_eq!(header.get("x5c"), None);

    let mut claims = part(assertion, 1);
    let jti = claims.as_object_mut().expect("an object").remove("jti").expect("an id");
    assert_eq!(uuid::Uuid::parse_str(jti.as_str().expect("text")).expect("a UUID").get_version_num(), 4);
    let expected = serde_json::json!({
        "aud": audience, "iss": "client", "sub": "client",
        "iat": 1_700_000_000, "nbf": 1_700_000_000, "exp": 1_700_000_600,
    });
    assert_eq!(claims, expected);

    let (message, signature) = assertion.rsplit_once('.').expect("a signature");
    let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    let leaf = CertificateDer::from_pem_file(fixture("combined.pem")).expect("a certificate");
    let leaf = Parsed::new(&leaf).expect("a certificate");
    let key = leaf.says.subject_public_key_info.subject_public_key.raw_bytes();
    UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key).verify(message.as_bytes(), &signature).expect("signed");
}

#[test]
fn no_two_assertions_have_the_same_id() {
    let certificate = open("combined.pem", None).expect("a certificate");
    let jti = || {
        let assertion = certificate.assertion("a", "c", SystemTime::UNIX_EPOCH, false).expect("an assertion");
        part(assertion.expose_secret(), 1)["jti"].clone()
    };
    assert_ne!(jti(), jti());
}

#[test]
fn a_chain_is_sent_from_the_leaf_up_when_asked_for() {
    let certificate = open("chain.pem", None).expect("a certificate");
    assert_eq!(fingerprint(&certificate.thumbprint), LEAF_FINGERPRINT);
    let [root, _unrelated, issuer, leaf] = CertificateDer::pem_file_iter(fixture("chain.pem"))
        .expect("a fixture")
        .map(|certificate| STANDARD.encode(certificate.expect("a certificate")))
        .collect::<Vec<_>>()
        .try_into()
        .expect("four certificates");
    let sent = certificate.assertion("a", "c", SystemTime::UNIX_EPOCH, true).expect("an assertion");
    assert_eq!(part(sent.expose_secret(), 0)["x5c"], serde_json::json!([leaf, issuer, root]));
    let not_sent = certificate.assertion("a", "c", SystemTime::UNIX_EPOCH, false).expect("an assertion");
    assert_eq!(part(not_sent.expose_secret(), 0).get("x5c"), None);
}

#[test]
fn issuers_in_a_circle_are_followed_once() {
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(fixture("chain.pem")).expect("a fixture").collect::<Result<_, _>>().expect("PEM");
    let mut all: Vec<_> = certificates.iter().filter_map(|der| Parsed::new(der)).collect();
    all[0].says.issuer = all[2].says.subject.clone();
    assert_eq!(chain(&all[3], &all), [3, 2, 0].map(|index| certificates[index].to_vec()));
}

#[test]
fn a_password_that_opens_nothing_is_told_from_none() {
    for name in ["encrypted.pem", "modern.pfx", "legacy.pfx"] {
        let path = fixture(name);
        assert!(refusal(&path, Some("wrong")).starts_with("cannot be opened with the password"), "{name}");
        assert!(refusal(&path, None).starts_with("is encrypted, and there is no password"), "{name}");
    }
    assert!(refusal(&fixture("no-password.pfx"), Some("wrong")).starts_with("cannot be opened"));
}

#[test]
fn a_file_that_was_changed_is_not_taken() {
    let local_key_id = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 0x15, 0x31, 0x16, 4, 0x14];
    let mut pfx = std::fs::read(fixture("null-password.pfx")).expect("a fixture");
    let at = pfx.windows(local_key_id.len()).position(|window| window == local_key_id).expect("an attribute");
    // Read by nobody, so that only the MAC can tell.
    pfx[at + local_key_id.len()] ^= 1;
    assert!(refusal_of(&pfx, None).starts_with("is encrypted"));
}

#[test]
fn halves_of_a_certificate_are_told_apart() {
    let combined = text("combined.pem");
    let (key, certificate) = combined.split_at(combined.find("-----BEGIN CERTIFICATE").expect("a certificate"));
    assert!(refusal_of(certificate.as_bytes(), None).starts_with("holds a certificate, but not its private key"));
    assert!(refusal_of(key.as_bytes(), None).starts_with("holds a private key, but no certificate"));
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate");
    assert!(refusal_of(&der, None).starts_with("is a certificate alone"));
    let strangers = [key, text("ec.pem").split("-----END PRIVATE KEY-----").nth(1).expect("a certificate")].concat();
    assert!(refusal_of(strangers.as_bytes(), None).starts_with("holds no certificate that belongs to its private key"));
    let damaged = [key, "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"].concat();
    assert!(refusal_of(damaged.as_bytes(), None).starts_with("holds a certificate that cannot be read"));
    let request = b"-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n";
    assert!(refusal_of(request, None).starts_with("holds neither"));
}

#[test]
fn what_is_no_certificate_at_all_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    assert!(refusal(directory.path(), None).starts_with("is a directory"));
    assert!(refusal(&directory.path().join("missing"), None).starts_with("cannot be read ("));
    assert!(refusal_of(b"", None).starts_with("is empty"));
    assert!(refusal_of(b"\r\n", None).starts_with("is empty"));
    let pfx = std::fs::read(fixture("modern.pfx")).expect("a fixture");
    assert!(refusal_of(STANDARD.encode(&pfx).as_bytes(), Some(PASSWORD)).starts_with("is neither PEM nor PKCS#12"));
    assert!(refusal_of(&pfx[..pfx.len() - 1], Some(PASSWORD)).starts_with("starts like PKCS#12"));
    let combined = text("combined.pem");
    assert!(refusal_of(&combined.as_bytes()[..combined.len() - 30], None).starts_with("is PEM that is cut off"));
    let one_line = refusal_of(combined.replace('\n', "").as_bytes(), None);
    assert!(one_line.starts_with("is PEM that is cut off"));
    assert!(!one_line.contains("MII"), "an error repeats a key");
}

#[test]
fn keys_that_entra_does_not_take_are_named() {
    assert!(refusal(&fixture("ec.pem"), None).starts_with("holds a private key for elliptic curves"));
    assert!(refusal(&fixture("small.pem"), None).starts_with("holds an RSA key that is too short"));
    let ed25519 = "MC4CAQAwBQYDK2VwBCIEIBmCGxzJlWZcCRSD6nX8JGJqSBSu2MnJYIYTqbR3d1uD";
    let pem = |label, base64| format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n");
    assert!(refusal_of(pem("PRIVATE KEY", ed25519).as_bytes(), None).starts_with("holds a private key for Ed25519"));
    assert!(refusal_of(pem("EC PRIVATE KEY", "MAA=").as_bytes(), None).contains("for elliptic curves"));
    assert!(refusal_of(pem("PRIVATE KEY", "MAA=").as_bytes(), None).contains("cannot be used"));
    let old = pem("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nMAA=");
    assert!(refusal_of(old.as_bytes(), Some(PASSWORD)).contains("openssl pkcs8 -topk8"));
}

#[test]
fn nothing_secret_is_printed() {
    let certificate = open("combined.pem", None).expect("a certificate");
    let thumbprint = &certificate.thumbprint;
    assert_eq!(format!("{certificate:?}"), format!("ClientCertificate {{ thumbprint: {thumbprint:?}, .. }}"));
}
