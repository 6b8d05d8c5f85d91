//! What was used since the start, by app and model. Both are few: apps are configured, and of models the recorder tells no
//! more than some hundreds apart.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Serialize, Serializer};

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
    /// Responses that should say what they cost.
    pub requests: u64,
    /// Of these, those that did not, or not so that it could be read.
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

/// What all apps have used of all models.
#[derive(Debug, Default)]
pub(super) struct Uses {
    rows: Vec<Used>,
    /// The rows' numbers by app, then by model.
    index: HashMap<Box<str>, HashMap<Box<str>, usize>>,
}

impl Uses {
    /// Adds to what there is; of which series.
    pub(super) fn add(&mut self, spent: &Spent<'_>) -> Series {
        let series = self.series(spent.app, spent.model);
        if let Some(row) = self.rows.get_mut(series.0) {
            row.add(spent);
        }
        series
    }

    /// All rows, in the order in which they came.
    pub(super) fn all(&self) -> &[Used] {
        &self.rows
    }

    /// The app and the model of each series, by number.
    pub(super) fn names(&self) -> Vec<(Name, Name)> {
        self.rows.iter().map(|row| (row.app.clone(), row.model.clone())).collect()
    }

    fn series(&mut self, app: &str, model: &str) -> Series {
        if let Some(at) = self.index.get(app).and_then(|models| models.get(model)) {
            return Series(*at);
        }
        let at = self.rows.len();
        self.rows.push(Used::nothing(app, model));
        self.index.entry(app.into()).or_default().insert(model.into(), at);
        Series(at)
    }
}

impl Series {
    /// What stands at its place in a list by number.
    pub(super) fn of<T>(self, list: &[T]) -> Option<&T> {
        list.get(self.0)
    }
}

impl Used {
    fn nothing(app: &str, model: &str) -> Self {
        let (app, model) = (Name::new(app), Name::new(model));
        Self { app, model, requests: 0, unknown: 0, input: 0, cached: 0, output: 0, reasoning: 0 }
    }

    fn add(&mut self, spent: &Spent<'_>) {
        self.requests += 1;
        let Some(usage) = spent.usage else {
            self.unknown += 1;
            return;
        };
        let add = |sum: &mut u64, tokens: u64| *sum = sum.saturating_add(tokens);
        add(&mut self.input, usage.input);
        add(&mut self.cached, usage.cached);
        add(&mut self.output, usage.output);
        add(&mut self.reasoning, usage.reasoning);
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
