//! Reads a JSON body; if it cannot be read the client is told in the API's own shape.

use axum::Json;
use axum::extract::{FromRequest, Request};
use axum::response::Response;
use http::StatusCode;
use serde::de::DeserializeOwned;

use super::errors;

/// What the client sent as JSON.
pub(super) struct Sent<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        match Json::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(errors::too_large(&rejection.body_text()))
            }
            Err(rejection) => Err(errors::bad_request(&rejection.body_text(), None)),
        }
    }
}
