//! What went wrong last: a few of them, and what happens over and over does not push out the rest.

use std::collections::VecDeque;
use std::time::SystemTime;

use http::StatusCode;

use super::super::recorder::{Finished, Outcome};
use crate::apps;
use crate::error::ErrorReport;

/// How many are kept.
const MOST: usize = 32;
/// How many of them may be of one kind, told apart by app and model: callers choose names of models.
const MOST_OF_A_KIND: usize = 8;
/// The longest text that is kept, in characters.
const LONGEST_TEXT: usize = 1000;

/// Something that went wrong, and how often in the same way.
#[derive(Debug, Clone)]
pub struct Mishap {
    /// When it did last.
    pub at: SystemTime,
    /// What the caller was answered, if anything.
    pub status: Option<u16>,
    /// The proxy's word for it, if it knows one.
    pub code: Option<&'static str>,
    /// What happened the last time.
    pub message: String,
    /// What a person can do about it.
    pub hint: Option<String>,
    /// Who asked.
    pub app: String,
    /// For which model, if that was seen.
    pub model: Option<String>,
    /// What the last request was called.
    pub id: Option<String>,
    /// How often it happened since it is in the list.
    pub count: u64,
}

/// The latest ones, the newest first.
#[derive(Debug, Default)]
pub(super) struct Mishaps(VecDeque<Mishap>);

impl Mishap {
    /// A request that went wrong.
    pub(super) fn of(request: &Finished<'_>, at: SystemTime) -> Self {
        let message = match (request.outcome, request.error, request.status) {
            (Outcome::BrokeOff, Some(error), _) => format!("the answer broke off: {error}"),
            (_, Some(error), _) => error.to_owned(),
            (_, None, Some(status)) => format!("the resource answered {}", status.as_u16()),
            (_, None, None) => "there was no answer".to_owned(),
        };
        Self {
            at,
            status: request.status.map(|status| status.as_u16()),
            code: request.code,
            message: shortened(message),
            hint: request.hint.map(|hint| shortened(hint.to_owned())),
            app: request.app.name.to_owned(),
            model: request.model.map(str::to_owned),
            id: request.id.to_str().ok().map(str::to_owned),
            count: 1,
        }
    }

    /// What came was no request.
    pub(super) fn misfit(status: StatusCode, report: &ErrorReport, at: SystemTime) -> Self {
        Self {
            at,
            status: Some(status.as_u16()),
            code: Some(report.code),
            message: shortened(report.message.clone()),
            hint: None,
            app: apps::OTHERS.to_owned(),
            model: None,
            id: None,
            count: 1,
        }
    }

    fn is_of_the_kind_of(&self, other: &Self) -> bool {
        (self.status, self.code) == (other.status, other.code)
    }

    fn is_like(&self, other: &Self) -> bool {
        self.is_of_the_kind_of(other) && self.app == other.app && self.model == other.model
    }
}

impl Mishaps {
    /// One more.
    pub(super) fn add(&mut self, mut mishap: Mishap) {
        let known = self.0.iter().position(|known| known.is_like(&mishap));
        if let Some(known) = known.and_then(|at| self.0.remove(at)) {
            mishap.count = known.count.saturating_add(1);
        } else if let Some(superfluous) = self.superfluous(&mishap) {
            self.0.remove(superfluous);
        }
        self.0.push_front(mishap);
    }

    /// All of them, the newest first.
    pub(super) fn all(&self) -> Vec<Mishap> {
        self.0.iter().cloned().collect()
    }

    /// What has to go before a new one comes: the oldest of its kind if those are too many, else the oldest if all are.
    fn superfluous(&self, new: &Mishap) -> Option<usize> {
        let mut of_its_kind = self.0.iter().enumerate().filter(|(_, known)| known.is_of_the_kind_of(new));
        match of_its_kind.nth(MOST_OF_A_KIND - 1) {
            Some(_) => self.0.iter().rposition(|known| known.is_of_the_kind_of(new)),
            None => (self.0.len() >= MOST).then(|| self.0.len() - 1),
        }
    }
}

fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(LONGEST_TEXT) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn mishap(status: u16, model: &str) -> Mishap {
        let status = StatusCode::from_u16(status).expect("a status");
        let report = ErrorReport { code: "code", message: "x".repeat(5000) };
        Mishap { model: Some(model.to_owned()), ..Mishap::misfit(status, &report, UNIX_EPOCH) }
    }

    #[test]
    fn what_happens_over_and_over_pushes_nothing_out() {
        let mut mishaps = Mishaps::default();
        mishaps.add(mishap(404, "rare"));
        for _ in 0..1000 {
            mishaps.add(mishap(500, "a"));
            mishaps.add(mishap(500, "b"));
        }
        let all = mishaps.all();
        let seen: Vec<_> = all.iter().map(|mishap| (mishap.model.as_deref().unwrap(), mishap.count)).collect();
        assert_eq!(seen, [("b", 1000), ("a", 1000), ("rare", 1)]);
        for number in 0..1000 {
            mishaps.add(mishap(429, &number.to_string()));
        }
        let seen = mishaps.all();
        assert_eq!(seen.len(), 3 + MOST_OF_A_KIND);
        assert_eq!((seen[0].model.as_deref(), seen[10].model.as_deref()), (Some("999"), Some("rare")));
    }

    #[test]
    fn there_are_never_more_than_fit() {
        let mut mishaps = Mishaps::default();
        for status in 400..500 {
            mishaps.add(mishap(status, "m"));
        }
        let all = mishaps.all();
        assert_eq!((all.len(), all[0].status, all[MOST - 1].status), (MOST, Some(499), Some(468)));
        assert!(all.iter().all(|mishap| mishap.message.len() < LONGEST_TEXT + 4));
    }
}
