//! Responses as a WebSocket: each `response.create` gets the events that the streamed answer to a POST has.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::DataPlane;
use super::authorize::Caller;
use super::refusal::Refusal;
use super::responses::respond;
use super::socket::{self, Conversation, Handshake};
use super::stream::Event;
use crate::emulator::listen::Connection;

/// What a client says on such a socket.
const CREATE: &str = "response.create";

/// `GET /openai/v1/responses`
pub(super) async fn open(
    State(plane): State<Arc<DataPlane>>,
    Extension(caller): Extension<Caller>,
    Extension(connection): Extension<Connection>,
    handshake: Handshake,
) -> Result<Response, Refusal> {
    let upgrade = socket::asked_for(handshake)?;
    Ok(socket::open(&plane.clone(), connection, upgrade, Responses { plane, caller }))
}

struct Responses {
    plane: Arc<DataPlane>,
    caller: Caller,
}

impl Conversation for Responses {
    fn greeting(&mut self) -> Vec<Event> {
        Vec::new()
    }

    fn answer(&mut self, said: &[u8]) -> Vec<Event> {
        self.events(said).unwrap_or_else(|refusal| vec![Event::typed(&error(&refusal))])
    }
}

impl Responses {
    fn events(&self, said: &[u8]) -> Result<Vec<Event>, Refusal> {
        let said: Value = serde_json::from_slice(said).map_err(|error| invalid(error.to_string(), None))?;
        if said["type"] != CREATE {
            return Err(invalid(
                format!("Invalid value: {}. The only supported value is: '{CREATE}'.", said["type"]),
                Some("type"),
            ));
        }
        let asked = serde_json::from_value(said).map_err(|error| invalid(error.to_string(), None))?;
        Ok(respond(&self.plane, &self.caller, asked)?.events())
    }
}

fn invalid(message: String, param: Option<&'static str>) -> Refusal {
    Refusal::Invalid { message, param }
}

/// What would be a response of its own over HTTP.
fn error(refusal: &Refusal) -> Value {
    json!({ "type": "error", "status": refusal.status().as_u16(), "error": refusal.body()["error"] })
}
