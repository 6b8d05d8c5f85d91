//! How a message gets to the collector: over the project's own HTTP client, tried again while that can help, given up in time.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode};
use reqwest::Response;
use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use url::Url;

use super::pauses::Pauses;
use crate::config::{Config, Otlp};
use crate::error::Causes;

/// The most of an answer that is read.
const LONGEST_ANSWER: usize = 64 * 1024;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Signal {
    Traces,
    Metrics,
}

/// How long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// As long as was said.
    Working,
    /// One attempt is all.
    Ending,
    /// Nothing is sent any more.
    Over,
}

/// Why the collector does not have it.
#[derive(Debug)]
pub(super) enum Undelivered {
    Unreachable(reqwest::Error),
    Refused {
        status: StatusCode,
        after: Option<Duration>,
    },
    Slow(Duration),
    /// It took some of it.
    InPart(u64),
    Over,
}

/// Sends messages to one collector.
#[derive(Debug)]
pub(super) struct Delivery {
    client: reqwest::Client,
    endpoint: Url,
    fields: HeaderMap,
    longest: Duration,
    stage: watch::Receiver<Stage>,
}

impl Delivery {
    pub(super) fn new(
        config: &Config,
        otlp: &Otlp,
        tls: ClientConfig,
        stage: watch::Receiver<Stage>,
    ) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(config.upstream.connect_timeout);
        let client = config.proxies.apply(client)?.build()?;
        let mut fields = otlp.headers.clone();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        Ok(Self { client, endpoint: otlp.endpoint.clone(), fields, longest: otlp.timeout, stage })
    }

    /// Sends one message. The answer, once the collector has it.
    pub(super) async fn deliver(&self, signal: Signal, message: Bytes) -> Result<Vec<u8>, Undelivered> {
        let mut last = None;
        let answer = tokio::select! {
            answer = timeout(self.longest, self.attempts(signal, message, &mut last)) => {
                answer.map_err(|_| Undelivered::Slow(self.longest))
            }
            () = self.is_at(&[Stage::Over]) => Err(Undelivered::Over),
        };
        // What the collector said tells more than that time was up.
        answer.unwrap_or_else(|up| Err(last.unwrap_or(up)))
    }

    /// Comes back with an answer, or with what cannot be mended by waiting. Why the one before failed is in `last`.
    async fn attempts(
        &self,
        signal: Signal,
        message: Bytes,
        last: &mut Option<Undelivered>,
    ) -> Result<Vec<u8>, Undelivered> {
        let mut pauses = Pauses::default();
        loop {
            let error = match self.attempt(signal, message.clone()).await {
                Err(error) if error.may_pass() && self.is_working() => error,
                outcome => return outcome,
            };
            let pause = pauses.next(error.wait());
            *last = Some(error);
            tokio::select! {
                () = sleep(pause) => {}
                () = self.is_ending() => {}
            }
        }
    }

    async fn attempt(&self, signal: Signal, message: Bytes) -> Result<Vec<u8>, Undelivered> {
        let mut url = self.endpoint.clone();
        url.set_path(&format!("{}/v1/{}", url.path().trim_end_matches('/'), signal.as_str()));
        let request = self.client.request(Method::POST, url).headers(self.fields.clone()).body(message);
        let answer = request.send().await.map_err(Undelivered::unreachable)?;
        let status = answer.status();
        if status.is_success() {
            return read(answer).await.map_err(Undelivered::unreachable);
        }
        let after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        Err(Undelivered::Refused { status, after: after.map(Duration::from_secs) })
    }

    /// Whether the end has not begun.
    pub(super) fn is_working(&self) -> bool {
        *self.stage.borrow() == Stage::Working && self.stage.has_changed().is_ok()
    }

    /// Completes once the end has begun.
    pub(super) async fn is_ending(&self) {
        self.is_at(&[Stage::Ending, Stage::Over]).await;
    }

    /// Completes once the end has come so far.
    async fn is_at(&self, stages: &[Stage]) {
        // Without a sender it is over, too.
        let _ = self.stage.clone().wait_for(|stage| stages.contains(stage)).await;
    }
}

/// The beginning of an answer: all of one that says something.
async fn read(mut answer: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut content = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        content.extend_from_slice(&chunk);
        if content.len() > LONGEST_ANSWER {
            break;
        }
    }
    Ok(content)
}

impl Signal {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }
}

impl Undelivered {
    fn unreachable(error: reqwest::Error) -> Self {
        Self::Unreachable(error.without_url())
    }

    /// Whether another attempt can help, as OTLP says.
    fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused { status, .. } => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            Self::Slow(_) | Self::InPart(_) | Self::Over => false,
        }
    }

    /// How long the collector asks to wait.
    fn wait(&self) -> Option<Duration> {
        if let Self::Refused { after, .. } = self { *after } else { None }
    }
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "{}", Causes(error)),
            Self::Refused { status, .. } => write!(f, "the collector answers with {}", status.as_u16()),
            Self::Slow(longest) => write!(f, "no answer within {longest:?}"),
            Self::InPart(rejected) => write!(f, "the collector does not take {rejected} of what was in it"),
            Self::Over => f.write_str("the end came first"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waiting_can_mend_is_tried_again() {
        let refused = |status| Undelivered::Refused { status: StatusCode::from_u16(status).unwrap(), after: None };
        for (status, may_pass) in [(400, false), (401, false), (404, false), (429, true), (500, false), (503, true)] {
            assert_eq!(refused(status).may_pass(), may_pass, "{status}");
        }
    }
}
