//! The second listener, for probes: where it is, and whether it takes the order to stop.

use std::net::SocketAddr;

use super::layers::Layers;
use super::{ConfigError, Listen, settings};

/// The listener that answers probes and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admin {
    /// `admin.address`.
    pub address: SocketAddr,
    /// `admin.quitquitquit`: whether whoever reaches it may begin the end.
    pub quits: bool,
}

/// Any address will do: what is lent to callers is not lent here.
pub(super) fn admin(layers: &Layers, admin: &settings::Admin, listen: &Listen) -> Result<Option<Admin>, ConfigError> {
    let Some(address) = admin.address else {
        if admin.quitquitquit {
            let problem = "does nothing without the listener that it is asked on: set admin.address, to 127.0.0.1:8643 for example";
            return Err(layers.bad_value("admin.quitquitquit", problem.to_owned()));
        }
        return Ok(None);
    };
    if address.port() != 0 && listen.tcp.is_some_and(|callers| callers.port() == address.port()) {
        let problem =
            "is the port of listen.address, where callers are served; the listener for probes needs one of its own";
        return Err(layers.bad_value("admin.address", problem.to_owned()));
    }
    Ok(Some(Admin { address, quits: admin.quitquitquit }))
}
