//! The product as its users see it: over real sockets, against the emulator. One file a promise.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod oracle;
mod program;
mod support;
mod wire;

mod authorize;
mod binary;
mod chain;
mod configuration;
mod errors;
mod explain;
mod forward;
mod framing;
mod guard;
mod interim;
mod management;
mod paths;
mod readiness;
mod renewal;
mod secrets;
mod shutdown;
mod stale;
mod stream;
mod tokens;
mod tools;
mod transparency;
mod upgrade;
