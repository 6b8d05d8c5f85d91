//! The resource's refusals: which of them a new token could turn, and which of them the proxy can explain.
//!
//! Only small refusals in JSON are looked at, and they alone: everything else passes as it comes.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, Response, StatusCode};
use serde::Deserialize;

use super::Ready;
use super::body::ResponseBody;
use crate::config::{self, Endpoint, Scope};
use crate::explain::{self, Cause, Facts, Words};
use crate::telemetry::exchange::Explained;
use crate::telemetry::refusals::Refusals;

/// Content that is longer is no refusal that we know.
const LONGEST: usize = 64 * 1024;

/// What is known about the resource's refusals before any has come.
#[derive(Debug)]
pub(super) struct Explainer {
    is_asked: bool,
    endpoint: Endpoint,
    scope: Scope,
    refusals: Arc<Refusals>,
}

impl Explainer {
    pub(super) fn new(config: &config::Upstream, refusals: Arc<Refusals>) -> Self {
        let (endpoint, scope) = (config.endpoint.clone(), config.scope.clone());
        Self { is_asked: config.explain_errors, endpoint, scope, refusals }
    }

    /// Whether a 401 says that the token is stale, or does not say what else is wrong.
    pub(super) async fn says_stale(&self, response: &mut Response<ResponseBody>) -> bool {
        let content = read(response).await.unwrap_or_default();
        let words = Words::read(response.headers(), &content);
        let cause = Cause::of(response.status(), &words, &self.endpoint);
        // Some gateways ask for a key when they do not take a token.
        matches!(cause, None | Some(Cause::StaleToken | Cause::KeysOnly))
    }

    /// Puts a hint into a refusal whose cause lies in what the proxy added or was told.
    pub(super) async fn explain(&self, response: &mut Response<ResponseBody>, request: &Ready) {
        let known = matches!(
            response.status(),
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND
        );
        if !known {
            return;
        }
        let Some(content) = read(response).await else { return };
        let words = Words::read(response.headers(), &content);
        let Some(cause) = Cause::of(response.status(), &words, &self.endpoint) else { return };
        response.extensions_mut().insert(Explained(cause.name()));
        let deployment = (cause == Cause::DeploymentNotFound).then(|| deployment(request)).flatten();
        let facts = Facts {
            claims: request.token.as_ref().map(|token| &token.claims),
            endpoint: &self.endpoint,
            scope: &self.scope,
            deployment: deployment.as_deref(),
            words: &words,
        };
        let hint = explain::hint(cause, &facts);
        let explained = self.is_asked.then(|| explain::insert(&content, &hint)).flatten();
        self.refusals.record(cause.name(), hint);
        let Some(explained) = explained else { return };
        let fields = response.headers_mut();
        fields.remove(CONTENT_ENCODING);
        if fields.contains_key(CONTENT_LENGTH) {
            fields.insert(CONTENT_LENGTH, explained.len().into());
        }
        response.body_mut().replace(Bytes::from(explained));
    }
}

/// The content of a refusal in JSON, decoded.
async fn read(response: &mut Response<ResponseBody>) -> Option<Vec<u8>> {
    if !is_json(response.headers()) {
        return None;
    }
    let encoding = response.headers().get(CONTENT_ENCODING).cloned();
    let content = response.body_mut().look_ahead(LONGEST).await?;
    match encoding.as_ref().map(http::HeaderValue::as_bytes) {
        None | Some(b"identity") => Some(content),
        Some(b"gzip") => {
            let mut decoded = Vec::new();
            // One byte more than is taken: what is too long is told from what just fits.
            GzDecoder::new(&*content).take(LONGEST as u64 + 1).read_to_end(&mut decoded).ok()?;
            (decoded.len() <= LONGEST).then_some(decoded)
        }
        Some(_) => None,
    }
}

fn is_json(fields: &HeaderMap) -> bool {
    let kind = fields.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.ends_with("+json")
}

/// The deployment that a request names: in its path, or as `model` in its content.
fn deployment(request: &Ready) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        model: String,
    }
    if let Some((_, rest)) = request.target.path().split_once("/deployments/") {
        return rest.split('/').next().map(str::to_owned);
    }
    Some(serde_json::from_slice::<Named>(&request.upload.held()?).ok()?.model)
}
