//! Who may call: names, origins, users.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use nix::unistd::User;
use serde::Deserializer;
use serde::de::{self, Deserialize};

use super::ConfigError;
use super::layers::Layers;
use super::lists;
use super::settings;

/// Where callers connect; at least one of both is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// `listen.address`.
    pub tcp: Option<SocketAddr>,
    /// `listen.unix_socket`.
    pub unix: Option<PathBuf>,
    /// `listen.allow_remote`, with callers' keys required: only then may other machines reach it.
    pub may_be_remote: bool,
}

/// Who may call.
#[derive(Debug, Clone)]
pub struct Access {
    /// `access.allowed_hosts`: the names under which the proxy is asked.
    pub hosts: Vec<HostName>,
    /// `access.allowed_origins`: whose web pages may call.
    pub origins: Vec<Origin>,
    /// `access.peer_users`: whose processes may connect.
    pub peer_users: PeerUsers,
    /// `access.require_key`: whether callers must present an app's key.
    pub require_key: bool,
}

/// Users of this machine whose processes may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerUsers {
    /// All: nobody is looked up.
    Any,
    /// The proxy's own, and root.
    Same,
    /// These alone, by number.
    Only(Vec<u32>),
}

/// A host's name as a URL has it, in lower case, IPv6 addresses in brackets; without a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(String);

impl HostName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<Ipv6Addr>() {
            return Ok(Self(format!("[{address}]")));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_name = text.len() <= 253 && text.split('.').all(|label| !label.is_empty() && label.bytes().all(plain));
        if !is_name {
            return Err(
                "is not a host's name as in a URL, like localhost, proxy.internal or [::1]: no scheme, no port (any \
                        port is served), no dot at the end, no wildcard"
                    .to_owned(),
            );
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

/// A web origin as a browser writes it (RFC 6454 §6.2): `https://app.example`, with the port unless it is the scheme's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// The origin.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "is not an origin like https://app.example or http://localhost:3000: a scheme and a host, a port \
                                if it is not the scheme's own, nothing behind it";
        if text == "null" {
            return Err("cannot be allowed: any page can make itself an origin that is called so".to_owned());
        }
        if text.contains('*') {
            return Err("cannot be allowed: name each origin".to_owned());
        }
        let lower = text.to_ascii_lowercase();
        let (scheme, rest) = lower.split_once("://").ok_or(EXPECTED)?;
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port.parse::<u16>().map_err(|_| EXPECTED)?)),
            _ => (rest, None),
        };
        let host = host.parse::<HostName>().map_err(|_| EXPECTED)?;
        if !is_scheme {
            return Err(EXPECTED.to_owned());
        }
        let is_default = matches!((scheme, port), ("http", Some(80)) | ("https", Some(443)));
        let port = port.filter(|_| !is_default).map_or(String::new(), |port| format!(":{port}"));
        Ok(Self(format!("{scheme}://{}{port}", host.as_str())))
    }
}

/// `access.peer_users`, read: names have become numbers.
impl<'de> Deserialize<'de> for PeerUsers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = lists::texts(deserializer)?;
        let users = match texts.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["any"] => Ok(Self::Any),
            ["same"] => Ok(Self::Same),
            [] => Err("nobody could connect; expected any, same, or a list of users".to_owned()),
            ref users => users.iter().map(|user| uid(user)).collect::<Result<_, _>>().map(Self::Only),
        };
        users.map_err(de::Error::custom)
    }
}

/// A user's number, by number or by name.
fn uid(user: &str) -> Result<u32, String> {
    if matches!(user, "any" | "same") {
        return Err(format!("{user} stands alone or not at all"));
    }
    if let Ok(uid) = user.parse() {
        return Ok(uid);
    }
    match User::from_name(user) {
        Ok(Some(found)) => Ok(found.uid.as_raw()),
        Ok(None) => Err(format!("there is no user {user:?} here; a number needs no name")),
        Err(error) => Err(format!("the user {user:?} cannot be looked up: {error}")),
    }
}

/// Where to listen, and who may call there: together, because what is reached from afar must be guarded by keys.
pub(super) fn access(
    layers: &Layers,
    listen: settings::Listen,
    access: settings::Access,
) -> Result<(Listen, Access), ConfigError> {
    let settings::Listen { address: tcp, unix_socket: unix, allow_remote } = listen;
    let remote = tcp.filter(|address| !address.ip().is_loopback());
    if tcp.is_none() && unix.is_none() {
        return Err(layers.bad_value(
            "listen.address",
            "nothing would be listened on; set an address like 127.0.0.1:8642, or listen.unix_socket".to_owned(),
        ));
    }
    if remote.is_some() && !(allow_remote && access.require_key) {
        return Err(layers.bad_value("listen.address", REMOTE.to_owned()));
    }
    if remote.is_some() && access.peer_users != PeerUsers::Any {
        return Err(layers.bad_value(
            "access.peer_users",
            "users of other machines cannot be told apart; leave it out, or listen on a loopback address".to_owned(),
        ));
    }
    if cfg!(not(target_os = "linux")) && tcp.is_some() && access.peer_users != PeerUsers::Any {
        return Err(layers.bad_value(
            "access.peer_users",
            "this system does not say whose TCP connection one is; listen on listen.unix_socket alone (listen.address = \"\")"
                .to_owned(),
        ));
    }
    let settings::Access { allowed_hosts: hosts, allowed_origins: origins, peer_users, require_key } = access;
    if hosts.is_empty() {
        return Err(layers.bad_value("access.allowed_hosts", "no request would be answered".to_owned()));
    }
    let may_be_remote = allow_remote && require_key;
    Ok((Listen { tcp, unix, may_be_remote }, Access { hosts, origins, peer_users, require_key }))
}

const REMOTE: &str = "whoever reaches the port speaks with the proxy's identity, so only a loopback address is listened on as it \
                      is. For a container beside it, run the proxy as its sidecar (shared network namespace); for other programs \
                      of this machine, use listen.unix_socket. If other machines must reach it, set listen.allow_remote = true \
                      and access.require_key = true, give each app a key, and let a network policy admit who may connect";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_without_a_port() {
        for (text, host) in [
            ("localhost", "localhost"),
            ("Proxy.Internal", "proxy.internal"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("::1", "[::1]"),
            ("[0:0:0:0:0:0:0:1]", "[::1]"),
        ] {
            assert_eq!(text.parse(), Ok(HostName(host.to_owned())), "{text}");
        }
        for bad in [
            "",
            "localhost:8642",
            "*",
            "*.example",
            "http://localhost",
            "localhost.",
            ".",
            "a..b",
            "a b",
            "[::1]:1",
            "é",
        ] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_origin_is_written_as_browsers_write_it() {
        for (text, origin) in [
            ("https://app.example", "https://app.example"),
            ("https://APP.example:443", "https://app.example"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("app://obsidian.md", "app://obsidian.md"),
            ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ] {
            assert_eq!(text.parse(), Ok(Origin(origin.to_owned())), "{text}");
        }
        for bad in [
            "",
            "null",
            "*",
            "https://*.example",
            "app.example",
            "https://",
            "https://a/",
            "https://a/b",
            "https://u@a",
            "://a",
            "https://a:x",
            "https://a:",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }

    #[test]
    fn users_have_numbers() {
        assert_eq!(uid("1000"), Ok(1000));
        assert_eq!(uid("root"), Ok(0));
        for bad in ["", "-1", "no such user", "4294967296", "same"] {
            assert!(uid(bad).is_err(), "{bad}");
        }
    }
}
