//! One caller's connection as its requests see it: whether it ever got as far as a request, and what it holds.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Request;
use http::header::UPGRADE;
use hyper::service::Service;
use tokio::time::sleep;

use crate::lifecycle::{Held, Lifecycle};

/// A service for one connection: passes requests on, and gives those that ask to switch protocols what the connection
/// holds.
#[derive(Debug, Clone)]
pub(super) struct Conversation<S> {
    service: S,
    held: Held,
    begun: Arc<AtomicBool>,
}

impl<S> Conversation<S> {
    pub(super) fn new(service: S, held: Held) -> Self {
        Self { service, held, begun: Arc::default() }
    }

    /// Tells whether a request has come.
    pub(super) fn begun(&self) -> Begun {
        Begun(self.begun.clone())
    }
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Conversation<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, mut request: Request<B>) -> Self::Future {
        self.begun.store(true, Ordering::Relaxed);
        if request.headers().contains_key(UPGRADE) {
            request.extensions_mut().insert(self.held.clone());
        }
        self.service.call(request)
    }
}

/// Whether a connection has got as far as a request.
#[derive(Debug)]
pub(super) struct Begun(Arc<AtomicBool>);

impl Begun {
    /// Completes if no request has come within `longest`, or by the time that the end begins. Covers what the HTTP library
    /// has no deadline for: a connection that says nothing, and one that stops inside HTTP/2's preface or first head.
    pub(super) async fn never(&self, longest: Duration, lifecycle: &Lifecycle) {
        tokio::select! {
            () = sleep(longest) => {}
            () = lifecycle.ending() => {}
        }
        if self.0.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
    }
}
