//! The grammar of HTTP/1.1 (RFC 9112), for both sides: with callers and with the resource alike.
//!
//! Strict: what two readers could read differently is refused, whoever has said it.

pub(crate) mod encoding;
pub(crate) mod fields;
pub(crate) mod framing;
pub(crate) mod lines;
pub(crate) mod outgoing;
