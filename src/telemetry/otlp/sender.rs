//! What every message says of who sends it, and what a collector answers.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use uuid::Uuid;

use super::words::Attributes;
use super::{Otlp, wire};

/// The longest that a field's number and length take, for each of the two messages around spans or metrics.
const LONGEST_PREFIXES: usize = 2 * 11;

/// Who sends, as each message says it: by the numbers that `ResourceSpans` and `ScopeSpans` share with `ResourceMetrics` and
/// `ScopeMetrics`.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    resource: Vec<u8>,
    scope: Vec<u8>,
}

/// As much of `ExportTraceServiceResponse` and `ExportMetricsServiceResponse` as matters.
#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
}

impl Sender {
    pub(super) fn new(otlp: &Otlp) -> Self {
        let own = [
            ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
            // Two proxies of one name would take each other's sums for their own.
            ("service.instance.id", Uuid::new_v4().to_string()),
            ("telemetry.sdk.name", env!("CARGO_PKG_NAME").to_owned()),
            ("telemetry.sdk.language", "rust".to_owned()),
            ("telemetry.sdk.version", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        let mut said: BTreeMap<&str, String> = own.into_iter().collect();
        said.extend(otlp.resource.iter().map(|(name, value)| (name.as_str(), value.clone())));
        let (mut resource, mut scope) = (Vec::new(), Vec::new());
        wire::message(&mut resource, 1, |out| {
            let mut attributes = Attributes { out, field: 1 };
            for (name, value) in &said {
                attributes.text(name, value);
            }
        });
        wire::message(&mut scope, 1, |scope| {
            wire::text(scope, 1, &[env!("CARGO_PKG_NAME")]);
            wire::text(scope, 2, &[env!("CARGO_PKG_VERSION")]);
        });
        Self { resource, scope }
    }

    /// How much room is to be left before the first span or metric.
    pub(super) fn room(&self) -> usize {
        self.resource.len() + self.scope.len() + LONGEST_PREFIXES
    }

    /// A message of all that is in `content` behind the room.
    pub(super) fn message(&self, mut content: Vec<u8>) -> Bytes {
        let mut inner = Vec::new();
        wire::length(&mut inner, 2, self.scope.len() + content.len() - self.room());
        inner.extend_from_slice(&self.scope);
        let mut prefix = Vec::with_capacity(self.room());
        let length = self.resource.len() + inner.len() + content.len() - self.room();
        wire::length(&mut prefix, 1, length);
        prefix.extend_from_slice(&self.resource);
        prefix.extend_from_slice(&inner);
        let begin = self.room() - prefix.len();
        content.splice(begin..self.room(), prefix);
        Bytes::from(content).slice(begin..)
    }
}

/// How many spans or points of a message a collector says that it does not take. An answer that cannot be read says nothing.
pub(super) fn rejected(answer: &[u8]) -> u64 {
    let part = Answer::decode(answer).ok().and_then(|answer| answer.partial_success);
    part.map_or(0, |part| u64::try_from(part.rejected).unwrap_or(0))
}
