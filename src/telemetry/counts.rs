//! What responses have cost, added up.

use std::ops::AddAssign;

use serde::Serialize;

use crate::config::{Cost, Price};
use crate::inspect::usage::Usage;

/// What responses have cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// How many there were: each of a request, as `/status` calls them.
    #[serde(rename = "requests")]
    pub responses: u64,
    /// How many of these did not say what they cost, or not so that it could be read.
    pub unknown: u64,
    /// Tokens that were sent.
    pub input: u64,
    /// How many of these the resource had still in mind.
    pub cached: u64,
    /// Tokens that were answered.
    pub output: u64,
    /// How many of these were thought and not said.
    pub reasoning: u64,
}

impl Counts {
    /// One response.
    #[must_use]
    pub fn one(usage: Option<Usage>) -> Self {
        match usage {
            Some(Usage { input, cached, output, reasoning }) => {
                Self { responses: 1, unknown: 0, input, cached, output, reasoning }
            }
            None => Self { responses: 1, unknown: 1, ..Self::default() },
        }
    }

    /// What all this costs; nothing if some of it has no price.
    #[must_use]
    pub fn cost(&self, price: &Price) -> Option<Cost> {
        // What was still in mind is part of what was sent, as thoughts are of what was answered.
        let cached = self.cached.min(self.input);
        let parts =
            [(self.input - cached, price.input), (cached, price.cached.or(price.input)), (self.output, price.output)];
        parts.into_iter().filter(|(tokens, _)| *tokens > 0).try_fold(Cost::default(), |mut sum, (tokens, rate)| {
            sum += rate?.of(tokens);
            Some(sum)
        })
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        let add = |to: &mut u64, more: u64| *to = to.saturating_add(more);
        add(&mut self.responses, other.responses);
        add(&mut self.unknown, other.unknown);
        add(&mut self.input, other.input);
        add(&mut self.cached, other.cached);
        add(&mut self.output, other.output);
        add(&mut self.reasoning, other.reasoning);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rate;

    fn usage(input: u64, cached: u64, output: u64) -> Counts {
        Counts::one(Some(Usage { input, cached, output, reasoning: 0 }))
    }

    #[test]
    fn what_is_part_of_something_is_not_paid_twice() {
        let rate = |text: &str| Some(Rate::try_from(text.to_owned()).unwrap());
        let price = Price { input: rate("2.5"), cached: rate("1.25"), output: rate("10") };
        let cost = |counts: Counts, price| counts.cost(&price).map(|cost: Cost| cost.to_string());
        assert_eq!(cost(usage(1_000_000, 400_000, 100_000), price).as_deref(), Some("3"));
        let thought = Counts { reasoning: 90_000, ..usage(0, 0, 100_000) };
        assert_eq!(cost(thought, price).as_deref(), Some("1"));
        assert_eq!(cost(usage(5, 9, 0), price).as_deref(), Some("0.00000625"), "no more was in mind than was sent");
        assert_eq!(cost(Counts::one(None), price).as_deref(), Some("0"));
        let of_input = Price { input: rate("1"), cached: None, output: None };
        assert_eq!(cost(usage(1_000_000, 500_000, 0), of_input).as_deref(), Some("1"), "cached as any other");
        assert_eq!(cost(usage(1, 0, 1), of_input), None, "and what has no price has no cost");
    }
}
