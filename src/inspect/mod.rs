//! What passes is read on its way, never collected: readers that are fed content in pieces, however these were cut, and that
//! keep no more of it than the few values they are asked for.
//!
//! A reader that understood content otherwise than its recipient could be led astray by whoever wrote it. Hence these take
//! JSON as RFC 8259 has it and nothing beside, and say so as soon as content is something else.

mod events;
mod frames;
mod json;
pub mod model;
mod skim;
pub mod usage;
