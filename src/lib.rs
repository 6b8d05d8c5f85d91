//! A local authenticating reverse proxy for Azure OpenAI. This page is the map.
//!
//! # One request's walk
//!
//! A caller connects, over TCP or a Unix socket; [`server`] accepts the connection, within its limits and deadlines, in the
//! first of the [`workers`], and gives it to the first that has time for it: a thread with a runtime and connections to the resource
//! of its own, where it stays unless that has too much to do. There it asks the kernel whose process it is if that matters, and reads requests off it: over
//! HTTP/1.1 with a strict reader of our own, over HTTP/2 with the library's. Each goes to [`app::App`], whose `walk` is all that
//! happens to it, outermost step first:
//!
//! 1. it gets an id, [`apps`] says whose it is, and an [`Exchange`](telemetry::exchange::Exchange) accounts for it until its
//!    response has ended, when [`telemetry::recorder`] tells whoever counts;
//! 2. [`guard`] decides whether this caller may be answered at all, and [`forward::target::check`] whether the path means
//!    one thing only;
//! 3. [`forward::target::map`] turns the path into the resource's, or finds that it is a route of our own: then axum's
//!    router answers, from [`management`] (the list of models too, if it is to be the account's deployments) or [`status`].
//!    Where the identity is lent, the app needs its key, a place and something left of its limits;
//! 4. the models that an app may ask for are looked for in head and content; [`forward::Forwarder`] takes a token from the store ([`identity::tokens`]), cleans the fields
//!    ([`forward::fields`]) and sends the request over a pooled connection ([`forward::upstream`]); if the resource calls
//!    the token stale, once more with another one;
//! 5. the response's head goes back at once and its content as it arrives ([`forward::body`]): over HTTP/1.1 the caller's own
//!    task reads it off the connection (`forward/http1/`), over HTTP/2 one task for all requests of a connection does
//!    (`forward/http2/`), and what came together goes on together; when it ends, the connection returns to the pool and the
//!    request gets its line in the log.
//!
//! Probes can have a listener of their own: [`admin::Admin`] answers there, with the same routes of [`status`] and without what
//! lends the identity.
//!
//! Whatever keeps this from happening is an [`error::ProxyError`], and only [`error`] chooses a status for it.
//!
//! # The rooms
//!
//! Imports point downwards.
//!
//! | module | what it is responsible for |
//! | --- | --- |
//! | [`cli`] | the command line: one file, or one directory, a subcommand |
//! | [`admin`] | what is answered on the listener for probes |
//! | [`app`] | the router, and the order of everything that happens to a request |
//! | [`guard`] | who may call at all: names and origins |
//! | [`management`] | the management plane's lists, all pages joined: a region's models, the account's deployments; and the list of models that these make |
//! | [`forward`] | a request's way to the resource and back |
//! | [`explain`] | what a refusal of the resource means, and what a person can do about it |
//! | [`status`] | `/healthz`, `/readyz`, `/metrics`, `/status`, what changes in it as events, and the page |
//! | [`server`] | connections from callers: accepted, read, limited, drained; knows nothing of Azure |
//! | [`systemd`] | what a service manager hands over and is told: sockets, readiness, signs of life |
//! | `http1` | the grammar of HTTP/1.1, for both sides: lines, fields, where content ends |
//! | [`identity`] | credentials, and the store that shares their tokens |
//! | [`ledger`] | what responses have cost, written down by hour, app and model |
//! | [`telemetry`] | what is made of requests that are over: log lines, metrics, spans for a collector, what responses cost, refusals that can be explained, the last minutes |
//! | [`apps`] | who shares the identity: keys, models, limits, a fair share of the room |
//! | [`inspect`] | what passes is read on its way, never collected: which model is asked for, and what the answer has cost |
//! | [`config`] | layers of text in, a [`config::Config`] that cannot be wrong out |
//! | [`confine`] | what the process may do once it has started |
//! | [`tls`], [`error`], [`clock`], `alarm`, [`lifecycle`] | whom we trust; how failures are answered; what time it is; deadlines that move; whether the end has begun |
//! | [`workers`] | the threads that serve callers, one for each processor, how much each has to do, and what each has of its own |
//! | [`emulator`] | a small faithful Azure, for the demo and for tests; nothing above knows it but [`cli`] |
//!
//! # What always holds
//!
//! Each can be checked with a search.
//!
//! - Only `identity/azure.rs` imports `azure_identity`.
//! - Only [`config`] reads the environment and imports the `config` crate. (`azure_identity` looks for a platform's managed
//!   identity by itself; `identity/transport.rs` sends its requests where the configuration says.)
//! - Only `telemetry/otlp/` writes and reads Protocol Buffers: OTLP's messages, from what was counted or straight from a
//!   request, without OpenTelemetry's SDK between.
//! - Only `clock.rs` asks for wall time. Only [`identity::schedule`] judges a token's age.
//! - Only `systemd/` imports `listenfd`, which takes the variables that say what was handed over once [`config`]'s snapshot has them;
//!   what it takes is served under the rules of sockets of our own (`server/listen.rs`).
//! - Only `ledger/` imports `rusqlite`; requests touch its counts in memory, and never the file.
//! - Only `error/` turns a failure into a status.
//! - While it serves, only `telemetry/queue.rs` writes to standard error, in a thread of its own: nobody waits for whoever
//!   reads there.
//! - A token's text is read where its `Authorization` is built (`identity/tokens.rs`), and nowhere after.
//! - What every request counts, or holds, is a worker's own and added up by whoever reads it (`workers/own.rs`). What must be one
//!   for all is not: places and limits (`apps/`), lines of the log, room for spans.
//! - What is ambiguous is not passed on: `server/http1/` takes one reading of a head and of content's framing, or none,
//!   `forward/http1/` likewise of a response's, and what goes to the other side is written anew from what was read.
//! - No content is collected on its way through [`forward`], with two exceptions: the first MiB of a request is held by
//!   reference, to be sent again, and small refusals in JSON are looked at before they go back. [`inspect`] keeps the few
//!   values that it looks for.
//! - Nothing is read from a connection before it is known whose it is, where that matters (`server/mod.rs`).
//! - What is a label of a metric is of a list that has an end (`telemetry/metrics/`): of ours, of the configuration, or of the
//!   first models that were answered for (`telemetry/names.rs`).
//! - Keys are kept as digests and compared in constant time (`config/apps.rs`).
//! - Nothing is sent to a host that was not configured, and no token to a host other than its own: redirects are handed
//!   back, and links between pages are followed on the same host only.

pub mod admin;
pub(crate) mod alarm;
pub mod app;
pub mod apps;
pub mod cli;
pub mod clock;
pub mod config;
pub mod confine;
pub mod emulator;
pub mod error;
pub mod explain;
pub mod forward;
pub mod guard;
pub(crate) mod http1;
pub mod identity;
pub mod inspect;
pub mod ledger;
pub mod lifecycle;
pub mod management;
pub mod server;
pub mod status;
pub mod systemd;
pub mod telemetry;
pub mod tls;
pub mod workers;
