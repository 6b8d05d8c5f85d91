//! The data plane: Azure OpenAI's v1 interface, and of the older one what clients still use.

mod api_version;
pub(super) mod authorize;
mod chat;
mod conduct;
mod embeddings;
mod fields;
mod files;
mod models;
mod prompt;
mod realtime;
pub(super) mod refusal;
mod response;
mod responses;
mod responses_socket;
mod sent;
mod socket;
mod stream;
mod vectors;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};

use super::control::Control;
use super::gate::{Gate, gate};
use super::route::Server;
use authorize::Doorkeeper;
use files::Files;
use realtime::client_secrets::ClientSecrets;
use refusal::Refusal;
use responses::Stored;

pub use prompt::CONTENT_FILTER_MARKER;

/// The longest JSON body that is read; with images inside, prompts are long.
const JSON_LIMIT: usize = 64 * 1024 * 1024;

/// What the operations of the data plane share.
#[derive(Debug)]
struct DataPlane {
    control: Arc<Control>,
    word_delay: Duration,
    files: Files,
    responses: Stored,
    secrets: Arc<ClientSecrets>,
}

/// The data plane as a service; layers are listed from the innermost out.
pub(super) fn router(control: Arc<Control>, word_delay: Duration) -> Router {
    let plane = DataPlane {
        control: control.clone(),
        word_delay,
        files: Files::default(),
        responses: Stored::default(),
        secrets: Arc::default(),
    };
    let keeper = Doorkeeper { control: control.clone(), secrets: plane.secrets.clone() };
    json_operations()
        .merge(files())
        .merge(realtime::operations())
        .fallback(nothing_here)
        .method_not_allowed_fallback(nothing_here)
        .with_state(Arc::new(plane))
        // Strangers do not learn which versions exist …
        .layer(from_fn(api_version::check))
        .layer(from_fn_with_state(keeper, authorize::authorize))
        // … but a proxy that breaks its contract learns that before all else.
        .layer(from_fn(conduct::check))
        // Everything is recorded, whatever becomes of it.
        .layer(from_fn_with_state(Gate { server: Server::OpenAi, control }, gate))
        // Also failures carry Azure's fields.
        .layer(from_fn(fields::add))
}

fn json_operations() -> Router<Arc<DataPlane>> {
    Router::new()
        .route("/openai/v1/chat/completions", post(chat::create))
        .route("/openai/deployments/{deployment}/chat/completions", post(chat::create_on_deployment))
        .route("/openai/v1/responses", post(responses::create).get(responses_socket::open))
        .route("/openai/v1/responses/{id}", get(responses::retrieve).delete(responses::delete))
        .route("/openai/v1/embeddings", post(embeddings::create))
        .route("/openai/deployments/{deployment}/embeddings", post(embeddings::create_on_deployment))
        .route("/openai/v1/models", get(models::list))
        .route("/openai/v1/models/{id}", get(models::retrieve))
        .layer(DefaultBodyLimit::max(JSON_LIMIT))
}

/// Uploads are read as a stream, so no limit applies to the body as a whole.
fn files() -> Router<Arc<DataPlane>> {
    Router::new()
        .route("/openai/v1/files", get(files::list).post(files::upload))
        .route("/openai/v1/files/{id}", get(files::retrieve).delete(files::delete))
        .route("/openai/v1/files/{id}/content", get(files::content))
        .layer(DefaultBodyLimit::disable())
}

async fn nothing_here() -> Refusal {
    Refusal::ResourceNotFound
}
