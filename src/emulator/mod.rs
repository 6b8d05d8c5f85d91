//! A small, faithful Azure on the loopback address: managed identity, Entra, the Azure OpenAI data plane and ARM.
//!
//! It serves the `demo` and `emulator` subcommands, our own tests, and tests of whoever uses the proxy. It never
//! pretends: tokens are signed, and a request whose token is missing, expired, revoked, of another tenant or for another
//! resource fails the way it fails in Azure. Models are the exception: they only repeat what they were told.
//!
//! | server | scheme | what it answers |
//! | --- | --- | --- |
//! | [`openai`](Emulator::openai) | https, HTTP/2 and HTTP/1.1 | `/openai/v1/…`: chat completions, responses, embeddings, files, models, realtime; WebSockets |
//! | [`entra`](Emulator::entra) | https | `/{tenant}/oauth2/v2.0/token`, with client secret, certificate or federated token |
//! | [`management`](Emulator::management) | https | ARM: models of a region, accounts, deployments |
//! | [`imds`](Emulator::imds) | http | `/metadata/identity/oauth2/token`, `/metadata/versions` |
//! | [`app_service`](Emulator::app_service) | http | `/msi/token` |
//! | [`control_address`](Emulator::control_address) | http | [`control_http`]: faults, counts |
//!
//! Who and what exists is in [`world`]. A prompt with [`CONTENT_FILTER_MARKER`] in it meets the content filter.
//! Everything else that goes wrong is asked for through [`Control`].
//!
//! One request's way: `listen` accepts the connection; `gate` records the request and lets it meet its fault; then each
//! server does its part: `metadata`, `app_service`, `entra`, `management`, and `openai`, where `authorize` asks `tokens`
//! whether the token is good. Wall-clock time comes from [`Options::clock`] alone; only certificates go by the machine's.

mod app_service;
mod catalogue;
mod client_certificate;
mod control;
pub mod control_http;
mod disturbed;
mod entra;
mod error_event;
mod fault;
mod fault_body;
mod federation;
mod gate;
mod identity_query;
mod journal;
mod limits;
mod listen;
mod lock;
mod management;
mod metadata;
mod openai;
mod route;
mod signing;
#[cfg(test)]
mod tests;
mod tls;
mod tokens;
mod tracked;
mod web_tokens;
pub mod world;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::any;
use tokio::task::AbortHandle;
use uuid::Uuid;

use crate::clock::{SharedClock, SystemClock};
use app_service::AppService;
use client_certificate::ClientCertificate;
use gate::{Gate, gate};
use listen::Listener;
use route::Server;
use signing::SigningKey;
use tls::Authority;
use tokens::Tokens;

pub use control::Control;
pub use fault::{Action, Fault};
pub use journal::{Recorded, State};
pub use openai::CONTENT_FILTER_MARKER;
pub use route::Route;

/// What an emulator can be told at its start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Tells the time by which tokens are issued and expire.
    pub clock: SharedClock,
    /// How long tokens of managed identity live; those of Entra's token endpoint live 3599 seconds at most.
    pub token_lifetime: Duration,
    /// The pause before each word of a streamed answer.
    pub word_delay: Duration,
    /// Whether the data plane offers HTTP/2.
    pub http2: bool,
}

impl Default for Options {
    /// The machine's clock, tokens for 24 hours as in Azure, words at a reader's pace, HTTP/2.
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            token_lifetime: Duration::from_secs(24 * 3600),
            word_delay: Duration::from_millis(40),
            http2: true,
        }
    }
}

/// A running emulator. Dropping it closes its ports and connections.
#[derive(Debug)]
pub struct Emulator {
    authority: Authority,
    control: Arc<Control>,
    app_service_header: Arc<str>,
    openai: String,
    entra: String,
    management: String,
    imds: String,
    app_service: String,
    control_address: String,
    tasks: Vec<AbortHandle>,
}

impl Emulator {
    /// Starts an emulator on free ports of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// If no port can be bound, or the file for the authority's certificate cannot be written.
    pub async fn start(options: Options) -> io::Result<Self> {
        let key = tokio::task::spawn_blocking(SigningKey::shared).await?;
        let authority = Authority::new()?;
        let data_plane_protocols: &[&str] = if options.http2 { &["h2", "http/1.1"] } else { &["http/1.1"] };
        let openai = Listener::tls(authority.acceptor(data_plane_protocols)?).await?;
        let entra = Listener::tls(authority.acceptor(&["h2", "http/1.1"])?).await?;
        let management = Listener::tls(authority.acceptor(&["h2", "http/1.1"])?).await?;
        let managed_identity = Listener::plain().await?;
        let control_listener = Listener::plain().await?;

        let control = Arc::new(Control::new(Tokens::new(key, options.clock, options.token_lifetime)));
        let app_service_header: Arc<str> = Uuid::new_v4().simple().to_string().into();
        let app_service = AppService { control: control.clone(), secret: app_service_header.clone() };
        let mut emulator = Self {
            authority,
            app_service_header,
            openai: openai.origin().to_owned(),
            entra: entra.origin().to_owned(),
            management: management.origin().to_owned(),
            imds: managed_identity.origin().to_owned(),
            app_service: format!("{}{}", managed_identity.origin(), app_service::PATH),
            control_address: control_listener.origin().to_owned(),
            control: control.clone(),
            tasks: Vec::new(),
        };
        let arm = management::router(control.clone(), emulator.management.clone(), emulator.openai.clone());
        emulator.tasks = vec![
            openai.serve(openai::router(control.clone(), options.word_delay)),
            entra.serve(entra::router(control.clone(), emulator.entra.clone())),
            management.serve(arm),
            managed_identity.serve(managed_identity_router(control.clone(), app_service)),
            control_listener.serve(control_http::router(control)),
        ];
        Ok(emulator)
    }

    /// The data plane: the origin of the Azure OpenAI account. The API is below `/openai/v1`.
    #[must_use]
    pub fn openai(&self) -> &str {
        &self.openai
    }

    /// The authority's origin.
    #[must_use]
    pub fn entra(&self) -> &str {
        &self.entra
    }

    /// ARM's origin.
    #[must_use]
    pub fn management(&self) -> &str {
        &self.management
    }

    /// The origin of IMDS: what `http://169.254.169.254` is in Azure.
    #[must_use]
    pub fn imds(&self) -> &str {
        &self.imds
    }

    /// What App Service puts into `IDENTITY_ENDPOINT`.
    #[must_use]
    pub fn app_service(&self) -> &str {
        &self.app_service
    }

    /// What App Service puts into `IDENTITY_HEADER`.
    #[must_use]
    pub fn app_service_header(&self) -> &str {
        &self.app_service_header
    }

    /// The origin of the control interface.
    #[must_use]
    pub fn control_address(&self) -> &str {
        &self.control_address
    }

    /// The control interface, from within the process.
    #[must_use]
    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// The certificate of the authority that vouches for the servers, as PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.authority.pem()
    }

    /// The file with [`Emulator::ca_pem`]; it is removed when the emulator is dropped.
    #[must_use]
    pub fn ca_file(&self) -> &Path {
        self.authority.file()
    }

    /// A token such as Kubernetes projects into a pod; Entra lets it in as [`world::USER_ASSIGNED`].
    #[must_use]
    pub fn federated_token(&self) -> String {
        self.control.tokens.federated(world::FEDERATED_SUBJECT)
    }

    /// The private key and the certificate of [`world::SERVICE_PRINCIPAL`], as PEM. Made when it is first asked for, which
    /// takes a moment and blocks.
    #[must_use]
    pub fn client_certificate_pem(&self) -> &'static str {
        ClientCertificate::shared().pem()
    }

    /// An access token for `resource` (such as `https://cognitiveservices.azure.com`), issued without being asked over
    /// HTTP.
    #[must_use]
    pub fn access_token(&self, principal: &world::Principal, resource: &str) -> String {
        self.control.tokens.entra(principal, resource).token
    }

    /// The tenant that every token names.
    #[must_use]
    pub fn tenant_id(&self) -> &'static str {
        world::TENANT_ID
    }

    /// The subscription of the account.
    #[must_use]
    pub fn subscription_id(&self) -> &'static str {
        world::SUBSCRIPTION_ID
    }

    /// The resource group of the account.
    #[must_use]
    pub fn resource_group(&self) -> &'static str {
        world::RESOURCE_GROUP
    }

    /// The name of the account.
    #[must_use]
    pub fn account(&self) -> &'static str {
        world::ACCOUNT
    }

    /// The region of the account.
    #[must_use]
    pub fn location(&self) -> &'static str {
        world::LOCATION
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Both kinds of managed identity share a port.
fn managed_identity_router(control: Arc<Control>, app_service: AppService) -> Router {
    Router::new()
        .route(app_service::PATH, any(app_service::token).with_state(app_service))
        .route(metadata::PATH, any(metadata::token).with_state(control.clone()))
        .route(metadata::VERSIONS, any(metadata::versions))
        .layer(from_fn_with_state(Gate { server: Server::ManagedIdentity, control }, gate))
}
