//! What has been counted and waits to be written: sums of tokens, by hour, app and model.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rustc_hash::FxBuildHasher;

use crate::telemetry::counts::Counts;
use crate::telemetry::names::Label;

/// How many rows are held at most until they are written.
const MOST: usize = 10_000;

/// What is counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key<'a> {
    /// The second, since 1970, with which the hour began.
    pub(super) hour: i64,
    pub(super) app: Label<'a>,
    pub(super) model: Label<'a>,
}

/// What is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) hour: i64,
    pub(super) app: Box<str>,
    pub(super) model: Box<str>,
    pub(super) counts: Counts,
}

/// What was counted and is not written yet, no more than there is room for.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// By hour and by the numbers of app and model: of lists that have an end, so that a quick hash will do.
    rows: HashMap<(i64, usize, usize), Row, FxBuildHasher>,
    /// Responses for which there was no room.
    dropped: u64,
}

impl Rows {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.dropped == 0
    }

    pub(super) fn add(&mut self, Key { hour, app, model }: Key<'_>, counts: Counts) {
        let is_full = self.rows.len() >= MOST;
        match self.rows.entry((hour, app.number, model.number)) {
            Entry::Occupied(mut row) => row.get_mut().counts += counts,
            Entry::Vacant(row) if !is_full => {
                row.insert(Row { hour, app: app.name.into(), model: model.name.into(), counts });
            }
            Entry::Vacant(_) => self.dropped += counts.responses,
        }
    }

    /// Takes all of `other`.
    pub(super) fn merge(&mut self, other: Self) {
        self.dropped += other.dropped;
        for ((hour, app, model), row) in other.rows {
            let [app, model] = [(&row.app, app), (&row.model, model)].map(|(name, number)| Label { name, number });
            self.add(Key { hour, app, model }, row.counts);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    /// Forgets what has been written.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
    }

    /// How many responses are in it.
    pub(super) fn responses(&self) -> u64 {
        self.iter().map(|row| row.counts.responses).sum()
    }

    /// How many responses there was no room for since this was asked last.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::usage::Usage;

    fn key(hour: i64, app: &str) -> Key<'_> {
        Key { hour, app: Label { name: app, number: app.len() }, model: Label { name: "m", number: 0 } }
    }

    fn usage(input: u64, cached: u64, output: u64) -> Counts {
        Counts::one(Some(Usage { input, cached, output, reasoning: 0 }))
    }

    #[test]
    fn the_same_is_added_up_and_the_rest_kept_apart() {
        let mut rows = Rows::default();
        rows.add(key(0, "a"), usage(1, 0, 2));
        rows.add(key(0, "a"), Counts::one(None));
        rows.add(key(0, "bb"), usage(1, 0, 2));
        let mut later = Rows::default();
        later.add(key(0, "a"), usage(10, 5, 20));
        later.add(key(3600, "a"), usage(1, 0, 2));
        rows.merge(later);
        let all: HashMap<_, _> = rows.iter().map(|row| ((row.hour, &*row.app), row.counts)).collect();
        let sum = Counts { responses: 3, unknown: 1, input: 11, cached: 5, output: 22, reasoning: 0 };
        assert_eq!(all[&(0, "a")], sum);
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
}
