//! Faults: what the emulator is asked to do wrong, on which route and how often.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::lock::Lock;
use super::route::Route;

/// Something that goes wrong with requests on a route.
///
/// Several faults may wait for the same route; each request meets the one that was asked for first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Whose requests.
    pub route: Route,
    /// What happens to them.
    pub action: Action,
    /// To how many of them; to all, until faults are cleared, if `None`.
    #[serde(default)]
    pub count: Option<u32>,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// The answer has this status instead of the real one.
    Status {
        /// The status code.
        status: u16,
        /// The body; Azure's usual one for this status and route if `None`.
        #[serde(default)]
        body: Option<String>,
        /// Further fields; a 429 gets `retry-after` and `retry-after-ms` of one second unless one of them is here.
        #[serde(default)]
        headers: BTreeMap<String, String>,
    },
    /// The request is answered properly, but this much later.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// The request is read and never answered.
    Hang,
    /// The connection is closed before the first byte of an answer.
    Close,
    /// The answer begins, and after some bytes of its body the connection is closed.
    Cut {
        /// How many bytes of the body are sent. At most all but one of a body whose length is announced.
        after_bytes: u64,
    },
    /// A streamed answer pauses until streams are released.
    Hold {
        /// After how many events; other bodies count as one event.
        after_events: u64,
    },
    /// A streamed answer ends with an event that says that the server failed. Other answers are what they are.
    ErrorEvent {
        /// After how many events.
        after_events: u64,
    },
}

impl Fault {
    /// A fault that stays until faults are cleared.
    #[must_use]
    pub fn new(route: Route, action: Action) -> Self {
        Self { route, action, count: None }
    }

    /// The same fault for this many requests only.
    #[must_use]
    pub fn times(self, count: u32) -> Self {
        Self { count: Some(count), ..self }
    }
}

impl Action {
    /// An answer with this status and Azure's usual body for it.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Status { status, body: None, headers: BTreeMap::new() }
    }
}

/// The faults that wait for requests.
#[derive(Debug, Default)]
pub(super) struct Faults(Lock<Vec<Fault>>);

impl Faults {
    pub(super) fn add(&self, fault: Fault) {
        if fault.count != Some(0) {
            self.0.open().push(fault);
        }
    }

    pub(super) fn clear(&self) {
        self.0.open().clear();
    }

    /// What happens to the next request on `route`; uses the fault up by one.
    pub(super) fn next(&self, route: Route) -> Option<Action> {
        let mut faults = self.0.open();
        let index = faults.iter().position(|fault| fault.route.covers(route))?;
        match faults[index].count {
            Some(1) => Some(faults.remove(index).action),
            Some(left) => {
                faults[index].count = Some(left - 1);
                Some(faults[index].action.clone())
            }
            None => Some(faults[index].action.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_fault_is_used_up() {
        let faults = Faults::default();
        faults.add(Fault::new(Route::Chat, Action::status(503)).times(2));
        assert_eq!(faults.next(Route::Files), None);
        assert_eq!(faults.next(Route::Chat), Some(Action::status(503)));
        assert_eq!(faults.next(Route::Chat), Some(Action::status(503)));
        assert_eq!(faults.next(Route::Chat), None);
    }

    #[test]
    fn faults_are_met_in_the_order_they_were_asked_for() {
        let faults = Faults::default();
        faults.add(Fault::new(Route::OpenAi, Action::Close).times(1));
        faults.add(Fault::new(Route::Chat, Action::Hang));
        assert_eq!(faults.next(Route::Chat), Some(Action::Close));
        assert_eq!(faults.next(Route::Chat), Some(Action::Hang));
        assert_eq!(faults.next(Route::Chat), Some(Action::Hang));
        faults.clear();
        assert_eq!(faults.next(Route::Chat), None);
    }

    #[test]
    fn faults_are_written_as_the_documentation_says() {
        let json = r#"{"route":"chat","action":{"kind":"status","status":429},"count":1}"#;
        let fault: Fault = serde_json::from_str(json).unwrap();
        assert_eq!(fault, Fault::new(Route::Chat, Action::status(429)).times(1));
        assert!(serde_json::from_str::<Fault>(r#"{"route":"chat","action":{"kind":"explode"}}"#).is_err());
    }
}
