//! Server-sent events, spoken word by word.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::Value;

/// One event of a stream. Among server-sent events it travels as one frame, on a WebSocket as one message.
#[derive(Debug)]
pub(super) struct Event {
    name: Option<String>,
    /// What it says.
    pub(super) data: String,
    /// Whether there is a pause before it.
    pub(super) spoken: bool,
}

impl Event {
    /// An event without a name.
    pub(super) fn data(data: &Value) -> Self {
        Self { name: None, data: data.to_string(), spoken: false }
    }

    /// An event that is named by its data's `type`.
    pub(super) fn typed(data: &Value) -> Self {
        let name = data.get("type").and_then(Value::as_str).map(str::to_owned);
        Self { name, data: data.to_string(), spoken: false }
    }

    /// The event that ends a stream of chat completion chunks.
    pub(super) fn done() -> Self {
        Self { name: None, data: "[DONE]".to_owned(), spoken: false }
    }

    /// The same event, after the pause that comes before a word.
    pub(super) fn spoken(self) -> Self {
        Self { spoken: true, ..self }
    }

    fn frame(&self) -> Bytes {
        let Self { name, data, .. } = self;
        match name {
            Some(name) => format!("event: {name}\ndata: {data}\n\n").into(),
            None => format!("data: {data}\n\n").into(),
        }
    }
}

/// An answer that sends `events` one by one and pauses for `word_delay` before each that is spoken.
pub(super) fn answer(events: Vec<Event>, word_delay: Duration) -> Response {
    let frames = stream::unfold(events.into_iter(), move |mut events| async move {
        let event = events.next()?;
        if event.spoken && !word_delay.is_zero() {
            tokio::time::sleep(word_delay).await;
        }
        Some((Ok::<_, Infallible>(event.frame()), events))
    });
    let fields = [(CONTENT_TYPE, "text/event-stream; charset=utf-8"), (CACHE_CONTROL, "no-cache, must-revalidate")];
    (fields, Body::from_stream(frames)).into_response()
}
