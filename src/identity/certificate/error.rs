//! Why there is no certificate to sign with: what is wrong with a file, and what to do about it.

use std::io;
use std::path::PathBuf;

/// A certificate is not there, or does not sign.
#[derive(Debug, thiserror::Error)]
pub(in crate::identity) enum CertificateError {
    /// The file is no use as it is.
    #[error("{} {problem}", path.display())]
    File {
        /// The file's name.
        path: PathBuf,
        /// What is wrong with it.
        problem: Problem,
    },
    /// Signing needs random numbers.
    #[error("the operating system gave no random numbers to sign with")]
    Unsigned,
}

/// What is wrong with a file. Each follows the file's name, and none repeats anything that the file holds.
#[derive(Debug, thiserror::Error)]
pub(in crate::identity) enum Problem {
    #[error("cannot be read ({0}); is it there, and may this program's user read it?")]
    Unreadable(io::Error),
    #[error("is a directory; name the file in it")]
    Directory,
    #[error("is empty; has the certificate been written to another file?")]
    Empty,
    #[error("is neither PEM nor PKCS#12; if it is base64 text, as Key Vault hands it out, decode it with `base64 -d`")]
    Unknown,
    #[error(
        "is a certificate alone (.cer, .crt), without its private key; name a file that holds both: PEM or PKCS#12 (.pfx)"
    )]
    BareCertificate,
    #[error(
        "is PEM that is cut off or has lost its line breaks; \
         each `-----BEGIN …-----` and `-----END …-----` stands on a line of its own"
    )]
    BrokenPem,
    #[error(
        "starts like PKCS#12, but cannot be read; \
         write it anew as PEM: `openssl pkcs12 -in old.pfx -noenc -out new.pem` (add -legacy if it asks for that)"
    )]
    BrokenPkcs12,
    #[error("holds neither a certificate nor a private key; name a file that holds both")]
    Nothing,
    #[error("holds a certificate, but not its private key; put both into one file: `cat key.pem cert.pem > both.pem`")]
    NoKey,
    #[error("holds a private key, but no certificate; put both into one file: `cat key.pem cert.pem > both.pem`")]
    NoCertificate,
    #[error("holds no certificate that belongs to its private key; put the two that were made together into one file")]
    NoMatch,
    #[error("holds a certificate that cannot be read; export it anew")]
    BrokenCertificate,
    #[error(
        "is encrypted, and there is no password for it; set credential.client_certificate_password \
         (AZURE_CLIENT_CERTIFICATE_PASSWORD), or leave the encryption out"
    )]
    NoPassword,
    #[error(
        "cannot be opened with the password that credential.client_certificate_password \
         (AZURE_CLIENT_CERTIFICATE_PASSWORD) gives; is it the right one, and the file whole?"
    )]
    WrongPassword,
    #[error(
        "is encrypted in a way that is not supported ({0}); \
         write it anew: PKCS#12 with `openssl pkcs12 -legacy -in old.pfx -noenc -out new.pem`, \
         a key in PEM with `openssl pkcs8 -topk8 -in old.pem -out new.pem`"
    )]
    Encryption(String),
    #[error(
        "holds a private key in OpenSSL's old encryption (`Proc-Type: 4,ENCRYPTED`), which is not supported; \
         convert the key with `openssl pkcs8 -topk8 -in old.pem -out new.pem`, and append the certificate"
    )]
    OldEncryption,
    #[error("holds a private key for {0}; Entra takes RSA keys alone: make a certificate with an RSA key of 2048 bits")]
    NotRsa(String),
    #[error("holds an RSA key that is too short to be safe; make a certificate with an RSA key of 2048 bits or more")]
    ShortKey,
    #[error("holds an RSA key of more than 4096 bits, which is not supported; make a certificate with a shorter one")]
    LongKey,
    #[error("holds a private key that cannot be used; is it damaged?")]
    BrokenKey,
}
