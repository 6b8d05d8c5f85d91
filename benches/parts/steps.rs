//! What happens to each request besides passing it on, and what it happens to.

use std::sync::Arc;
use std::time::Duration;

use aoai_auth_proxy::clock::{Clock, SystemClock};
use aoai_auth_proxy::config::Scope;
use aoai_auth_proxy::forward::{fields, target};
use aoai_auth_proxy::identity::tokens::TokenSlot;
use aoai_auth_proxy::identity::{AccessToken, CredentialError, TokenSource};
use async_trait::async_trait;
use http::Uri;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use tokio::runtime::{Builder, Runtime};

/// As OpenAI's client for Python sends them.
const ASKED: &[(&str, &str)] = &[
    ("host", "localhost:8642"),
    ("accept-encoding", "gzip, deflate"),
    ("connection", "keep-alive"),
    ("accept", "application/json"),
    ("content-type", "application/json"),
    ("user-agent", "OpenAI/Python 2.8.0"),
    ("x-stainless-lang", "python"),
    ("x-stainless-package-version", "2.8.0"),
    ("x-stainless-os", "Linux"),
    ("x-stainless-arch", "x64"),
    ("x-stainless-runtime", "CPython"),
    ("x-stainless-runtime-version", "3.13.1"),
    ("authorization", "Bearer unused"),
    ("x-stainless-async", "false"),
    ("x-stainless-retry-count", "0"),
    ("x-stainless-read-timeout", "600"),
    ("content-length", "1043"),
];

/// As Azure answers.
const ANSWERED: &[(&str, &str)] = &[
    ("content-length", "1172"),
    ("content-type", "application/json"),
    ("apim-request-id", "1f0a7a52-7c8b-4a4f-9f3d-0e2a6f6a7b11"),
    ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
    ("x-content-type-options", "nosniff"),
    ("x-ms-region", "Sweden Central"),
    ("x-ratelimit-limit-requests", "1000"),
    ("x-ratelimit-limit-tokens", "100000"),
    ("x-ratelimit-remaining-requests", "999"),
    ("x-ratelimit-remaining-tokens", "98765"),
    ("x-request-id", "8c1c6a6e-5a7e-4a42-8a3b-9f7a8f1f2c3d"),
    ("x-ms-deployment-name", "gpt-4o-mini"),
    ("date", "Sat, 22 Nov 2025 08:00:00 GMT"),
];

fn fields_of(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    fields.iter().map(field).collect()
}

/// A request's fields.
pub(crate) fn asked() -> HeaderMap {
    fields_of(ASKED)
}

/// A response's.
pub(crate) fn answered() -> HeaderMap {
    fields_of(ANSWERED)
}

/// What is left of both for the other side.
pub(crate) fn clean((mut asked, mut answered): (HeaderMap, HeaderMap)) -> (HeaderMap, HeaderMap) {
    fields::clean_request(&mut asked);
    fields::clean_response(&mut answered);
    (asked, answered)
}

/// A request's address.
pub(crate) fn address() -> Uri {
    Uri::from_static("/v1/chat/completions?api-version=preview")
}

/// Where it leads to.
pub(crate) fn map(address: &Uri) -> Option<PathAndQuery> {
    target::check(address.path()).ok().and_then(|()| target::map("", address))
}

/// A store that holds a token, and the runtime that renews it.
pub(crate) struct Tokens {
    slot: TokenSlot,
    _runtime: Runtime,
}

impl Tokens {
    pub(crate) fn held() -> Self {
        let scope = Scope::parse("https://ai.azure.com/.default").expect("a scope");
        let slot = TokenSlot::new(scope, Arc::new(AtOnce), Arc::new(SystemClock));
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let token = runtime.block_on(async {
            slot.start();
            slot.token().await
        });
        assert!(token.is_ok());
        Self { slot, _runtime: runtime }
    }

    /// What a request takes of it: the whole of the hot path.
    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        self.slot.held().map(|token| token.authorization.clone())
    }
}

/// An identity service that answers at once.
#[derive(Debug)]
struct AtOnce;

#[async_trait]
impl TokenSource for AtOnce {
    async fn fetch(&self, _: &Scope) -> Result<AccessToken, CredentialError> {
        Ok(AccessToken {
            secret: "a-token".to_owned().into(),
            expires_at: SystemClock.now() + Duration::from_secs(86_400),
        })
    }

    fn deadline(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn name(&self) -> &'static str {
        "at-once"
    }
}
