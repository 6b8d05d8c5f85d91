//! What was used since the start, by app and model. Both are few: apps are configured, and of models the recorder tells no
//! more than some hundreds apart.

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
    /// The rows' numbers by those of app and model.
    index: FxHashMap<(usize, usize), usize>,
}

impl Uses {
    /// Adds to what there is; of which series.
    pub(super) fn add(&mut self, spent: &Spent<'_>) -> Series {
        let Spent { app, model, usage, .. } = spent;
        let at = *self.index.entry((app.number, model.number)).or_insert_with(|| {
            let [app, model] = [app, model].map(|label| Name::new(label.name));
            self.rows.push(Used { app, model, counts: Counts::default() });
            self.rows.len() - 1
        });
        if let Some(row) = self.rows.get_mut(at) {
            row.counts += Counts::one(*usage);
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
