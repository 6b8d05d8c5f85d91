//! What the proxy says about itself.

pub mod denials;
pub mod exchange;
pub mod logs;
pub mod meter;
pub mod misfits;
pub mod refusals;
pub mod tally;
