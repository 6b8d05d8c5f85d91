//! Calls over WebRTC: an offer gets an answer, and nobody ever picks up.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, LOCATION};
use memchr::memmem;
use uuid::Uuid;

use crate::emulator::openai::refusal::Refusal;

/// Where calls are opened.
pub(in crate::emulator::openai) const PATH: &str = "/openai/v1/realtime/calls";

/// How a session description begins (RFC 8866 §5.1).
const SDP: &[u8] = b"v=0";

/// `POST /openai/v1/realtime/calls`: the offer alone, or in a form with the session.
pub(super) async fn create(offer: Bytes) -> Result<Response, Refusal> {
    if memmem::find(&offer, SDP).is_none() {
        return Err(Refusal::Invalid { message: "The offer is no SDP.".to_owned(), param: Some("sdp") });
    }
    let location = format!("{PATH}/rtc_{}", Uuid::new_v4().simple());
    let answer = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=emulated\r\nt=0 0\r\n";
    let fields = [(CONTENT_TYPE, "application/sdp".to_owned()), (LOCATION, location)];
    Ok((StatusCode::CREATED, fields, answer).into_response())
}
