//! What every request of the emulated servers passes first: it is recorded, meets its fault, and its bodies are counted.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};
use http_body_util::BodyExt;

use super::control::Control;
use super::disturbed::{CutOff, Held};
use super::error_event;
use super::fault::Action;
use super::fault_body::usual_body;
use super::listen::Connection;
use super::route::{Route, Server};
use super::tracked::{Download, Upload};

/// What the gate of one server needs.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    pub(super) server: Server,
    pub(super) control: Arc<Control>,
}

/// The middleware.
pub(super) async fn gate(
    State(gate): State<Gate>,
    Extension(connection): Extension<Connection>,
    request: Request,
    next: Next,
) -> Response {
    let Gate { server, control } = gate;
    let route = Route::of(server, request.uri().path());
    let (parts, body) = request.into_parts();
    control.journal.record(route, &parts, &connection);
    let open = OpenRequest::new(control.clone());
    let bodiless = parts.method == Method::HEAD;
    let body = if server == Server::OpenAi { Upload::body(body, control.clone()) } else { body };
    let under_way = (route == Route::Imds).then(|| control.enter_imds());
    let response = match &under_way {
        Some(None) => stand_in(route, StatusCode::TOO_MANY_REQUESTS.as_u16(), None, BTreeMap::new()),
        None | Some(Some(_)) => meet_fault(&control, route, connection, Request::from_parts(parts, body), next).await,
    };
    drop(under_way);
    open.answered();
    if bodiless { response } else { response.map(|body| Download::body(body, control)) }
}

async fn meet_fault(
    control: &Arc<Control>,
    route: Route,
    connection: Connection,
    request: Request,
    next: Next,
) -> Response {
    match control.next_fault(route) {
        None => next.run(request).await,
        Some(Action::Status { status, body, headers }) => stand_in(route, status, body, headers),
        Some(Action::Delay { ms }) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            next.run(request).await
        }
        Some(Action::Hang) => {
            let version = request.version();
            if !is_whole(request.into_body()).await && version < Version::HTTP_2 {
                connection.cut();
            }
            pending().await
        }
        Some(Action::Close) => {
            connection.cut();
            pending().await
        }
        Some(Action::Cut { after_bytes }) => {
            next.run(request).await.map(|body| CutOff::body(body, after_bytes, connection))
        }
        Some(Action::Hold { after_events }) => {
            next.run(request).await.map(|body| Held::body(body, after_events, control.clone()))
        }
        Some(Action::ErrorEvent { after_events }) => error_event::within(next.run(request).await, after_events),
    }
}

/// Reads content; whether all of it came. Over HTTP/1.1 the library sees a connection end only once its content is read, and
/// not if that ends with it.
async fn is_whole(mut content: Body) -> bool {
    while let Some(frame) = content.frame().await {
        if frame.is_err() {
            return false;
        }
    }
    true
}

/// The answer of a status fault. What cannot be sent is left out: the control interface has refused it before.
fn stand_in(route: Route, status: u16, body: Option<String>, headers: BTreeMap<String, String>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = Response::new(Body::from(body.unwrap_or_else(|| usual_body(route, status))));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut waits = false;
    for (name, value) in headers {
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else { continue };
        waits |= name.as_str().starts_with("retry-after");
        fields.insert(name, value);
    }
    if status == StatusCode::TOO_MANY_REQUESTS && !waits {
        fields.insert("retry-after", HeaderValue::from_static("1"));
        fields.insert("retry-after-ms", HeaderValue::from_static("1000"));
    }
    response
}

/// Counts a request that has no answer yet; dropping this unanswered counts it as aborted.
struct OpenRequest {
    control: Arc<Control>,
    answered: bool,
}

impl OpenRequest {
    fn new(control: Arc<Control>) -> Self {
        control.journal.change(|state| state.requests_open += 1);
        Self { control, answered: false }
    }

    fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.control.journal.change(|state| {
            state.requests_open -= 1;
            state.requests_aborted += u64::from(!self.answered);
        });
    }
}
