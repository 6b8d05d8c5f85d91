//! The emulator over real sockets: what Azure would do, and what happens when faults are asked for.

mod application;
mod azure;
mod client;
mod faults;
mod limits;
