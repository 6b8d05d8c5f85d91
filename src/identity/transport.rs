//! What carries token requests: a client for metadata services, which no forward proxy may see, and one for Entra.
//!
//! An answer that is no success leaves here as an error of ours that keeps status and content. `azure_identity` 1.0 would
//! lose both (it cannot read an `error_description` with an escape in it, and every real one has `\r\n`), and would try
//! again by rules of its own: when to try again is the token store's to decide.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::error::{Error, ErrorKind};
use azure_core::http::headers::HeaderName;
use azure_core::http::{AsyncRawResponse, AsyncResponseBody, HttpClient, Request};
use bytes::Bytes;
use futures_util::StreamExt;
use rustls::ClientConfig;
use secrecy::{ExposeSecret, SecretString};
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::answer::{self, Dialect};
use super::failure::Cause;
use crate::config::{Config, CredentialSource};

/// How long a metadata service on this machine or link may take to accept a connection.
const METADATA_CONNECT: Duration = Duration::from_secs(2);

/// The most of an answer that is read.
const LONGEST_ANSWER: usize = 256 * 1024;

/// Room for any token: what a buffer leaves behind when it grows is not wiped.
const TOKEN_ROOM: usize = 16 * 1024;

/// The content of a refusal that is worth keeping.
const WORDS: usize = 2000;

/// The clients.
#[derive(Debug, Clone)]
pub(super) struct Transports {
    /// For the metadata service, wherever `azure_identity` thinks that it is.
    pub(super) imds: Arc<dyn HttpClient>,
    /// For the identity endpoint that the platform has named.
    pub(super) app_service: Arc<dyn HttpClient>,
    pub(super) entra: Arc<dyn HttpClient>,
    /// The first one's client, for questions that are not for tokens.
    pub(super) metadata: reqwest::Client,
}

impl Transports {
    pub(super) fn new(config: &Config, tls: ClientConfig) -> Result<Self, reqwest::Error> {
        let metadata = builder(tls.clone()).no_proxy().connect_timeout(METADATA_CONNECT).build()?;
        let entra = builder(tls).connect_timeout(config.upstream.connect_timeout);
        let entra = config.proxies.apply(entra)?.build()?;
        let imds = Some(config.credential.imds_endpoint.clone());
        let transport = |client: &reqwest::Client, dialect, imds| -> Arc<dyn HttpClient> {
            Arc::new(Transport { client: client.clone(), dialect, secret: None, imds })
        };
        Ok(Self {
            imds: transport(&metadata, Dialect::ManagedIdentity, imds),
            app_service: transport(&metadata, Dialect::ManagedIdentity, None),
            entra: Arc::new(Transport {
                client: entra,
                dialect: Dialect::Entra,
                secret: secret(&config.credential.source),
                imds: None,
            }),
            metadata,
        })
    }
}

/// The secret that goes to Entra, if one does.
fn secret(source: &CredentialSource) -> Option<SecretString> {
    match source {
        CredentialSource::ClientSecret { secret, .. } => Some(secret.clone()),
        CredentialSource::Auto(links) => links.iter().find_map(secret),
        CredentialSource::ManagedIdentity(_)
        | CredentialSource::WorkloadIdentity { .. }
        | CredentialSource::ClientCertificate { .. }
        | CredentialSource::AzureCli { .. }
        | CredentialSource::AzureDeveloperCli { .. } => None,
    }
}

fn builder(tls: ClientConfig) -> reqwest::ClientBuilder {
    reqwest::Client::builder().tls_backend_preconfigured(tls).redirect(reqwest::redirect::Policy::none())
}

/// A client whose refusals keep their words.
#[derive(Debug)]
struct Transport {
    client: reqwest::Client,
    dialect: Dialect,
    /// What goes out with requests and must not come back in anybody's words.
    secret: Option<SecretString>,
    /// Where the metadata service is. `azure_identity` has its address built in, and reads the process's own environment
    /// for other places: what the configuration says wins over both.
    imds: Option<Url>,
}

const IMDS_PATH: &str = "metadata/identity/oauth2/token";

#[async_trait]
impl HttpClient for Transport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let mut request = request.clone();
        if let Some(imds) = &self.imds {
            redirect_metadata(request.url_mut(), imds);
            // Meant for another service than the one that is asked.
            request.headers_mut().remove(HeaderName::from_static("x-identity-header"));
        }
        let service = request.url().origin().ascii_serialization();
        let unreachable =
            |error: &Error| failed(Cause::Unreachable { service: service.clone(), words: innermost(error) });
        let response =
            HttpClient::execute_request(&self.client, &request).await.map_err(|error| unreachable(&error))?;
        let status = response.status();
        let retry_after = retry_after(&response);
        let (_, headers, body) = response.deconstruct();
        let content = read(body).await.map_err(|error| unreachable(&error))?;
        if !status.is_success() {
            return Err(failed(Cause::Refused {
                service,
                status: status.into(),
                words: words(&content, self.secret.as_ref()),
                retry_after,
            }));
        }
        let token =
            answer::rewrite(self.dialect, &content).map_err(|problem| failed(Cause::NoToken { service, problem }))?;
        Ok(AsyncRawResponse::from_bytes(status, headers, Bytes::from_owner(token)))
    }
}

/// The beginning of an answer; no token and no refusal is longer.
async fn read(mut body: AsyncResponseBody) -> azure_core::Result<Zeroizing<Vec<u8>>> {
    let mut content = Zeroizing::new(Vec::with_capacity(TOKEN_ROOM));
    while let Some(chunk) = body.next().await {
        content.extend_from_slice(&chunk?);
        if content.len() > LONGEST_ANSWER {
            content.truncate(LONGEST_ANSWER);
            break;
        }
    }
    Ok(content)
}

fn redirect_metadata(url: &mut Url, imds: &Url) {
    let mut moved = imds.clone();
    moved.set_path(&format!("{}/{IMDS_PATH}", imds.path().trim_end_matches('/')));
    moved.set_query(url.query());
    *url = moved;
}

/// Of this kind because `azure_identity` tries again after any other.
fn failed(cause: Cause) -> Error {
    Error::new(ErrorKind::Credential, cause)
}

/// Seconds only: Azure's identity services send no dates.
fn retry_after(response: &AsyncRawResponse) -> Option<Duration> {
    let value = response.headers().get_optional_str(&HeaderName::from_static("retry-after"))?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// Entra's and IMDS's own words: `error_description` if there is one, else the whole content, on one line.
fn words(content: &[u8], secret: Option<&SecretString>) -> String {
    #[derive(serde::Deserialize)]
    struct Refusal {
        error: String,
        error_description: String,
    }
    let text = match serde_json::from_slice::<Refusal>(content) {
        Ok(refusal) if refusal.error_description.starts_with("AADSTS") => refusal.error_description,
        Ok(refusal) => format!("{}: {}", refusal.error, refusal.error_description),
        Err(_) => String::from_utf8_lossy(content).into_owned(),
    };
    match secret {
        Some(secret) => line(&without(secret, &text)),
        None => line(&text),
    }
}

/// Blocking gateways show what they have blocked.
fn without(secret: &SecretString, text: &str) -> String {
    let plain = secret.expose_secret();
    let encoded = Zeroizing::new(form_urlencoded::byte_serialize(plain.as_bytes()).collect::<String>());
    text.replace(plain, "(secret)").replace(encoded.as_str(), "(secret)")
}

/// Text on one line, cut to what is worth keeping, without anything that looks like a token.
pub(crate) fn line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(WORDS));
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(if may_hold_a_token(word) { "(token)" } else { word });
        if line.len() > WORDS {
            let end = (0..=WORDS).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
            line.truncate(end);
            line.push('…');
            break;
        }
    }
    line
}

/// Every JSON Web Token begins like this: `{"` in base64url.
fn may_hold_a_token(word: &str) -> bool {
    word.split_once("eyJ").is_some_and(|(_, rest)| rest.len() > 32)
}

/// The last cause of an error: the network's own words.
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().map_or_else(String::new, ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entras_words_survive_escapes() {
        let content = br#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret.\r\nTrace ID: 1","error_codes":[7000215]}"#;
        assert_eq!(words(content, None), "AADSTS7000215: Invalid client secret. Trace ID: 1");
    }

    #[test]
    fn imds_words_are_both_of_its_members() {
        let content = br#"{"error":"invalid_request","error_description":"Identity not found"}"#;
        assert_eq!(words(content, None), "invalid_request: Identity not found");
    }

    #[test]
    fn content_that_is_no_json_is_cut_to_a_line() {
        assert_eq!(words(b"<html>\n  bad\n</html>", None), "<html> bad </html>");
        assert!(words("ä".repeat(5000).as_bytes(), None).len() <= WORDS + '…'.len_utf8());
        assert!(words("ä ".repeat(5000).as_bytes(), None).len() <= WORDS + '…'.len_utf8());
    }

    #[test]
    fn a_secret_that_comes_back_is_not_kept() {
        let secret = SecretString::from("a~b c/d+e".to_owned());
        let told = words(b"<p>client_secret=a%7Eb+c%2Fd%2Be&amp; or a~b c/d+e</p>", Some(&secret));
        assert_eq!(told, "<p>client_secret=(secret)&amp; or (secret)</p>");
    }

    #[test]
    fn a_token_in_the_words_is_not_kept() {
        let token = format!("eyJ{}.eyJ{}.x", "a".repeat(40), "b".repeat(40));
        assert_eq!(words(format!("bad assertion '{token}' given").as_bytes(), None), "bad assertion (token) given");
    }

    #[test]
    fn metadata_requests_go_where_they_were_told() {
        let imds = Url::parse("http://127.0.0.1:4711/base/").expect("a URL");
        let mut url = Url::parse("http://169.254.169.254/metadata/identity/oauth2/token?resource=r").expect("a URL");
        redirect_metadata(&mut url, &imds);
        assert_eq!(url.as_str(), "http://127.0.0.1:4711/base/metadata/identity/oauth2/token?resource=r");
        let mut other = Url::parse("http://127.0.0.1:42356/msi/token?resource=r").expect("a URL");
        redirect_metadata(&mut other, &imds);
        assert_eq!(other, url, "also when the process's environment names another service");
    }
}
