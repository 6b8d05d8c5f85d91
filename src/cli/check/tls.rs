//! Who is at the other end: the TLS handshake, and the certificates that were shown in it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::{CertificateError, ProtocolVersion};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::certificates::{Certificate, day};
use super::report::{Finding, Mend, word};
use super::setup::Setup;
use crate::error::{Causes, tls_cause};

/// A certificate with less than this left should have been renewed.
const NEAR_EXPIRY: Duration = Duration::from_secs(14 * 24 * 3600);

/// Shakes hands as the proxy does, with the same judge.
pub(super) async fn tls(setup: &Setup, stream: TcpStream) -> (Finding, Option<()>) {
    let mut config = setup.tls.clone();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let patience = setup.config.upstream.connect_timeout;
    let name = setup.config.upstream.endpoint.server_name().clone();
    let shaken = timeout(patience, TlsConnector::from(Arc::new(config)).connect(name, stream)).await;
    let overdue = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", patience.as_secs_f32()));
    let shaken = shaken.unwrap_or_else(|_| Err(overdue()));
    let chain: Vec<_> = setup.shown.take().iter().map(Certificate::read).collect();
    match shaken {
        Ok(stream) => {
            let (_, session) = stream.get_ref();
            let version = match session.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
                _ => "TLS 1.3",
            };
            let http = if session.alpn_protocol() == Some(b"h2") { "HTTP/2" } else { "HTTP/1.1" };
            (agreed(version, http, &chain, setup.now()), Some(()))
        }
        Err(error) => (refused(setup, &error, &chain), None),
    }
}

fn agreed(version: &str, http: &str, chain: &[Certificate], now: SystemTime) -> Finding {
    let detail = json!({ "version": version, "http": http, "chain": chain });
    let Some(own) = chain.first() else {
        return Finding::ok(format!("{version}, {http}")).detail(detail);
    };
    let message = format!("{version}, {http}; {} is vouched for by {} until {}", own.subject, own.issuer, own.until());
    match own.not_after.and_then(|end| end.duration_since(now).ok()) {
        Some(left) if left < NEAR_EXPIRY => {
            let advice = "the certificate is nearly over: whoever runs the server must renew it";
            Finding::warning(message).detail(detail).mend(Mend::new(advice, None))
        }
        _ => Finding::ok(message).detail(detail),
    }
}

/// What keeps a certificate from being taken, and which of those shown it is.
struct Problem {
    message: String,
    short: &'static str,
    culprit: usize,
    mend: Mend,
}

fn refused(setup: &Setup, error: &io::Error, chain: &[Certificate]) -> Finding {
    let host = setup.connector.host();
    let problem = match tls_cause(error) {
        Some(rustls::Error::InvalidCertificate(problem)) if !chain.is_empty() => flaw(setup, problem, chain),
        _ => {
            let words = Causes(error).to_string();
            let advice = "what answers there does not agree on TLS: is it the resource, and not something before it that keeps \
                          connections from it (a firewall, a blocking gateway)?";
            let mend = Mend::new(advice, [format!("curl -v {}/", word(&setup.config.upstream.endpoint))]);
            return Finding::failed(format!("no TLS with {host}: {words}"), mend);
        }
    };
    let notes = chain.iter().enumerate().flat_map(|(index, certificate)| {
        let mark = if index == problem.culprit { format!("  <- {}", problem.short) } else { String::new() };
        let [first, second] = certificate.told();
        [format!("certificate {} of {}: {first}{mark}", index + 1, chain.len()), format!("    {second}")]
    });
    let detail = json!({ "problem": problem.short, "certificate": problem.culprit, "chain": chain });
    Finding::failed(problem.message, problem.mend).notes(notes.collect()).detail(detail)
}

fn flaw(setup: &Setup, problem: &CertificateError, chain: &[Certificate]) -> Problem {
    let host = setup.connector.host();
    let now = setup.now();
    match problem {
        CertificateError::UnknownIssuer => unknown_issuer(setup, chain),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Problem {
            message: format!("what answers at {host} shows a certificate for {}", listed(&chain[0].names)),
            short: "wrong name",
            culprit: 0,
            mend: Mend::new(
                "is upstream.endpoint the resource's own name, and does the name lead to the resource here (a hosts file, a \
                 private zone, something in between)?",
                [format!("nslookup {}", setup.config.upstream.endpoint.authority().host())],
            ),
        },
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            let over = |certificate: &Certificate| certificate.not_after.is_some_and(|end| end < now);
            let culprit = chain.iter().position(over).unwrap_or_default();
            time(&format!("was over on {}", chain[culprit].until()), "expired", culprit, now)
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            let early = |certificate: &Certificate| certificate.not_before.is_some_and(|begin| begin > now);
            let culprit = chain.iter().position(early).unwrap_or_default();
            time(&format!("begins on {}", day(chain[culprit].not_before)), "not valid yet", culprit, now)
        }
        other => Problem {
            message: format!("the certificate of {host} is not taken: {}", rustls::Error::from(other.clone())),
            short: "not taken",
            culprit: 0,
            mend: Mend::new(
                "whoever runs the server must mend its certificate; see what it shows",
                [show(setup, "openssl x509 -noout -text")],
            ),
        },
    }
}

fn time(when: &str, short: &'static str, culprit: usize, now: SystemTime) -> Problem {
    let clock = humantime::format_rfc3339_seconds(now);
    Problem {
        message: format!("certificate {} {when}, and this machine's clock says {clock}", culprit + 1),
        short,
        culprit,
        mend: Mend::new(
            "is this machine's clock right? If it is, whoever runs the server must renew the certificate",
            ["timedatectl".to_owned()],
        ),
    }
}

/// Most often a company's gateway that reads along. Sometimes somebody else who does.
fn unknown_issuer(setup: &Setup, chain: &[Certificate]) -> Problem {
    let culprit = chain.len() - 1;
    let issuer = &chain[culprit].issuer;
    let host = setup.connector.host();
    let trust = "trust it alone, by upstream.ca_file (SSL_CERT_FILE would replace the system's authorities)";
    let use_it = |file: &str| format!("export AOAI_PROXY__UPSTREAM__CA_FILE={file}");
    let known = "nobody whom this machine trusts";
    let mend = if culprit == 0 {
        let advice = format!(
            "the server did not send the certificate of {issuer}. If that is your company's own authority (its gateway \
             inspects TLS), ask for its certificate as PEM and {trust}. If you do not know that name, do not trust it"
        );
        Mend::new(advice, [use_it("/path/to/company-ca.pem")])
    } else {
        let advice = format!(
            "if {issuer} is your company's own authority (its gateway inspects TLS), save what was sent besides the server's \
             own certificate, compare it with what your company has published, and {trust}. If you do not know that name, do \
             not trust it"
        );
        let save = show(setup, "sed -n '/BEGIN CERT/,/END CERT/p' | awk '/BEGIN/ {n++} n > 1' > company-ca.pem");
        Mend::new(advice, [save, use_it("\"$PWD/company-ca.pem\"")])
    };
    Problem {
        message: format!("{known} vouches for the certificate of {host}: it comes from {issuer}"),
        short: "unknown issuer",
        culprit,
        mend,
    }
}

/// What the server shows, into another program.
fn show(setup: &Setup, into: &str) -> String {
    let authority = setup.config.upstream.endpoint.authority();
    let port = authority.port_u16().unwrap_or(443);
    let proxy = setup.connector.forward_proxy().and_then(|proxy| proxy.authority().cloned());
    let proxy = proxy.map_or_else(String::new, |proxy| format!(" -proxy {proxy}"));
    format!(
        "openssl s_client -showcerts{proxy} -connect {host}:{port} -servername {host} </dev/null 2>/dev/null | {into}",
        host = authority.host()
    )
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "no name at all".to_owned(),
        names => names.join(", "),
    }
}
