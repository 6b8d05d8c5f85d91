//! What has been counted: sums of tokens, by hour, app and model.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::AddAssign;

use crate::config::{Cost, Price};
use crate::inspect::usage::Usage;

/// How many rows are held at most until they are written.
const MOST: usize = 10_000;

/// What is counted apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The second, since 1970, with which the hour began.
    pub(super) hour: i64,
    pub(super) app: Box<str>,
    pub(super) model: Box<str>,
}

/// What responses have cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many there were.
    pub responses: u64,
    /// How many of these did not say what they cost.
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

/// What was counted and is not written yet, no more than there is room for.
#[derive(Debug, Default)]
pub(super) struct Rows {
    rows: HashMap<Key, Counts>,
    /// Responses for which there was no room.
    dropped: u64,
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

impl Rows {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.dropped == 0
    }

    pub(super) fn add(&mut self, key: Key, counts: Counts) {
        let is_full = self.rows.len() >= MOST;
        match self.rows.entry(key) {
            Entry::Occupied(mut row) => *row.get_mut() += counts,
            Entry::Vacant(row) if !is_full => {
                row.insert(counts);
            }
            Entry::Vacant(_) => self.dropped += counts.responses,
        }
    }

    /// Takes all of `other`.
    pub(super) fn merge(&mut self, other: Self) {
        self.dropped += other.dropped;
        other.rows.into_iter().for_each(|(key, counts)| self.add(key, counts));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &Counts)> {
        self.rows.iter()
    }

    /// Forgets what has been written.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
    }

    /// How many responses are in it.
    pub(super) fn responses(&self) -> u64 {
        self.rows.values().map(|counts| counts.responses).sum()
    }

    /// How many responses there was no room for since this was asked last.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rate;

    fn key(hour: i64, app: &str) -> Key {
        Key { hour, app: app.into(), model: "m".into() }
    }

    fn usage(input: u64, cached: u64, output: u64) -> Counts {
        Counts::one(Some(Usage { input, cached, output, reasoning: 0 }))
    }

    #[test]
    fn the_same_is_added_up_and_the_rest_kept_apart() {
        let mut rows = Rows::default();
        rows.add(key(0, "a"), usage(1, 0, 2));
        rows.add(key(0, "a"), Counts::one(None));
        rows.add(key(0, "b"), usage(1, 0, 2));
        let mut later = Rows::default();
        later.add(key(0, "a"), usage(10, 5, 20));
        later.add(key(3600, "a"), usage(1, 0, 2));
        rows.merge(later);
        let all: HashMap<_, _> = rows.iter().map(|(key, counts)| (key.clone(), *counts)).collect();
        let sum = Counts { responses: 3, unknown: 1, input: 11, cached: 5, output: 22, reasoning: 0 };
        assert_eq!(all[&key(0, "a")], sum);
        assert_eq!((all.len(), rows.responses()), (3, 5));
    }

    #[test]
    fn there_is_room_for_so_many_and_the_rest_is_told() {
        let mut rows = Rows::default();
        for hour in 0..10_010 {
            rows.add(key(hour, "a"), Counts::one(None));
        }
        rows.add(key(0, "a"), Counts::one(None));
        assert_eq!((rows.responses(), rows.take_dropped(), rows.take_dropped()), (10_001, 10, 0));
        let mut more = Rows::default();
        more.add(key(20_000, "a"), Counts::one(None));
        rows.merge(more);
        assert_eq!(rows.take_dropped(), 1);
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
