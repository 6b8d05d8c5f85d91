//! `auto`: the first credential that gives a token, in a fixed order; then that one for good.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

use super::{AccessToken, CredentialError, TokenSource};
use crate::config::Scope;

/// How long something at the metadata service's address may take to accept a connection before the chain goes on.
const PROBE: Duration = Duration::from_secs(1);

/// No link has given a token yet.
const UNDECIDED: usize = usize::MAX;

/// The links, in order.
#[derive(Debug)]
pub struct Chain {
    links: Vec<Link>,
    chosen: AtomicUsize,
}

/// One credential of a chain.
#[derive(Debug)]
pub struct Link {
    /// Its name, for people.
    pub name: &'static str,
    /// What must accept a connection for the link to be worth asking.
    pub probe: Option<Url>,
    /// The credential.
    pub source: Arc<dyn TokenSource>,
}

impl Chain {
    pub(super) fn new(links: Vec<Link>) -> Self {
        Self { links, chosen: AtomicUsize::new(UNDECIDED) }
    }

    fn chosen(&self) -> Option<&Link> {
        self.links.get(self.chosen.load(Ordering::Relaxed))
    }
}

impl Link {
    async fn attempt(&self, scope: &Scope) -> Result<AccessToken, CredentialError> {
        if let Some(service) = &self.probe {
            probe(service).await?;
        }
        let deadline = self.source.deadline();
        timeout(deadline, self.source.fetch(scope)).await.unwrap_or(Err(CredentialError::Overdue(deadline)))
    }
}

/// Where there is no metadata service, packets to its address vanish: find out by a connection, not by a request.
async fn probe(service: &Url) -> Result<(), CredentialError> {
    let unreachable =
        |words: String| CredentialError::Unreachable { service: service.origin().ascii_serialization(), words };
    let address = (service.host_str().unwrap_or_default(), service.port_or_known_default().unwrap_or(80));
    match timeout(PROBE, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(unreachable(error.to_string())),
        Err(_) => Err(unreachable(format!("nothing accepted a connection within {} s", PROBE.as_secs()))),
    }
}

#[async_trait]
impl TokenSource for Chain {
    async fn fetch(&self, scope: &Scope) -> Result<AccessToken, CredentialError> {
        if let Some(link) = self.chosen() {
            return link.source.fetch(scope).await;
        }
        let mut tried = Vec::new();
        for (index, link) in self.links.iter().enumerate() {
            match link.attempt(scope).await {
                Ok(token) => {
                    self.chosen.store(index, Ordering::Relaxed);
                    tracing::info!(credential = link.name, "auto: this credential gave a token");
                    return Ok(token);
                }
                Err(error) => {
                    tracing::debug!(credential = link.name, %error, "auto: passed over");
                    tried.push((link.name, error));
                }
            }
        }
        Err(CredentialError::NoneWorked(tried))
    }

    /// While undecided every link may need its own deadline.
    fn deadline(&self) -> Duration {
        match self.chosen() {
            Some(link) => link.source.deadline(),
            None => self.links.iter().map(|link| link.source.deadline()).sum::<Duration>() + PROBE,
        }
    }
}
