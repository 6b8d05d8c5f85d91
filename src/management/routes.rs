//! `GET /management/…`: the management plane's lists as they are, all pages joined.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;

use super::asked::{Asked, Parameters};
use super::deployments::Deployments;
use super::failure::Failure;
use super::plane::{List, Plane};

/// What the routes share.
#[derive(Debug, Clone)]
pub struct Lists {
    /// The management plane.
    pub plane: Arc<Plane>,
    /// The account's deployments.
    pub deployments: Arc<Deployments>,
}

type Asking = Result<Query<Parameters>, QueryRejection>;

/// `GET /management/models`: what a region offers.
///
/// # Errors
///
/// If a parameter could leave its place in the URL, if nobody said which subscription or region, or if the management
/// plane cannot be asked or refuses.
pub async fn models(State(lists): State<Lists>, query: Asking) -> Result<Response, Failure> {
    let asked = Asked::read(query, &lists.plane.settings)?;
    let location = asked.location()?;
    lists.plane.list(List::Models { location }, asked.scope()).await.map(answer)
}

/// `GET /management/deployments`: what the account has.
///
/// # Errors
///
/// As [`models`]; or if the account is not found.
pub async fn deployments(State(lists): State<Lists>, query: Asking) -> Result<Response, Failure> {
    let asked = Asked::read(query, &lists.plane.settings)?;
    lists.deployments.list(asked.scope()).await.map(answer)
}

fn answer(content: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, "application/json; charset=utf-8")], content).into_response()
}
