//! The product as its users see it: over real sockets, against the emulator. One file a promise.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod authority;
mod bulk;
mod caller;
mod http2;
mod oracle;
mod process;
mod program;
mod support;
mod wire;

mod admin;
mod apps;
mod authorize;
mod binary;
mod cancel;
mod chain;
mod check;
mod configuration;
#[cfg(target_os = "linux")]
mod confine;
mod deployments;
#[cfg(target_os = "linux")]
mod descriptors;
mod docs;
mod effective;
mod errors;
mod evasion;
mod events;
mod explain;
mod faults;
mod forward;
mod framing;
mod guard;
mod health;
mod history;
mod interim;
mod ledger;
#[cfg(target_os = "linux")]
mod lifecycle;
mod limits;
mod logs;
mod management;
mod mangled;
#[cfg(target_os = "linux")]
mod memory;
mod metrics;
mod mistakes;
mod models;
mod otlp;
mod paths;
#[cfg(target_os = "linux")]
mod peers;
mod proxied;
mod readiness;
mod reference;
mod renewal;
#[cfg(target_os = "linux")]
mod rolling;
mod run;
mod schema;
mod secrets;
mod server;
mod shutdown;
mod stale;
mod stream;
#[cfg(target_os = "linux")]
mod systemd;
mod tokens;
mod tools;
mod transparency;
mod unix_socket;
mod upgrade;
mod websocket;
