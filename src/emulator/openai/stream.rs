//! Server-sent events, spoken word by word.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::Value;

/// One event of a stream; it travels as one frame.
#[derive(Debug)]
pub(super) struct Event {
    frame: Bytes,
    spoken: bool,
}

impl Event {
    /// An event without a name.
    pub(super) fn data(data: &Value) -> Self {
        Self { frame: format!("data: {data}\n\n").into(), spoken: false }
    }

    /// An event that is named by its data's `type`.
    pub(super) fn typed(data: &Value) -> Self {
        let name = data.get("type").and_then(Value::as_str).unwrap_or_default();
        Self { frame: format!("event: {name}\ndata: {data}\n\n").into(), spoken: false }
    }

    /// The event that ends a stream of chat completion chunks.
    pub(super) fn done() -> Self {
        Self { frame: Bytes::from_static(b"data: [DONE]\n\n"), spoken: false }
    }

    /// The same event, after the pause that comes before a word.
    pub(super) fn spoken(self) -> Self {
        Self { spoken: true, ..self }
    }
}

/// An answer that sends `events` one by one and pauses for `word_delay` before each that is spoken.
pub(super) fn answer(events: Vec<Event>, word_delay: Duration) -> Response {
    let frames = stream::unfold(events.into_iter(), move |mut events| async move {
        let event = events.next()?;
        if event.spoken && !word_delay.is_zero() {
            tokio::time::sleep(word_delay).await;
        }
        Some((Ok::<_, Infallible>(event.frame), events))
    });
    let fields = [(CONTENT_TYPE, "text/event-stream; charset=utf-8"), (CACHE_CONTROL, "no-cache, must-revalidate")];
    (fields, Body::from_stream(frames)).into_response()
}
