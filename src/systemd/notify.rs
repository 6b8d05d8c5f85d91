//! What the service manager is told (`sd_notify(3)`): one datagram for each thing that happens. A manager that does not hear is no
//! reason not to serve.

use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use super::{NOTIFY_SOCKET, WATCHDOG_PID, WATCHDOG_USEC};
use crate::config::Environment;

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// Callers are accepted, where this says.
    Ready(&'a str),
    /// The end has begun.
    Stopping,
    /// It still serves.
    Alive,
}

/// Whoever started this and wants to know how it does; mostly nobody.
#[derive(Debug, Default)]
pub struct Manager {
    socket: Option<UnixDatagram>,
    /// How long it may be silent before it is taken to hang.
    patience: Option<Duration>,
}

impl Manager {
    /// Connects to whoever listens at `NOTIFY_SOCKET`: at once, because a process that is confined cannot.
    #[must_use]
    pub fn connect(environment: &Environment) -> Self {
        let Some(name) = environment.get(NOTIFY_SOCKET) else { return Self::default() };
        match connect(name) {
            Ok(socket) => Self { socket: Some(socket), patience: patience(environment) },
            Err(error) => {
                tracing::warn!(%error, socket = name, "the service manager cannot be told how this does (NOTIFY_SOCKET)");
                Self::default()
            }
        }
    }

    /// How often it wants to hear that all is well, if it does: twice in the time that it waits.
    #[must_use]
    pub fn every(&self) -> Option<Duration> {
        self.patience.map(|patience| patience / 2)
    }

    /// Tells it.
    pub fn tell(&self, event: Event<'_>) {
        let Some(socket) = &self.socket else { return };
        let text = match event {
            Event::Ready(place) => format!("READY=1\nSTATUS=serving on {place}\n"),
            Event::Stopping => "STOPPING=1\nSTATUS=finishing running requests\n".to_owned(),
            Event::Alive => "WATCHDOG=1\n".to_owned(),
        };
        if let Err(error) = socket.send(text.as_bytes()) {
            tracing::warn!(%error, ?event, "the service manager was not told");
        }
    }
}

/// How long a manager whose queue is full is waited for: READY that is lost is a service that never starts.
const MOMENT: Duration = Duration::from_secs(1);

fn connect(name: &str) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(MOMENT))?;
    socket.connect_addr(&address(name)?)?;
    Ok(socket)
}

#[cfg(target_os = "linux")]
fn address(name: &str) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    name.strip_prefix('@').map_or_else(|| SocketAddr::from_pathname(name), SocketAddr::from_abstract_name)
}

#[cfg(not(target_os = "linux"))]
fn address(name: &str) -> io::Result<SocketAddr> {
    SocketAddr::from_pathname(name)
}

/// How long it waits for word from this very process.
fn patience(environment: &Environment) -> Option<Duration> {
    let is_ours = environment.get(WATCHDOG_PID).is_none_or(|pid| pid == std::process::id().to_string());
    let microseconds = environment.get(WATCHDOG_USEC).filter(|_| is_ours)?;
    match microseconds.parse() {
        Ok(microseconds) if microseconds > 0 => Some(Duration::from_micros(microseconds)),
        _ => {
            tracing::warn!(
                WATCHDOG_USEC = microseconds,
                "is no number of microseconds; the service manager hears no word that all is well"
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(variables: &[(&str, &str)]) -> Option<Duration> {
        patience(&variables.iter().copied().collect())
    }

    #[test]
    fn the_watchdog_is_for_this_process_or_nobody_in_particular() {
        let us = std::process::id().to_string();
        let second = ("WATCHDOG_USEC", "1000000");
        assert_eq!(every(&[]), None);
        assert_eq!(every(&[second]), Some(Duration::from_secs(1)));
        assert_eq!(every(&[second, ("WATCHDOG_PID", &us)]), Some(Duration::from_secs(1)));
        assert_eq!(every(&[second, ("WATCHDOG_PID", "1")]), None);
        for nonsense in ["0", "-1", "1s"] {
            assert_eq!(every(&[("WATCHDOG_USEC", nonsense)]), None, "{nonsense}");
        }
    }

    #[test]
    fn nobody_is_told_where_nobody_asks() {
        let manager = Manager::connect(&Environment::default());
        assert!(manager.socket.is_none() && manager.every().is_none());
        manager.tell(Event::Stopping);
    }
}
