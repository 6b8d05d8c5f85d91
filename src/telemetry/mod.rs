//! What the proxy says about itself.

pub mod asked;
pub mod counts;
pub mod denials;
pub mod exchange;
pub mod history;
mod line;
pub mod logs;
pub mod meter;
mod methods;
pub mod metrics;
pub mod misfits;
pub mod names;
mod near;
pub mod operation;
pub mod origin;
pub mod otlp;
pub mod outages;
mod queue;
pub mod recorder;
pub mod refusals;
pub mod tally;
mod text;
