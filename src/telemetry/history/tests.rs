use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderValue, Method};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::operation::Operation;
use super::*;
use crate::clock::ManualClock;
use crate::inspect::usage::Usage;

const NOON: Duration = Duration::from_secs(1_800_000_000);

fn history() -> (History, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(SystemTime::UNIX_EPOCH + NOON));
    (History::new(clock.clone()), clock)
}

/// Time passes, for both clocks.
async fn pass(clock: &ManualClock, time: Duration) {
    clock.advance(time);
    tokio::time::advance(time).await;
}

fn finish(history: &History, route: Route, outcome: Outcome, status: Option<u16>) {
    let id = HeaderValue::from_static("id");
    history.finished(&Finished {
        method: &Method::POST,
        operation: Operation::at("/v1/responses"),
        route,
        status: status.map(|status| StatusCode::from_u16(status).expect("a status")),
        app: "-",
        model: None,
        answered_by: None,
        usage: None,
        duration: STEP,
        first_byte: Some(Duration::from_millis(20)),
        bytes: 0,
        outcome,
        code: None,
        error: None,
        hint: None,
        id: &id,
        upstream_id: None,
    });
}

fn ask(history: &History) {
    finish(history, Route::Resource, Outcome::Completed, Some(200));
}

/// Requests by the slot's name, counted from noon, of those that have any. All slots follow one another.
fn counted(history: &History) -> Vec<(i64, u64)> {
    let read = serde_json::to_value(history.reading(SLOTS)).expect("JSON");
    let slots = read["slots"].as_array().expect("slots");
    assert_eq!(slots.len(), SLOTS);
    let at = |slot: &Value| slot["at"].as_i64().expect("a time");
    assert!(slots.windows(2).all(|pair| at(&pair[1]) == at(&pair[0]) + 5), "{slots:?}");
    let noon = i64::try_from(NOON.as_secs()).expect("a time");
    let some = slots.iter().filter(|slot| slot["requests"] != 0);
    some.map(|slot| (at(slot) - noon, slot["requests"].as_u64().expect("a number"))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_request_belongs_to_the_slot_in_which_it_ends() {
    let (history, clock) = history();
    ask(&history);
    pass(&clock, Duration::from_millis(4999)).await;
    ask(&history);
    pass(&clock, Duration::from_millis(1)).await;
    ask(&history);
    pass(&clock, Duration::from_secs(12)).await;
    ask(&history);
    assert_eq!(counted(&history), [(0, 2), (5, 1), (15, 1)]);
    pass(&clock, STEP * 178).await;
    assert_eq!(counted(&history), [(15, 1)], "what is older than a quarter of an hour is forgotten");
    pass(&clock, STEP * 10_000).await;
    assert_eq!(counted(&history), []);
    assert_eq!(history.totals().requests, 4);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_sleeps_leaves_a_gap() {
    let (history, clock) = history();
    ask(&history);
    clock.advance(Duration::from_secs(60));
    assert_eq!(counted(&history), [(0, 1)]);
    ask(&history);
    assert_eq!(counted(&history), [(0, 1), (60, 1)]);
    clock.advance(Duration::from_secs(1_000_000));
    ask(&history);
    pass(&clock, STEP).await;
    ask(&history);
    let seen = counted(&history);
    assert_eq!(seen.last(), Some(&(1_000_065, 1)), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_renames_what_there_is() {
    let (history, clock) = history();
    ask(&history);
    pass(&clock, STEP).await;
    ask(&history);
    let before = history.reading(1).renamed;
    clock.set_back(Duration::from_secs(3600));
    assert_eq!(counted(&history), [(-3600, 1), (-3595, 1)]);
    assert_ne!(history.reading(1).renamed, before);
    clock.set_back(Duration::from_secs(4));
    ask(&history);
    assert_eq!(counted(&history), [(-3600, 1), (-3595, 2)], "what is less than a slot does not matter");
    clock.set_back(NOON);
    ask(&history);
    assert_eq!(history.reading(1).slots[0].at % 5, 0);
}

#[tokio::test(start_paused = true)]
async fn only_what_goes_to_azure_is_traffic_and_who_leaves_is_no_error() {
    use Outcome::{Abandoned, BrokeOff, Completed, Refused};
    let (history, _) = history();
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
        finish(&history, route, outcome, status);
        let Totals { requests, errors, mishaps, .. } = history.totals();
        assert_eq!((requests, errors, mishaps.len()), expected, "{route:?} {outcome:?} {status:?}");
    }
    let slot = serde_json::to_value(&history.reading(1).slots[0]).expect("JSON");
    assert_eq!((&slot["requests"], &slot["errors"]), (&json!(7), &json!(3)));
    let p50 = slot["first_byte_ms"]["p50"].as_f64().expect("a time");
    assert!((p50 - 20.0).abs() < 0.2, "{slot}");
}

#[tokio::test(start_paused = true)]
async fn tokens_are_told_by_series_while_there_is_room() {
    let (history, _) = history();
    for number in 0..20 {
        let model = format!("model-{number}");
        for usage in [Some(Usage { input: 10, cached: 5, output: number, reasoning: 0 }), None] {
            history.spent(&Spent { app: "app", model: &model, usage });
        }
    }
    let slot = serde_json::to_value(&history.reading(1).slots[0]).expect("JSON");
    let tokens = slot["tokens"].as_array().expect("series");
    assert_eq!(tokens.len(), 13);
    assert_eq!(tokens[11], json!({ "app": "app", "model": "model-11", "total": 21 }));
    let rest: u64 = (12..20).map(|number| number + 10).sum();
    assert_eq!(tokens[12], json!({ "app": "others", "model": "others", "total": rest }));
    let usage = serde_json::to_value(history.totals().usage).expect("JSON");
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
        for time in &times {
            slots.count(false, Some(Duration::from_micros(*time)));
        }
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
