//! The resource's refusals: which of them a new token could turn, and which of them the proxy can explain.
//!
//! Only small refusals in JSON are looked at, and they alone: everything else passes as it comes.

use std::io::Read;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use flate2::read::{GzDecoder, ZlibDecoder};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::Deserialize;
use url::form_urlencoded;

use super::Ready;
use super::body::ResponseBody;
use crate::config::{self, Endpoint, Scope};
use crate::explain::{self, Cause, Facts, Words};
use crate::telemetry::exchange::Explained;
use crate::telemetry::refusals::Refusals;

/// Content that is longer is no refusal that we know.
const LONGEST: usize = 64 * 1024;

/// A refusal that the proxy can explain.
#[derive(Debug)]
pub(super) struct Refusal {
    cause: Cause,
    words: Words,
    /// What it holds, if that is JSON.
    content: Option<Vec<u8>>,
}

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

    /// Looks at a response that may be a refusal whose cause lies in what the proxy added or was told.
    pub(super) async fn read(&self, response: &mut Response<Box<ResponseBody>>) -> Option<Refusal> {
        let known = matches!(
            response.status(),
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND
        );
        // A 401 may say all that it has to say in its fields.
        let content = match content(response).await {
            Content::Read(content) if known => Some(content),
            Content::None if response.status() == StatusCode::UNAUTHORIZED => None,
            _ => return None,
        };
        let words = Words::read(response.headers(), content.as_deref().unwrap_or_default());
        let cause = Cause::of(response.status(), &words, &self.endpoint)?;
        Some(Refusal { cause, words, content })
    }

    /// Puts a hint into a refusal.
    pub(super) fn explain(&self, response: &mut Response<Box<ResponseBody>>, refusal: Refusal, request: &Ready) {
        let Refusal { cause, words, content } = refusal;
        let deployment = (cause == Cause::DeploymentNotFound).then(|| deployment(request)).flatten();
        let facts = Facts {
            claims: request.token.as_ref().map(|token| &*token.claims),
            endpoint: &self.endpoint,
            scope: &self.scope,
            deployment: deployment.as_deref(),
            words: &words,
        };
        let hint = explain::hint(cause, &facts);
        response.extensions_mut().insert(Explained { cause: cause.name(), hint: hint.as_str().into() });
        let explained =
            content.filter(|_| self.is_asked).and_then(|content| explain::insert(&content, &hint)).map(Bytes::from);
        self.refusals.record(cause.name(), &hint);
        let Some(explained) = explained else { return };
        let fields = response.headers_mut();
        fields.remove(CONTENT_ENCODING);
        if fields.contains_key(CONTENT_LENGTH) {
            fields.insert(CONTENT_LENGTH, explained.len().into());
        }
        response.body_mut().replace(explained);
    }
}

impl Refusal {
    /// Whether a 401 says that the token is stale, or says no more than that it is not taken: some gateways ask for a key
    /// then.
    pub(super) fn says_stale(&self) -> bool {
        matches!(self.cause, Cause::StaleToken | Cause::KeysOnly)
    }
}

/// What can be made of a response's content.
enum Content {
    /// It is JSON, decoded.
    Read(Vec<u8>),
    /// There is none, or none that could say anything.
    None,
    /// There is some, and nobody here knows what it says.
    Unreadable,
}

async fn content(response: &mut Response<Box<ResponseBody>>) -> Content {
    let is_refusal = response.status().is_client_error();
    if !is_refusal || !is_json(response.headers()) {
        return Content::None;
    }
    let encoding = response.headers().get(CONTENT_ENCODING).cloned();
    let Some(content) = response.body_mut().look_ahead(LONGEST).await else { return Content::Unreadable };
    let decoded = match encoding.as_ref().map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Some(content),
        Some(b"gzip") => decoded(GzDecoder::new(&*content)),
        Some(b"deflate") => decoded(ZlibDecoder::new(&*content)),
        Some(_) => None,
    };
    decoded.map_or(Content::Unreadable, Content::Read)
}

fn decoded(coded: impl Read) -> Option<Vec<u8>> {
    let mut decoded = Vec::new();
    // One byte more than is taken: what is too long is told from what just fits.
    coded.take(LONGEST as u64 + 1).read_to_end(&mut decoded).ok()?;
    (decoded.len() <= LONGEST).then_some(decoded)
}

fn is_json(fields: &HeaderMap) -> bool {
    let kind = fields.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.ends_with("+json")
}

/// The deployment that a request names: in its path, in its query, as handshakes of WebSockets do, or in its content.
fn deployment(request: &Ready) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        model: String,
    }
    if let Some((_, rest)) = request.target.path().split_once("/deployments/") {
        return rest.split('/').next().map(str::to_owned);
    }
    let query = request.target.query().unwrap_or_default();
    let named = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| matches!(&**name, "model" | "deployment"));
    if let Some((_, name)) = named {
        return Some(name.into_owned());
    }
    let pieces = request.upload.held()?;
    let content = pieces
        .into_iter()
        .map(Buf::reader)
        .fold(Box::new(std::io::empty()) as Box<dyn Read>, |read, piece| Box::new(read.chain(piece)));
    Some(serde_json::from_reader::<_, Named>(content).ok()?.model)
}
