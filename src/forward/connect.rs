//! New connections to the upstream: name, TCP, forward proxy, TLS, all within one deadline.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower::{Service, ServiceExt};

use super::link::Link;
use super::tcp::Tcp;
use crate::config::{ProxyRules, Upstream};
use crate::error::{Causes, ProxyError, Unreachable};

/// Keeps long silent streams known to whatever stands between here and the resource.
const TCP_KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Which versions of HTTP a new connection may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    /// HTTP/2 if the upstream takes it, else HTTP/1.1.
    Either,
    /// HTTP/1.1 only: what switches protocols begins as that.
    Http1,
}

/// Makes connections to one endpoint.
pub(crate) struct Connector {
    tcp: HttpConnector,
    tls: TlsConnector,
    tls_http1: TlsConnector,
    name: ServerName<'static>,
    destination: Uri,
    proxies: ProxyRules,
    deadline: Duration,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("destination", &self.destination).finish_non_exhaustive()
    }
}

impl Connector {
    pub(crate) fn new(upstream: &Upstream, proxies: ProxyRules, mut tls: ClientConfig) -> Result<Self, http::Error> {
        let mut tls_http1 = tls.clone();
        tls_http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Shared out among a name's addresses, so that one that swallows packets leaves time for the next.
        tcp.set_connect_timeout(Some(upstream.connect_timeout));
        tcp.set_keepalive(Some(TCP_KEEP_ALIVE));
        Ok(Self {
            tcp,
            tls: TlsConnector::from(Arc::new(tls)),
            tls_http1: TlsConnector::from(Arc::new(tls_http1)),
            name: upstream.endpoint.server_name().clone(),
            destination: Uri::builder()
                .scheme(upstream.endpoint.scheme().clone())
                .authority(upstream.endpoint.authority().clone())
                .path_and_query("/")
                .build()?,
            proxies,
            deadline: upstream.connect_timeout,
        })
    }

    /// Host and port, for messages.
    pub(crate) fn host(&self) -> String {
        self.destination.authority().map_or_else(String::new, ToString::to_string)
    }

    pub(super) async fn connect(&self, offer: Offer) -> Result<Link, ProxyError> {
        match timeout(self.deadline, self.attempt(offer)).await {
            Ok(connected) => connected,
            Err(_) => Err(self.overdue()),
        }
    }

    /// The first half of a connection: TCP, through a forward proxy if one leads there, within the deadline.
    pub(crate) async fn reach(&self) -> Result<TcpStream, ProxyError> {
        match timeout(self.deadline, self.tcp()).await {
            Ok(reached) => reached,
            Err(_) => Err(self.overdue()),
        }
    }

    /// The forward proxy that leads to the upstream, without the user and password that it may want.
    pub(crate) fn forward_proxy(&self) -> Option<Uri> {
        self.proxies.intercept(&self.destination).map(|proxy| proxy.uri().clone())
    }

    /// The deadline for a connection has passed.
    fn overdue(&self) -> ProxyError {
        let problem = format!("no connection within {} s", self.deadline.as_secs_f32());
        self.unreachable(problem, Unreachable::Timeout)
    }

    async fn attempt(&self, offer: Offer) -> Result<Link, ProxyError> {
        let tcp = self.tcp().await?;
        if self.destination.scheme() == Some(&Scheme::HTTP) {
            return Ok(Link::Plain(tcp));
        }
        let tls = match offer {
            Offer::Either => &self.tls,
            Offer::Http1 => &self.tls_http1,
        };
        let stream = tls.connect(self.name.clone(), Tcp(tcp)).await.map_err(|error| self.network_error(&error))?;
        Ok(Link::Tls(Box::new(stream)))
    }

    async fn tcp(&self) -> Result<TcpStream, ProxyError> {
        let mut direct = self.tcp.clone();
        let Some(proxy) = self.proxies.intercept(&self.destination) else {
            let connected =
                direct.ready().await.map_err(|error| self.network_error(&error))?.call(self.destination.clone());
            return connected.await.map(TokioIo::into_inner).map_err(|error| self.network_error(&error));
        };
        let tunnel = Tunnel::new(proxy.uri().clone(), direct);
        let mut tunnel = match proxy.basic_auth() {
            Some(authorization) => tunnel.with_auth(authorization.clone()),
            None => tunnel,
        };
        tunnel.call(self.destination.clone()).await.map(TokioIo::into_inner).map_err(|error| {
            let problem = format!("through the forward proxy {}: {}", proxy.uri(), Causes(&error));
            self.unreachable(problem, Unreachable::Unavailable)
        })
    }

    fn network_error(&self, error: &(dyn std::error::Error + 'static)) -> ProxyError {
        ProxyError::from_connecting(self.host(), error)
    }

    fn unreachable(&self, problem: String, kind: Unreachable) -> ProxyError {
        ProxyError::UpstreamUnreachable { host: self.host(), problem, kind }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io;
    use std::net::SocketAddr;

    use hyper_util::client::legacy::connect::dns::Name;

    use super::*;

    #[tokio::test]
    async fn a_name_without_an_address_is_told_from_a_host_that_is_down() {
        let nowhere = tower::service_fn(|_: Name| async {
            Err::<std::vec::IntoIter<SocketAddr>, _>(io::Error::other("no such name"))
        });
        let mut tcp = HttpConnector::new_with_resolver(nowhere);
        let error = tcp.call(Uri::from_static("http://resource.invalid")).await.expect_err("no address");
        let error = ProxyError::from_connecting("resource.invalid:443".to_owned(), &error);
        assert!(matches!(error, ProxyError::UpstreamUnreachable { kind: Unreachable::Dns, .. }), "{error:?}");

        let here = |_: Name| async { Ok::<_, Infallible>(vec![SocketAddr::from(([127, 0, 0, 1], 0))].into_iter()) };
        let mut tcp = HttpConnector::new_with_resolver(tower::service_fn(here));
        // Bound and not listening.
        let taken = tokio::net::TcpSocket::new_v4().expect("a socket");
        taken.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
        let port = taken.local_addr().expect("its address").port();
        let error =
            tcp.call(format!("http://resource.invalid:{port}").parse().expect("a URL")).await.expect_err("refused");
        let error = ProxyError::from_connecting("resource.invalid:443".to_owned(), &error);
        assert!(matches!(error, ProxyError::UpstreamUnreachable { kind: Unreachable::Refused, .. }), "{error:?}");
    }
}
