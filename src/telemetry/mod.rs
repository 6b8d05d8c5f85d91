//! What the proxy says about itself.

pub mod exchange;
pub mod logs;
pub mod refusals;
