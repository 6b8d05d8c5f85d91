//! One question to the resource, and what its refusal means.

use std::time::Duration;

use http::header::{AUTHORIZATION, LOCATION};
use http::{HeaderMap, StatusCode};
use reqwest::RequestBuilder;
use serde_json::Value;

use super::report::{Finding, Mend, word};
use super::setup::{Setup, hinted};
use crate::error::{Causes, ProxyError};
use crate::explain::{self, Cause, Facts, Words};
use crate::identity::tokens::Token;
use crate::identity::transport::line;

/// The longest that an answer is waited for; nothing that is asked here takes long.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than any answer has that is of use.
const LONGEST_ANSWER: usize = 8 << 20;
/// The most that is repeated of what a refusal says.
const MOST_WORDS: usize = 300;

/// What the resource said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    fields: HeaderMap,
    content: Vec<u8>,
}

/// Why it refused.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// If it is one of those that the proxy explains.
    pub(super) cause: Option<Cause>,
    pub(super) message: String,
    pub(super) mend: Mend,
}

impl Setup {
    /// Where a path of the resource is, as the proxy maps it.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}/openai/v1/{path}", self.config.upstream.endpoint)
    }

    /// Sends a request with the token, and reads the answer to its end.
    pub(super) async fn ask(&self, request: RequestBuilder, token: &Token) -> Result<Answer, ProxyError> {
        let host = self.connector.host();
        let patience = PATIENCE.min(self.config.upstream.response_timeout);
        let failed = |error: reqwest::Error| {
            if error.is_connect() {
                ProxyError::from_connecting(host.clone(), &error)
            } else if error.is_timeout() {
                ProxyError::UpstreamTimeout { host: host.clone(), seconds: patience.as_secs() }
            } else {
                ProxyError::UpstreamProtocol { host: host.clone(), problem: Causes(&error).to_string() }
            }
        };
        let request = request.timeout(patience).header(AUTHORIZATION, &token.authorization);
        let mut response = request.send().await.map_err(failed)?;
        let mut content = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            content.extend_from_slice(&chunk);
            if content.len() > LONGEST_ANSWER {
                break;
            }
        }
        Ok(Answer { status: response.status(), fields: std::mem::take(response.headers_mut()), content })
    }

    /// A question that got no answer.
    pub(super) fn unanswered(error: &ProxyError, url: &str) -> Finding {
        let advice = "the connection was made and the request not answered: this may pass by itself. To see more";
        Finding::failed(error.to_string(), Mend::new(advice, [by_hand(url)]))
    }

    /// What an answer means that is no success.
    pub(super) fn refusal(&self, answer: &Answer, token: &Token, deployment: Option<&str>, url: &str) -> Refusal {
        let words = Words::read(&answer.fields, &answer.content);
        let cause = Cause::of(answer.status, &words, &self.config.upstream.endpoint);
        let facts = Facts { deployment, ..self.facts(Some(&token.claims), &words) };
        let mend = match cause {
            Some(cause) => hinted(&explain::hint(cause, &facts)),
            None => Mend::new(advice(answer.status), [by_hand(url)]),
        };
        Refusal { status: answer.status, cause, message: answer.said(), mend }
    }
}

/// Who answers there, for a shell. Without a token: whoever answers may not be the resource, and what is shown is passed on to
/// others.
fn by_hand(url: &str) -> String {
    format!("curl -v {}", word(&url))
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.content).unwrap_or_default()
    }

    /// Whether what it says holds one of `parts`, in whichever case.
    pub(super) fn says(&self, parts: &[&str]) -> bool {
        let said = self.said().to_ascii_lowercase();
        parts.iter().any(|part| said.contains(part))
    }

    /// Status and words, on one line.
    fn said(&self) -> String {
        let said = self.json();
        let error = if said["error"].is_object() { &said["error"] } else { &said };
        let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
        let words = match (text("code"), text("message")) {
            (_, message) if message.is_empty() => line(&String::from_utf8_lossy(&self.content)),
            (code, message) if code.is_empty() => line(&message),
            (code, message) => line(&format!("{code}: {message}")),
        };
        let words: String = words.chars().take(MOST_WORDS).collect();
        let to = self.fields.get(LOCATION).filter(|_| self.status.is_redirection());
        let to = to.map_or_else(String::new, |to| format!(" to {}", line(&String::from_utf8_lossy(to.as_bytes()))));
        format!("{}{to}{}{words}", self.status, if words.is_empty() { "" } else { ": " })
    }
}

fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => {
            "nothing there speaks OpenAI's v1 interface: is upstream.endpoint the resource (https://NAME.openai.azure.com, or \
             a Foundry project with its path)? To see what answers"
        }
        StatusCode::TOO_MANY_REQUESTS => "the resource is busy, or its quota used up: come again later",
        StatusCode::FORBIDDEN => "something before the resource forbids it. To see what answers",
        status if status.is_server_error() => "the resource is ill: this may pass by itself. To see what it says",
        status if status.is_redirection() => {
            "this is not the resource: is upstream.endpoint right? To see what answers"
        }
        _ => "is upstream.endpoint the resource? To see what answers",
    }
}
