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
    links: Vec<(&'static str, Arc<dyn TokenSource>)>,
    imds: Url,
    chosen: AtomicUsize,
}

impl Chain {
    pub(super) fn new(links: Vec<(&'static str, Arc<dyn TokenSource>)>, imds: &Url) -> Self {
        Self { links, imds: imds.clone(), chosen: AtomicUsize::new(UNDECIDED) }
    }

    async fn attempt(&self, name: &str, link: &dyn TokenSource, scope: &Scope) -> Result<AccessToken, CredentialError> {
        if name == "managed-identity" {
            self.probe().await?;
        }
        let deadline = link.deadline();
        timeout(deadline, link.fetch(scope)).await.unwrap_or(Err(CredentialError::Overdue(deadline)))
    }

    /// Where there is no metadata service, packets to its address vanish: find out by a connection, not by a request.
    async fn probe(&self) -> Result<(), CredentialError> {
        let unreachable =
            |words: String| CredentialError::Unreachable { service: self.imds.origin().ascii_serialization(), words };
        let address = (self.imds.host_str().unwrap_or_default(), self.imds.port_or_known_default().unwrap_or(80));
        match timeout(PROBE, TcpStream::connect(address)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(unreachable(error.to_string())),
            Err(_) => Err(unreachable(format!("nothing accepted a connection within {} s", PROBE.as_secs()))),
        }
    }
}

#[async_trait]
impl TokenSource for Chain {
    async fn fetch(&self, scope: &Scope) -> Result<AccessToken, CredentialError> {
        if let Some((_, link)) = self.links.get(self.chosen.load(Ordering::Relaxed)) {
            return link.fetch(scope).await;
        }
        let mut tried = Vec::new();
        for (index, (name, link)) in self.links.iter().enumerate() {
            match self.attempt(name, link.as_ref(), scope).await {
                Ok(token) => {
                    self.chosen.store(index, Ordering::Relaxed);
                    tracing::info!(credential = name, "auto: this credential gave a token");
                    return Ok(token);
                }
                Err(error) => {
                    tracing::debug!(credential = name, %error, "auto: passed over");
                    tried.push((*name, error));
                }
            }
        }
        Err(CredentialError::NoneWorked(tried))
    }

    /// While undecided every link may need its own deadline.
    fn deadline(&self) -> Duration {
        match self.links.get(self.chosen.load(Ordering::Relaxed)) {
            Some((_, link)) => link.deadline(),
            None => self.links.iter().map(|(_, link)| link.deadline()).sum::<Duration>() + PROBE,
        }
    }
}
