//! Where this is asked: sockets that were handed over, or else those that the configuration names.

use crate::cli::say;
use crate::config::Config;
use crate::server::{ListenError, Listeners};
use crate::systemd::Handed;

/// Sockets that are bound, and nobody is accepted on yet.
#[derive(Debug)]
pub(in crate::cli) struct Doors {
    /// Callers'.
    pub(super) callers: Listeners,
    /// For probes, if there is one.
    pub(super) admin: Option<Listeners>,
}

impl Doors {
    pub(in crate::cli) fn open(config: &Config, handed: Handed) -> Result<Self, ListenError> {
        let users = &config.access.peer_users;
        let Handed { callers, admin } = handed;
        let callers = if callers.is_empty() {
            Listeners::bind(&config.listen, users)?
        } else {
            tracing::info!("callers are served on what was handed over (LISTEN_FDS), and nowhere that listen.* says");
            Listeners::handed(callers, &config.listen, users)?
        };
        let admin = if admin.is_empty() {
            config.admin.map(Listeners::for_admin).transpose()?
        } else {
            Some(Listeners::handed_for_admin(admin))
        };
        Ok(Self { callers, admin })
    }

    /// Says where, for whoever started this and for programs that read it.
    pub(super) fn announce(&self) {
        self.callers.urls().for_each(|url| say(&format!("listening on {url}")));
        self.admin.iter().flat_map(Listeners::urls).for_each(|url| say(&format!("admin on {url}")));
    }
}
