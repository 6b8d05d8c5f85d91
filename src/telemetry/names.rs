//! Names that callers choose, and no more of them than there is room for.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxBuildHasher;

use crate::workers::PerWorker;

/// How many names of models are told apart. A resource has some dozens of deployments.
const MOST: usize = 200;

/// What stands for all names that came when there was no more room.
pub(super) const OTHERS: &str = "others";
/// What stands for a name that nobody knows.
const UNKNOWN: &str = "-";

/// A name of a list that has an end, and its number there: what is counted by it is found by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label<'a> {
    /// The name.
    pub name: &'a str,
    /// Its number: in one list, no other name has it.
    pub number: usize,
}

impl Label<'_> {
    /// What stands for a model that nobody knows.
    pub(super) const UNKNOWN: Self = Self { name: UNKNOWN, number: 0 };
}

/// A name that is kept.
#[derive(Debug, Clone)]
pub(super) struct Name {
    text: Arc<str>,
    number: usize,
}

impl Name {
    /// The name and its number.
    pub(super) fn label(&self) -> Label<'_> {
        Label { name: &self.text, number: self.number }
    }
}

/// The names that were used so far, in lower case: Azure does not tell names of deployments apart by case, and what counts the
/// same should have one name whoever asked first, today and after the next start.
#[derive(Debug)]
pub(super) struct Names {
    all: Mutex<Kept>,
    /// Copies of those that a worker has used: even to count who holds a name is a word between processors.
    near: PerWorker<Mutex<Kept>>,
}

/// By name, which are so few that a quick hash will do.
type Kept = HashMap<Arc<str>, usize, FxBuildHasher>;

impl Default for Names {
    fn default() -> Self {
        let Label { name, number } = Label::UNKNOWN;
        Self { all: Mutex::new(Kept::from_iter([(name.into(), number)])), near: PerWorker::default() }
    }
}

impl Names {
    /// `name` while there is room for it, else what stands for [`OTHERS`].
    pub(super) fn keep(&self, name: &str) -> Name {
        let name = lower(name);
        let mut near = open(self.near.own());
        if let Some(near) = get(&near, &name) {
            return near;
        }
        let mut names = open(&self.all);
        let kept = known(&names, &name).unwrap_or_else(|| {
            let (text, number): (Arc<str>, _) =
                (if names.len() >= MOST { OTHERS.into() } else { (*name).into() }, names.len());
            names.insert(text.clone(), number);
            Name { text, number }
        });
        copy(&kept, &mut near)
    }

    /// `name`, if it was kept before.
    pub(super) fn find(&self, name: &str) -> Option<Name> {
        let name = lower(name);
        let mut near = open(self.near.own());
        get(&near, &name).or_else(|| get(&open(&self.all), &name).map(|kept| copy(&kept, &mut near)))
    }
}

/// A name of one worker's.
fn copy(kept: &Name, near: &mut Kept) -> Name {
    let name = Name { text: (*kept.text).into(), number: kept.number };
    near.insert(name.text.clone(), name.number);
    name
}

/// A panic elsewhere leaves nothing half done in here.
fn open(names: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

fn known(names: &Kept, name: &str) -> Option<Name> {
    get(names, name).or_else(|| (names.len() >= MOST).then(|| get(names, OTHERS)).flatten())
}

fn get(names: &Kept, name: &str) -> Option<Name> {
    names.get_key_value(name).map(|(text, number)| Name { text: text.clone(), number: *number })
}

fn lower(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) { name.to_ascii_lowercase().into() } else { name.into() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn text(name: &Name) -> &str {
        name.label().name
    }

    #[test]
    fn there_is_room_for_so_many_and_then_for_the_same() {
        let names = Names::default();
        let kept: Vec<_> = (0..1000).map(|number| names.keep(&number.to_string())).collect();
        assert_eq!(kept.iter().filter(|name| text(name) == OTHERS).count(), 1000 - (MOST - 1));
        assert_eq!((text(&names.keep("7")), text(&names.keep("999"))), ("7", OTHERS));
        let numbers: BTreeSet<_> = kept.iter().map(|name| name.number).collect();
        assert_eq!(numbers, (1..=MOST).collect());
    }

    #[test]
    fn a_worker_that_knows_of_others_knows_all_the_names() {
        let names = Names::default();
        let keep = |most: usize| (1..most).map(|number| names.keep(&number.to_string()).number).last();
        let last = keep(MOST);
        open(names.near.own()).clear();
        keep(MOST - 1);
        let [nobody, others] = ["-", "no-more-room"].map(|name| text(&names.keep(name)).to_owned());
        assert_eq!([nobody, others], [UNKNOWN, OTHERS]);
        assert_eq!(open(names.near.own()).len(), MOST, "all but one, and what stands for others");
        assert_eq!(Some(names.keep(&(MOST - 1).to_string()).number), last);
    }

    #[test]
    fn names_do_not_differ_by_case_alone() {
        let names = Names::default();
        assert_eq!(["GPT-4o", "gpt-4o", "gPt-4O"].map(|name| text(&names.keep(name)).to_owned()), ["gpt-4o"; 3]);
        assert_eq!(names.find("GPT-4O").map(|name| name.number), Some(1));
        assert!(names.find("o3").is_none());
    }

    #[test]
    fn whoever_is_called_like_nobody_is_counted_as_nobody() {
        assert_eq!(Names::default().keep("-").label(), Label::UNKNOWN);
    }
}
