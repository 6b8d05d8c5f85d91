//! `GET /v1/models` as the account's deployments answer it, in OpenAI's shape.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::Method;
use serde::Serialize;
use time::OffsetDateTime;

use super::catalogue::Catalogue;
use super::entries::Deployment;
use super::failure::Failure;
use crate::apps::App;
use crate::apps::models::told;
use crate::error::ProxyError;
use crate::workers::Near;

/// A model as OpenAI lists it. Its id is the deployment's name: that is what requests must give as their model.
#[derive(Debug, Clone, Serialize)]
pub struct Callable {
    pub(super) id: String,
    object: &'static str,
    /// Seconds since the epoch; 0 where nobody says.
    created: i64,
    owned_by: String,
    /// The model behind the deployment, which OpenAI's list has no member for; clients pass over it or hand it on.
    model: String,
    version: String,
}

/// OpenAI's shape of a list.
#[derive(Debug, Serialize)]
pub struct Listed {
    object: &'static str,
    data: Vec<Callable>,
}

impl Callable {
    /// What `deployment` makes callable, if it does already.
    pub(super) fn of(deployment: Deployment) -> Option<Self> {
        if !deployment.can_be_called() {
            return None;
        }
        let model = deployment.properties.model;
        Some(Self {
            id: deployment.name,
            object: "model",
            created: deployment.system_data.created_at.map_or(0, OffsetDateTime::unix_timestamp),
            owned_by: if model.format.is_empty() { "azure".to_owned() } else { model.format },
            model: model.name,
            version: model.version,
        })
    }

    fn is_for(&self, app: &App) -> bool {
        app.models().is_none_or(|models| models.allow(&self.id))
    }
}

/// Whether this asks for the list of models, or for one of them.
#[must_use]
pub fn is_of_models(method: &Method, path: &str) -> bool {
    let path = path.strip_prefix("/openai").unwrap_or(path);
    let models = path.strip_prefix("/v1/models");
    let is_asked = models.is_some_and(|rest| rest.is_empty() || rest.len() > 1 && rest.starts_with('/'));
    matches!(*method, Method::GET | Method::HEAD) && is_asked
}

/// `GET /v1/models`: what the app may call.
///
/// # Errors
///
/// If there is no list.
pub async fn list(
    State(catalogue): State<Catalogue>,
    Extension(app): Extension<Near<App>>,
) -> Result<Json<Listed>, Failure> {
    let models = catalogue.models().await?;
    let data = models.iter().filter(|model| model.is_for(&app)).cloned().collect();
    Ok(Json(Listed { object: "list", data }))
}

/// `GET /v1/models/{id}`: one of them.
///
/// # Errors
///
/// If there is no list, or none of this name in it that the app may see.
pub async fn retrieve(
    State(catalogue): State<Catalogue>,
    Extension(app): Extension<Near<App>>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let models = catalogue.models().await?;
    let visible = models.iter().filter(|model| model.is_for(&app));
    // Azure's names of deployments do not differ by case alone.
    if let Some(model) = visible.clone().find(|model| model.id.eq_ignore_ascii_case(&id)) {
        return Ok(Json(model).into_response());
    }
    let deployed = visible.map(|model| model.id.clone()).collect();
    Err(ProxyError::NoSuchModel { asked: told(&id), deployed }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_questions_for_models_are_answered_here() {
        for path in ["/v1/models", "/openai/v1/models", "/v1/models/gpt-4o", "/openai/v1/models/a/b", "/v1/models/%2f"]
        {
            assert!(is_of_models(&Method::GET, path) && is_of_models(&Method::HEAD, path), "{path}");
            assert!(!is_of_models(&Method::POST, path) && !is_of_models(&Method::DELETE, path), "{path}");
        }
        for path in
            ["/v1/models/", "/v1/modelsx", "/v1/model", "/openai/models", "/v1/files", "/openai/openai/v1/models"]
        {
            assert!(!is_of_models(&Method::GET, path), "{path}");
        }
    }
}
