//! What a request is for, as faults and counts tell requests apart.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A group of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// Managed identity of a virtual machine: `/metadata/identity/…`.
    Imds,
    /// What else the metadata service answers: `/metadata/versions`.
    Metadata,
    /// Managed identity of App Service and Container Apps: `/msi/token`.
    AppService,
    /// The authority's token endpoint.
    Entra,
    /// Chat completions, also of the form `/openai/deployments/…`.
    Chat,
    /// Responses, over HTTP and as a WebSocket.
    Responses,
    /// Embeddings, also of the form `/openai/deployments/…`.
    Embeddings,
    /// Files and their content.
    Files,
    /// The data plane's list of models.
    Models,
    /// The realtime interface: its WebSockets, client secrets and calls, also of the form `/openai/realtime`.
    Realtime,
    /// The whole data plane. Requests that are none of the above are recorded under it.
    OpenAi,
    /// Azure Resource Manager.
    Management,
}

/// Which of the emulator's servers a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    ManagedIdentity,
    Entra,
    OpenAi,
    Management,
}

impl Route {
    /// The route of a request to `path` of `server`.
    pub(super) fn of(server: Server, path: &str) -> Self {
        match server {
            Server::ManagedIdentity if path.starts_with("/metadata/identity/") => Self::Imds,
            Server::ManagedIdentity if path.starts_with("/metadata/") => Self::Metadata,
            Server::ManagedIdentity => Self::AppService,
            Server::Entra => Self::Entra,
            Server::Management => Self::Management,
            Server::OpenAi => Self::on_data_plane(path),
        }
    }

    /// Whether what is asked for `self` also concerns a request on `route`.
    pub(super) fn covers(self, route: Self) -> bool {
        self == route || self == Self::OpenAi && route.is_data_plane()
    }

    fn on_data_plane(path: &str) -> Self {
        let mut segments = path.trim_start_matches('/').split('/');
        let operation = match (segments.next(), segments.next()) {
            (Some("openai"), Some("v1")) => segments.next(),
            (Some("openai"), Some("deployments")) => segments.nth(1),
            (Some("openai"), realtime @ Some("realtime")) => realtime,
            _ => None,
        };
        match operation {
            Some("chat") => Self::Chat,
            Some("responses") => Self::Responses,
            Some("embeddings") => Self::Embeddings,
            Some("files") => Self::Files,
            Some("models") => Self::Models,
            Some("realtime") => Self::Realtime,
            _ => Self::OpenAi,
        }
    }

    fn is_data_plane(self) -> bool {
        match self {
            Self::Chat
            | Self::Responses
            | Self::Embeddings
            | Self::Files
            | Self::Models
            | Self::Realtime
            | Self::OpenAi => true,
            Self::Imds | Self::Metadata | Self::AppService | Self::Entra | Self::Management => false,
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_routes() {
        for (server, path, route) in [
            (Server::ManagedIdentity, "/metadata/identity/oauth2/token", Route::Imds),
            (Server::ManagedIdentity, "/metadata/versions", Route::Metadata),
            (Server::ManagedIdentity, "/msi/token", Route::AppService),
            (Server::OpenAi, "/openai/v1/chat/completions", Route::Chat),
            (Server::OpenAi, "/openai/deployments/gpt-4o/chat/completions", Route::Chat),
            (Server::OpenAi, "/openai/deployments/text-embedding-3-small/embeddings", Route::Embeddings),
            (Server::OpenAi, "/openai/v1/responses/resp_1", Route::Responses),
            (Server::OpenAi, "/openai/v1/files/file-1/content", Route::Files),
            (Server::OpenAi, "/openai/v1/models", Route::Models),
            (Server::OpenAi, "/openai/v1/realtime", Route::Realtime),
            (Server::OpenAi, "/openai/v1/realtime/calls", Route::Realtime),
            (Server::OpenAi, "/openai/realtime", Route::Realtime),
            (Server::OpenAi, "/openai/v1/audio/speech", Route::OpenAi),
            (Server::OpenAi, "/", Route::OpenAi),
            (Server::Management, "/subscriptions", Route::Management),
        ] {
            assert_eq!(Route::of(server, path), route, "{path}");
        }
    }

    #[test]
    fn the_data_plane_covers_its_routes() {
        assert!(Route::OpenAi.covers(Route::Chat));
        assert!(!Route::Chat.covers(Route::OpenAi));
        assert!(!Route::OpenAi.covers(Route::Management));
    }
}
