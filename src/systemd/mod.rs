//! Under a service manager: what systemd hands over when it starts the program, and what it is told. Others that speak the same
//! (`sd_notify`, `LISTEN_FDS`) are as good.

mod notify;
mod sockets;
mod watchdog;

pub use notify::{Event, Manager};
pub use sockets::{Handed, HandedError, Socket};
pub use watchdog::watch;

/// Variables that are meant for this process alone: programs that it starts do not get them.
pub const VARIABLES: [&str; 8] = [
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_FDS_FIRST_FD",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    NOTIFY_SOCKET,
    WATCHDOG_PID,
    WATCHDOG_USEC,
];

const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";
const WATCHDOG_PID: &str = "WATCHDOG_PID";
const WATCHDOG_USEC: &str = "WATCHDOG_USEC";
