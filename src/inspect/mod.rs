//! What passes is read on its way, never collected: readers that are fed content in pieces, however these were cut, and that
//! keep no more of it than the few values they are asked for.
//!
//! What a request says decides who may ask for what, and a reader that understood it otherwise than its recipient could be led
//! astray by whoever wrote it. Hence `json` takes JSON as RFC 8259 has it and nothing beside, and says so as soon as content is
//! something else. What a response says is only counted, but all of it goes by: hence `skim` looks for a few values and passes
//! over the rest.

mod events;
mod frames;
mod json;
pub mod model;
mod scan;
mod skim;
pub mod usage;
