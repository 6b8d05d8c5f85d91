//! Lists of the management plane come in pages; each names the next by an absolute URL, which is followed only on the
//! host that was asked, because the token goes along.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;

use super::failure::Failure;
use crate::error::{Causes, ProxyError};
use crate::forward::fields::clean_response;
use crate::identity::transport::line;

/// More pages than this are no list but a loop.
const MOST_PAGES: usize = 200;
/// More content than this in one page is no list either.
const LARGEST_PAGE: usize = 32 << 20;

#[derive(Deserialize)]
struct Page {
    value: Vec<Box<RawValue>>,
    #[serde(rename = "nextLink")]
    next_link: Option<String>,
}

/// Follows the pages from `first` and joins them: `{"value":[…]}` with the entries of all, each as it came.
pub(super) async fn joined(
    client: &reqwest::Client,
    first: Url,
    authorization: &HeaderValue,
) -> Result<Vec<u8>, Failure> {
    let mut entries: Vec<Box<RawValue>> = Vec::new();
    let mut next = Some(first.clone());
    for _ in 0..MOST_PAGES {
        let Some(url) = next else { return Ok(list(&entries)) };
        let (head, content) = fetch(client, url, authorization).await?.into_parts();
        if head.status != StatusCode::OK {
            return Err(Failure::Refusal(Box::new(Response::from_parts(head, content))));
        }
        let page: Page = serde_json::from_slice(&content)
            .map_err(|error| malformed(&first, &format!("a page is not a list: {error}")))?;
        entries.extend(page.value);
        next = page.next_link.filter(|link| !link.is_empty()).map(|link| follow(&first, &link)).transpose()?;
    }
    Err(malformed(&first, "the list has no end").into())
}

/// The next page's URL, if it is on the host that was asked.
fn follow(asked: &Url, link: &str) -> Result<Url, ProxyError> {
    match Url::parse(link) {
        Ok(url) if url.origin() == asked.origin() && url.username().is_empty() && url.password().is_none() => Ok(url),
        Ok(url) => {
            let host = url.origin().ascii_serialization();
            Err(malformed(asked, &format!("the next page is said to be on another host, {host}; no token goes there")))
        }
        Err(error) => Err(malformed(asked, &format!("the next page's link is no URL: {error}"))),
    }
}

async fn fetch(client: &reqwest::Client, url: Url, authorization: &HeaderValue) -> Result<Response<Bytes>, ProxyError> {
    let host = url.clone();
    let failed = |error: &reqwest::Error| failure(&host, error);
    let request =
        client.get(url).header(header::AUTHORIZATION, authorization).header(header::ACCEPT, "application/json");
    let mut answer = request.send().await.map_err(|error| failed(&error))?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = answer.status();
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    clean_response(response.headers_mut());
    // Of the content as it came; it may have been decompressed since.
    response.headers_mut().remove(header::CONTENT_LENGTH);
    let mut content = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| failed(&error))? {
        content.extend_from_slice(&chunk);
        if content.len() > LARGEST_PAGE {
            return Err(malformed(&host, "a page is too large"));
        }
    }
    *response.body_mut() = content.into();
    Ok(response)
}

fn list(entries: &[Box<RawValue>]) -> Vec<u8> {
    let length: usize = entries.iter().map(|entry| entry.get().len() + 1).sum();
    let mut content = Vec::with_capacity(length + 12);
    content.extend_from_slice(br#"{"value":["#);
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            content.push(b',');
        }
        content.extend_from_slice(entry.get().as_bytes());
    }
    content.extend_from_slice(b"]}");
    content
}

/// The problem may repeat what came, in any length.
pub(super) fn malformed(url: &Url, problem: &str) -> ProxyError {
    ProxyError::UpstreamProtocol { host: host(url), problem: line(problem) }
}

fn failure(url: &Url, error: &reqwest::Error) -> ProxyError {
    if error.is_connect() {
        return ProxyError::from_connecting(host(url), error);
    }
    if error.is_timeout() {
        return ProxyError::UpstreamTimeout { host: host(url), seconds: super::plane::PAGE_TIMEOUT.as_secs() };
    }
    malformed(url, &Causes(error).to_string())
}

fn host(url: &Url) -> String {
    url.authority().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_followed_on_the_same_host_only() {
        let asked = Url::parse("https://management.azure.com/subscriptions/s/models?api-version=1").expect("a URL");
        assert!(follow(&asked, "https://management.azure.com/subscriptions/s/models?$skiptoken=2").is_ok());
        for evil in [
            "https://evil.example/x",
            "https://management.azure.com.evil.example/x",
            "http://management.azure.com/x",
            "https://management.azure.com:444/x",
            "https://user@management.azure.com/x",
            "https://management.azure.com@evil.example/",
            "/relative",
            "",
        ] {
            assert!(follow(&asked, evil).is_err(), "{evil}");
        }
    }

    #[test]
    fn entries_are_joined_as_they_came() {
        let entries: Vec<Box<RawValue>> = serde_json::from_str(r#"[{"b":1, "a":2},"x"]"#).expect("entries");
        assert_eq!(list(&entries), br#"{"value":[{"b":1, "a":2},"x"]}"#);
        assert_eq!(list(&[]), br#"{"value":[]}"#);
    }
}
