use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderValue, Method};
use proptest::prelude::*;
use serde_json::json;

use super::super::names::Label;
use super::super::operation::Operation;
use super::super::recorder::Outcome;
use super::reading::SlotReading;
use super::*;
use crate::clock::{Clock, ManualClock};
use crate::inspect::usage::Usage;
use crate::workers::on;

const NOON: Duration = Duration::from_secs(1_800_000_000);

/// Slots whose clocks are set by hand.
struct World {
    slots: Slots,
    runs: Instant,
    wall: SystemTime,
}

impl World {
    fn new() -> Self {
        let (runs, wall) = (Instant::now(), SystemTime::UNIX_EPOCH + NOON);
        Self { slots: Slots::new(runs, wall), runs, wall }
    }

    /// Time passes, for both clocks.
    fn pass(&mut self, time: Duration) {
        self.runs += time;
        self.wall += time;
    }

    /// A request ends, and finds its slot as it does in [`History::all_at`].
    fn ask(&mut self) {
        if self.runs >= self.slots.end() {
            self.slots.look(self.runs, self.wall);
        }
        self.slots.count(1, 0, &slots::times());
    }

    /// Requests by the slot's name, counted from noon, of those that have any. All slots follow one another.
    fn counted(&mut self) -> Vec<(i64, u64)> {
        self.slots.look(self.runs, self.wall);
        let read = Reading::of(&self.slots.newest(SLOTS), &[]);
        let at = |slot: &SlotReading| {
            i64::try_from(slot.at).expect("a time") - i64::try_from(NOON.as_secs()).expect("a time")
        };
        assert_eq!(read.slots.len(), SLOTS);
        assert!(read.slots.windows(2).all(|pair| at(&pair[1]) == at(&pair[0]) + 5), "{read:?}");
        let requests = |slot| serde_json::to_value(slot).expect("JSON")["requests"].as_u64().expect("a number");
        read.slots.iter().map(|slot| (at(slot), requests(slot))).filter(|(_, requests)| *requests > 0).collect()
    }
}

fn finish(history: &History, route: Route, outcome: Outcome, status: Option<u16>) {
    let id = HeaderValue::from_static("id");
    history.finished(&Finished {
        method: &Method::POST,
        operation: Operation::at("/v1/responses"),
        route,
        status: status.map(|status| StatusCode::from_u16(status).expect("a status")),
        app: Label::UNKNOWN,
        model: None,
        answered_by: None,
        counted_as: None,
        usage: None,
        ended: Moment { runs: Instant::now(), wall: ManualClock::stopped().now() },
        duration: STEP,
        first_byte: Some(Duration::from_millis(20)),
        bytes: 0,
        outcome,
        code: None,
        error: None,
        hint: None,
        origin: None,
        id: &id,
        upstream_id: None,
    });
}

#[test]
fn a_request_belongs_to_the_slot_in_which_it_ends() {
    let mut world = World::new();
    world.ask();
    world.pass(Duration::from_millis(4999));
    world.ask();
    world.pass(Duration::from_millis(1));
    world.ask();
    world.pass(Duration::from_secs(12));
    world.ask();
    assert_eq!(world.counted(), [(0, 2), (5, 1), (15, 1)]);
    world.pass(STEP * 178);
    assert_eq!(world.counted(), [(15, 1)], "what is older than a quarter of an hour is forgotten");
    world.pass(STEP * 10_000);
    assert_eq!(world.counted(), []);
}

#[test]
fn a_machine_that_sleeps_leaves_a_gap() {
    let mut world = World::new();
    world.ask();
    world.wall += Duration::from_secs(60);
    assert_eq!(world.counted(), [(0, 1)]);
    world.ask();
    assert_eq!(world.counted(), [(0, 1), (60, 1)]);
    world.wall += Duration::from_secs(1_000_000);
    world.pass(STEP);
    world.ask();
    assert_eq!(world.counted(), [(1_000_065, 1)]);
}

#[test]
fn a_clock_that_is_set_back_renames_what_there_is() {
    let mut world = World::new();
    world.ask();
    world.pass(STEP);
    world.ask();
    world.wall -= Duration::from_secs(3600);
    assert_eq!(world.counted(), [(-3600, 1), (-3595, 1)]);
    assert_eq!(world.slots.newest(1).renamed, 1);
    world.wall -= Duration::from_secs(4);
    world.ask();
    assert_eq!(world.counted(), [(-3600, 1), (-3595, 2)], "what is less than a slot does not matter");
    world.wall = SystemTime::UNIX_EPOCH - STEP;
    world.ask();
    world.slots.look(world.runs, world.wall);
    assert_eq!(world.slots.newest(1).newest, 0);
}

#[test]
fn only_what_goes_to_azure_is_traffic_and_who_leaves_is_no_error() {
    use Outcome::{Abandoned, BrokeOff, Completed, Refused};
    let history = History::new(Arc::new(ManualClock::stopped()));
    for (route, outcome, status, expected) in [
        (Route::Resource, Completed, Some(200), (1, 0, 0)),
        (Route::Management, Completed, Some(200), (2, 0, 0)),
        (Route::Resource, Abandoned, None, (3, 0, 0)),
        (Route::Resource, Abandoned, Some(200), (4, 0, 0)),
        (Route::Resource, Completed, Some(429), (5, 1, 1)),
        (Route::Resource, BrokeOff, Some(200), (6, 2, 2)),
        (Route::Management, Refused, Some(504), (7, 3, 3)),
        (Route::Own, Completed, Some(200), (7, 3, 3)),
        (Route::Own, Completed, Some(503), (7, 3, 3)),
        (Route::Own, Refused, Some(421), (7, 3, 4)),
    ] {
        // Whoever counts.
        on(usize::from(route == Route::Resource), || finish(&history, route, outcome, status));
        let Totals { requests, errors, mishaps, .. } = history.totals();
        assert_eq!((requests, errors, mishaps.len()), expected, "{route:?} {outcome:?} {status:?}");
    }
    // Should that have taken so long that there are two slots.
    let sum = |name: &str| -> u64 {
        let read = serde_json::to_value(history.reading(SLOTS)).expect("JSON");
        read["slots"].as_array().expect("slots").iter().map(|slot| slot[name].as_u64().expect("a number")).sum()
    };
    assert_eq!((sum("requests"), sum("errors")), (7, 3));
}

#[test]
fn only_answers_of_others_tell_how_quick_they_are() {
    for (outcome, status, tells) in [
        (Outcome::Completed, 200, true),
        (Outcome::Completed, 429, true),
        (Outcome::BrokeOff, 200, true),
        (Outcome::Refused, 504, false),
        (Outcome::Completed, 101, false),
        (Outcome::BrokeOff, 101, false),
    ] {
        let history = History::new(Arc::new(ManualClock::stopped()));
        finish(&history, Route::Resource, outcome, Some(status));
        let read = serde_json::to_value(history.reading(SLOTS)).expect("JSON");
        let told = read["slots"].as_array().expect("slots").iter().any(|slot| !slot["first_byte_ms"]["p50"].is_null());
        assert_eq!(told, tells, "{outcome:?} {status}");
    }
}

#[test]
fn tokens_are_told_by_series_while_there_is_room() {
    let (mut slots, mut uses) = (World::new().slots, Uses::default());
    let mut fresh = Fresh::new(slots.end());
    for (number, output) in (0..20).enumerate() {
        let model = format!("model-{number}");
        for usage in [Some(Usage { input: 10, cached: 5, output, reasoning: 0 }), None] {
            let (app, model) = (Label { name: "app", number: 0 }, Label { name: &model, number });
            let at = Moment { runs: Instant::now(), wall: SystemTime::UNIX_EPOCH };
            fresh.spend(&Spent { at, operation: Operation::at("/v1/responses"), app, model, usage });
        }
    }
    for _ in 0..2 {
        assert_eq!(fresh.bring(&mut slots, &mut uses), (0, 0), "once");
    }
    let slot = serde_json::to_value(&Reading::of(&slots.newest(1), &uses.names()).slots[0]).expect("JSON");
    let tokens = slot["tokens"].as_array().expect("series");
    assert_eq!(tokens.len(), 13);
    assert_eq!(tokens[11], json!({ "app": "app", "model": "model-11", "total": 21 }));
    let rest: u64 = (12..20).map(|number| number + 10).sum();
    assert_eq!(tokens[12], json!({ "app": "others", "model": "others", "total": rest }));
    let usage = serde_json::to_value(uses.all()).expect("JSON");
    assert_eq!(usage.as_array().expect("rows").len(), 20);
    let row = json!({
        "app": "app", "model": "model-7", "requests": 2, "unknown": 1, "input": 10, "cached": 5, "output": 7, "reasoning": 0
    });
    assert_eq!(usage[7], row);
}

proptest! {
    /// What is told is no more than 1 % from a time that took at most so long as the quantile says.
    #[test]
    fn quantiles_are_right_within_a_hundredth(mut times in prop::collection::vec(1_u64..4_000_000_000, 1..300)) {
        let mut slots = Slots::new(Instant::now(), SystemTime::UNIX_EPOCH);
        let mut fresh = Fresh::new(slots.end());
        for time in &times {
            fresh.count(false, Some(Duration::from_micros(*time)));
        }
        prop_assert_eq!(fresh.bring(&mut slots, &mut Uses::default()), (times.len() as u64, 0));
        times.sort_unstable();
        let told = slots.newest(1).slots[0].first_byte;
        for (told, percent) in [(told.p50, 50), (told.p99, 99)] {
            let rank = (times.len() * percent).div_ceil(100);
            let exact = times[rank - 1].min(3_600_000_000);
            let told = told.expect("there are times");
            prop_assert!(told.abs_diff(exact) * 100 <= exact, "{} for {}", told, exact);
        }
    }
}
