//! A WebSocket of the data plane: events in JSON go both ways, one message each.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;

use super::DataPlane;
use super::refusal::Refusal;
use super::stream::Event;
use crate::emulator::control::Control;
use crate::emulator::listen::Connection;

/// The subprotocol that browsers ask for beside a key.
const PROTOCOL: &str = "realtime";

/// The longest message that is read.
const LONGEST: usize = 64 * 1024 * 1024;

/// What a request brings that asks for a WebSocket.
pub(super) type Handshake = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// The emulator's part of a conversation.
pub(super) trait Conversation: Send + 'static {
    /// What is said before the client has said anything.
    fn greeting(&mut self) -> Vec<Event>;

    /// The answer to what the client said.
    fn answer(&mut self, said: &[u8]) -> Vec<Event>;
}

/// Agrees to the handshake and begins the conversation.
pub(super) fn open(
    plane: &DataPlane,
    connection: Connection,
    upgrade: WebSocketUpgrade,
    mut conversation: impl Conversation,
) -> Response {
    let word_delay = plane.word_delay;
    let open = OpenSocket::new(plane.control.clone());
    upgrade.protocols([PROTOCOL]).max_message_size(LONGEST).on_upgrade(async move |socket| {
        let _open = open;
        tokio::select! {
            ended = converse(socket, &mut conversation, word_delay) => if let Err(error) = ended {
                tracing::debug!(%error, "a WebSocket to the emulator broke");
            },
            () = connection.closed() => {}
        }
    })
}

/// The handshake, if it is one: a plain GET finds nothing at these paths.
pub(super) fn asked_for(handshake: Handshake) -> Result<WebSocketUpgrade, Refusal> {
    handshake.map_err(|_| Refusal::ResourceNotFound)
}

async fn converse(
    mut socket: WebSocket,
    conversation: &mut impl Conversation,
    word_delay: Duration,
) -> Result<(), axum::Error> {
    say(&mut socket, conversation.greeting(), word_delay).await?;
    while let Some(message) = socket.recv().await.transpose()? {
        match message {
            Message::Text(text) => say(&mut socket, conversation.answer(text.as_bytes()), word_delay).await?,
            Message::Binary(bytes) => say(&mut socket, conversation.answer(&bytes), word_delay).await?,
            // The library answers pings and closes.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {}
        }
    }
    Ok(())
}

async fn say(socket: &mut WebSocket, events: Vec<Event>, word_delay: Duration) -> Result<(), axum::Error> {
    for event in events {
        if event.spoken && !word_delay.is_zero() {
            tokio::time::sleep(word_delay).await;
        }
        socket.send(Message::Text(event.data.into())).await?;
    }
    Ok(())
}

/// Counts a WebSocket for as long as it is open.
struct OpenSocket(Arc<Control>);

impl OpenSocket {
    fn new(control: Arc<Control>) -> Self {
        control.journal.change(|state| state.sockets_open += 1);
        Self(control)
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.0.journal.change(|state| state.sockets_open -= 1);
    }
}
