//! What was used since the start, by app and model. Both are few: apps are configured, and of models the recorder tells no
//! more than some hundreds apart.

use std::mem;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Serialize, Serializer};

use super::super::counts::Counts;
use super::super::recorder::Spent;

/// An app and a model, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Series(usize);

/// A name that many share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(Arc<str>);

/// What an app has used of a model.
#[derive(Debug, Clone, Serialize)]
pub struct Used {
    /// Who it is; `-`: whoever is no known app.
    pub app: Name,
    /// `-`: it was not seen which.
    pub model: Name,
    /// How much, by responses that should say what they cost.
    #[serde(flatten)]
    pub counts: Counts,
}

/// What all apps have used of all models.
#[derive(Debug, Default)]
pub(super) struct Uses {
    rows: Vec<Used>,
    /// The numbers of their apps and models.
    keys: Vec<(usize, usize)>,
    /// The rows' numbers by those of app and model.
    index: FxHashMap<(usize, usize), usize>,
}

impl Uses {
    /// Adds to what there is.
    pub(super) fn add(&mut self, spent: &Spent<'_>) {
        let Spent { app, model, usage, .. } = spent;
        self.add_to((app.number, model.number), Counts::one(*usage), || {
            [app, model].map(|label| Name::new(label.name))
        });
    }

    /// Brings all of it to `rest`, and begins anew. `spend` hears how many tokens it were of which series there.
    pub(super) fn bring(&mut self, rest: &mut Self, mut spend: impl FnMut(Series, u64)) {
        for (row, key) in self.rows.iter_mut().zip(&self.keys).filter(|(row, _)| row.counts.responses > 0) {
            let counts = mem::take(&mut row.counts);
            let series = rest.add_to(*key, counts, || [row.app.clone(), row.model.clone()]);
            if counts.responses > counts.unknown {
                spend(series, counts.input.saturating_add(counts.output));
            }
        }
    }

    fn add_to(&mut self, key: (usize, usize), counts: Counts, names: impl FnOnce() -> [Name; 2]) -> Series {
        let at = *self.index.entry(key).or_insert_with(|| {
            let [app, model] = names();
            self.rows.push(Used { app, model, counts: Counts::default() });
            self.keys.push(key);
            self.rows.len() - 1
        });
        if let Some(row) = self.rows.get_mut(at) {
            row.counts += counts;
        }
        Series(at)
    }

    /// All rows, in the order in which they came.
    pub(super) fn all(&self) -> &[Used] {
        &self.rows
    }

    /// The app and the model of each series, by number.
    pub(super) fn names(&self) -> Vec<(Name, Name)> {
        self.rows.iter().map(|row| (row.app.clone(), row.model.clone())).collect()
    }
}

impl Series {
    /// What stands at its place in a list by number.
    pub(super) fn of<T>(self, list: &[T]) -> Option<&T> {
        list.get(self.0)
    }
}

impl Name {
    /// This name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}
