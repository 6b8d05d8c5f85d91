//! The product as its users see it: over real sockets, against the emulator. One file a promise.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

mod authorize;
mod binary;
mod configuration;
mod errors;
mod forward;
mod guard;
mod management;
mod readiness;
mod shutdown;
mod stream;
mod tokens;
mod upgrade;
