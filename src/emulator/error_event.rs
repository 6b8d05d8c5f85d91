//! Streams that fail in the middle: the server says so in an event, as nothing else can be said once a stream has begun.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::CONTENT_TYPE;

/// What Azure sends when a model fails while it speaks.
const FAILED: &[u8] =
    b"data: {\"error\":{\"message\":\"The server had an error while processing your request. Sorry about \
    that!\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n";

/// The same answer; if it is a stream of events, it fails after `events` of them. Every event is one frame.
pub(super) fn within(answer: Response, events: u64) -> Response {
    let kind = answer.headers().get(CONTENT_TYPE);
    if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")) {
        return answer;
    }
    let failed = stream::once(async { Ok(Bytes::from_static(FAILED)) });
    let events = usize::try_from(events).unwrap_or(usize::MAX);
    answer.map(|body| Body::from_stream(body.into_data_stream().take(events).chain(failed)))
}
