//! The ledger's entries put together as it was asked for, and what that costs.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::value::RawValue;

use super::By;
use crate::config::{Cost, Currency, Prices};
use crate::ledger::{Counts, Entry};

/// What is shown.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) by: Vec<By>,
    /// By what is told apart, in that order.
    pub(super) lines: BTreeMap<Vec<String>, Line>,
    pub(super) total: Line,
    /// What prices are in, if there are any.
    pub(super) currency: Currency,
    pub(super) is_priced: bool,
    /// Models that have no price, or none for some of what they were used for.
    pub(super) unpriced: BTreeSet<String>,
}

/// What belongs together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) counts: Counts,
    /// Nothing if no price is known.
    pub(super) cost: Option<Cost>,
    /// Whether some of what is in it has no price, or did not say what it has cost.
    pub(super) is_partial: bool,
}

/// One line as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Record<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    day: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    responses: u64,
    unknown: u64,
    input: u64,
    cached: u64,
    output: u64,
    reasoning: u64,
    /// As it is written, to the last digit.
    cost: Option<Box<RawValue>>,
    cost_is_partial: bool,
    currency: &'a str,
}

impl Report {
    pub(super) fn new(entries: &[Entry], by: &[By], prices: &Prices) -> Self {
        let mut report = Self {
            by: by.to_vec(),
            lines: BTreeMap::new(),
            total: Line::default(),
            currency: prices.currency.clone(),
            is_priced: !prices.is_empty(),
            unpriced: BTreeSet::new(),
        };
        for entry in entries {
            let line = Line::of(entry, prices);
            if line.cost.is_none() && entry.counts.responses > entry.counts.unknown {
                report.unpriced.insert(entry.model.clone());
            }
            let group = by.iter().map(|by| by.of(entry)).collect();
            report.lines.entry(group).or_default().add(line);
            report.total.add(line);
        }
        report
    }

    pub(super) fn records(&self) -> Vec<Record<'_>> {
        self.lines.iter().map(|(group, line)| self.record(group, line)).collect()
    }

    fn record<'a>(&'a self, group: &'a [String], line: &Line) -> Record<'a> {
        let named = |by| Some(group.get(self.by.iter().position(|named| *named == by)?)?.as_str());
        let Line { counts, cost, is_partial } = line;
        Record {
            day: named(By::Day),
            app: named(By::App),
            model: named(By::Model),
            responses: counts.responses,
            unknown: counts.unknown,
            input: counts.input,
            cached: counts.cached,
            output: counts.output,
            reasoning: counts.reasoning,
            cost: cost.and_then(|cost| RawValue::from_string(cost.to_string()).ok()),
            cost_is_partial: *is_partial,
            currency: self.currency.as_str(),
        }
    }
}

impl Line {
    /// Of one model.
    fn of(entry: &Entry, prices: &Prices) -> Self {
        let counts = entry.counts;
        // If none of them has said anything, nothing is known; not that it was for nothing.
        let is_known = counts.responses > counts.unknown;
        let cost = prices.of(&entry.model).filter(|_| is_known).and_then(|price| counts.cost(price));
        Self { counts, cost, is_partial: cost.is_none() || counts.unknown > 0 }
    }

    fn add(&mut self, other: Self) {
        self.counts += other.counts;
        self.is_partial |= other.is_partial;
        if let Some(cost) = other.cost {
            *self.cost.get_or_insert_default() += cost;
        }
    }
}

impl By {
    fn of(self, entry: &Entry) -> String {
        match self {
            Self::App => entry.app.clone(),
            Self::Model => entry.model.clone(),
            Self::Day => entry.day.to_string(),
        }
    }
}
