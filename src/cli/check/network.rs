//! The way to the resource: its name's addresses, and a connection, through a forward proxy if one leads there.

use std::io;
use std::net::IpAddr;

use http::Uri;
use http::uri::Scheme;
use serde_json::json;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::report::{Finding, Mend, word};
use super::setup::Setup;
use crate::config::Endpoint;
use crate::error::{ProxyError, Unreachable};
use crate::explain;

/// Where the first connection goes.
struct Destination<'a> {
    host: &'a str,
    port: u16,
    /// Of a forward proxy, what is said of it.
    remark: &'static str,
}

/// Looks up the host that the proxy would connect to.
pub(super) async fn dns(setup: &Setup) -> (Finding, Option<Vec<IpAddr>>) {
    let endpoint = &setup.config.upstream.endpoint;
    let proxy = setup.connector.forward_proxy();
    let destination = match &proxy {
        Some(proxy) => Destination {
            host: proxy.host().unwrap_or_default(),
            port: proxy.port_u16().unwrap_or(80),
            remark: "the forward proxy ",
        },
        None => Destination { host: endpoint.authority().host(), port: port(endpoint), remark: "" },
    };
    let Destination { port, remark, .. } = destination;
    let host = destination.host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = host.parse::<IpAddr>() {
        let message =
            format!("{remark}{host} is an address: nothing to look up{}", at_the_proxy(proxy.as_ref(), endpoint));
        return (Finding::ok(message).detail(json!({ "host": host, "addresses": [address] })), Some(vec![address]));
    }
    let patience = setup.config.upstream.connect_timeout;
    let found: io::Result<Vec<IpAddr>> = match timeout(patience, lookup_host((host, port))).await {
        Ok(found) => found.map(|addresses| addresses.map(|address| address.ip()).collect()),
        Err(_) => {
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", patience.as_secs_f32())))
        }
    };
    match found {
        Ok(addresses) => {
            let message = format!("{remark}{}{}", led(host, &addresses), at_the_proxy(proxy.as_ref(), endpoint));
            (Finding::ok(message).detail(json!({ "host": host, "addresses": addresses })), Some(addresses))
        }
        Err(error) if proxy.is_some() => (unknown_proxy(host, &error), None),
        Err(error) => (unknown(endpoint, host, &error), None),
    }
}

/// Connects as the proxy does.
pub(super) async fn tcp(setup: &Setup) -> (Finding, Option<TcpStream>) {
    let host = setup.connector.host();
    let proxy = setup.connector.forward_proxy();
    match setup.connector.reach().await {
        Ok(stream) => {
            let address = stream.peer_addr().map_or_else(|_| "it".to_owned(), |address| address.to_string());
            let message = match &proxy {
                Some(_) => format!("the forward proxy {address} has opened a tunnel to {host}"),
                None => format!("{address} accepts connections"),
            };
            let detail = json!({ "address": address, "through_forward_proxy": proxy.is_some() });
            (Finding::ok(message).detail(detail), Some(stream))
        }
        Err(error) => {
            let mend = match &proxy {
                Some(proxy) => past_the_proxy(proxy, &setup.config.upstream.endpoint),
                None => past_the_firewall(&error, &setup.config.upstream.endpoint),
            };
            (Finding::failed(error.to_string(), mend), None)
        }
    }
}

fn past_the_proxy(proxy: &Uri, endpoint: &Endpoint) -> Mend {
    let advice = format!(
        "is {proxy} the right forward proxy, does it let this host pass, and does it want a user and password \
         (HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT)? If the host is to be reached without it, list it in NO_PROXY"
    );
    Mend::new(advice, [format!("export NO_PROXY=\"$NO_PROXY,{}\"", endpoint.authority().host())])
}

fn past_the_firewall(error: &ProxyError, endpoint: &Endpoint) -> Mend {
    let advice = if matches!(error, ProxyError::UpstreamUnreachable { kind: Unreachable::Refused, .. }) {
        "nothing listens there: are host and port of upstream.endpoint right?"
    } else {
        "is a firewall between this machine and the resource? Where the way out is a forward proxy, name it in HTTPS_PROXY; \
         where it is a private endpoint, run inside its network"
    };
    Mend::new(advice, [format!("curl -v {}/", word(&endpoint))])
}

fn port(endpoint: &Endpoint) -> u16 {
    let usual = if endpoint.scheme() == &Scheme::HTTP { 80 } else { 443 };
    endpoint.authority().port_u16().unwrap_or(usual)
}

fn at_the_proxy(proxy: Option<&Uri>, endpoint: &Endpoint) -> String {
    let host = endpoint.authority().host();
    proxy.map_or_else(String::new, |_| format!("; it is the one that looks up {host} (HTTPS_PROXY)"))
}

fn led(host: &str, addresses: &[IpAddr]) -> String {
    let listed = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!("{host} leads to {listed} ({})", reach(addresses))
}

/// From where addresses can be reached: a private endpoint's name leads to private ones inside its network.
pub(super) fn reach(addresses: &[IpAddr]) -> &'static str {
    match addresses.iter().filter(|address| is_private(**address)).count() {
        0 => "public",
        private if private == addresses.len() => "private",
        _ => "public and private",
    }
}

fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_private() || address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => address.is_unique_local() || address.is_loopback() || address.is_unicast_link_local(),
    }
}

fn unknown_proxy(host: &str, error: &io::Error) -> Finding {
    let message = format!("the forward proxy {host} has no address: {error}");
    let advice = "is the forward proxy's name right (HTTPS_PROXY)? Where none is needed, unset it";
    Finding::failed(
        message,
        Mend::new(advice, [format!("nslookup {host}"), "unset HTTPS_PROXY https_proxy".to_owned()]),
    )
}

fn unknown(endpoint: &Endpoint, host: &str, error: &io::Error) -> Finding {
    let message = format!("{host} has no address: {error}");
    // What getaddrinfo says if no name server can be asked; there is no number for it in Rust.
    let is_deaf = error.kind() == io::ErrorKind::TimedOut || error.to_string().contains("emporary failure");
    let mend = if is_deaf {
        Mend::new(
            "no name server answered: is this machine on the network, and does its resolver work?",
            [format!("nslookup {host}")],
        )
    } else if explain::subdomain(endpoint).is_some() {
        Mend::new(
            "no resource has this name: is it spelt right in upstream.endpoint? If it has a private endpoint alone, link \
             that endpoint's DNS zone to this network. The resources that you may see, with their endpoints:",
            ["az cognitiveservices account list --query '[].[name, properties.endpoint]' --output table".to_owned()],
        )
    } else {
        Mend::new("is the host in upstream.endpoint spelt right?", [format!("nslookup {host}")])
    };
    Finding::failed(message, mend)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mend(endpoint: &str, words: &str) -> Mend {
        let endpoint = Endpoint::parse(endpoint).expect(endpoint);
        let finding = unknown(&endpoint, endpoint.authority().host(), &io::Error::other(words));
        assert!(finding.message.contains(endpoint.authority().host()) && finding.message.contains(words));
        finding.mend.expect("a mend")
    }

    const UNKNOWN: &str = "failed to lookup address information: Name or service not known";

    #[test]
    fn a_name_that_nobody_has_is_most_likely_misspelt() {
        let mend = mend("https://nmae.openai.azure.com", UNKNOWN);
        assert!(mend.advice.contains("spelt") && mend.advice.contains("private endpoint"), "{}", mend.advice);
        assert!(mend.commands[0].starts_with("az cognitiveservices account list"), "{:?}", mend.commands);
    }

    #[test]
    fn other_names_are_asked_for_by_hand() {
        assert_eq!(mend("https://gateway.invalid", UNKNOWN).commands, ["nslookup gateway.invalid"]);
    }

    #[test]
    fn a_resolver_that_does_not_answer_says_nothing_about_the_name() {
        let words = "failed to lookup address information: Temporary failure in name resolution";
        assert!(mend("https://name.openai.azure.com", words).advice.contains("no name server"));
    }

    #[test]
    fn private_addresses_are_told_from_public_ones() {
        let reach = |addresses: &[&str]| {
            reach(&addresses.iter().map(|address| address.parse().expect(address)).collect::<Vec<_>>())
        };
        for address in ["10.1.2.3", "192.168.0.1", "172.16.0.1", "127.0.0.1", "fd00::1", "::1", "::ffff:10.0.0.1"] {
            assert_eq!(reach(&[address]), "private", "{address}");
        }
        for address in ["20.1.2.3", "2603:1000::1", "172.32.0.1"] {
            assert_eq!(reach(&[address]), "public", "{address}");
        }
        assert_eq!(reach(&["10.0.0.1", "20.0.0.1"]), "public and private");
    }
}
