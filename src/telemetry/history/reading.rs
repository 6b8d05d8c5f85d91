//! The last minutes, as whoever watches them gets them.

use serde::Serialize;

use super::STEP;
use super::slots::{Copies, Quantiles, Slot};
use super::usage::Name;

/// What stands for all series that had no place in a slot.
const OTHERS: &str = "others";

/// Some slots, one after the other without a gap.
#[derive(Debug, Serialize)]
pub struct Reading {
    step_seconds: u64,
    /// The oldest first.
    pub slots: Vec<SlotReading>,
    /// Changes when slots have got other names, so that what was read before is to be forgotten.
    #[serde(skip)]
    pub renamed: u64,
}

/// One slot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SlotReading {
    /// Its name: when it began, in seconds since 1970.
    pub at: u64,
    requests: u32,
    errors: u32,
    first_byte_ms: Milliseconds,
    tokens: Vec<Tokens>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Milliseconds {
    p50: Option<f64>,
    p99: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Tokens {
    app: Name,
    model: Name,
    total: u64,
}

impl Reading {
    pub(super) fn of(copies: &Copies, names: &[(Name, Name)]) -> Self {
        let oldest = (copies.newest + 1).saturating_sub(copies.slots.len() as u64);
        let number = (oldest..).zip(&copies.slots);
        let slots = number.map(|(number, slot)| SlotReading::of(number, slot, names)).collect();
        Self { step_seconds: STEP.as_secs(), slots, renamed: copies.renamed }
    }
}

impl SlotReading {
    fn of(number: u64, slot: &Slot, names: &[(Name, Name)]) -> Self {
        let tokens = slot.tokens.iter().filter_map(|(series, total)| {
            let (app, model) = series.of(names)?.clone();
            Some(Tokens { app, model, total: *total })
        });
        let rest =
            (slot.others > 0).then(|| Tokens { app: Name::new(OTHERS), model: Name::new(OTHERS), total: slot.others });
        Self {
            at: number * STEP.as_secs(),
            requests: slot.requests,
            errors: slot.errors,
            first_byte_ms: Milliseconds::of(slot.first_byte),
            tokens: tokens.chain(rest).collect(),
        }
    }
}

impl Milliseconds {
    fn of(Quantiles { p50, p99 }: Quantiles) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "no more than an hour")]
        let milliseconds = |micros: Option<u64>| micros.map(|micros| micros as f64 / 1000.0);
        Self { p50: milliseconds(p50), p99: milliseconds(p99) }
    }
}
