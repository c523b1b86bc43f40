//! What can be built, and what the error says when it cannot.

mod support;

use std::time::Duration;

use support::builder;
use tower_load_leveling::{Abandon, Execution, LoadLevelLayer, Overflow, error::BuildError};

const MAX: usize = 536_869_887;

#[track_caller]
fn assert_names(error: BuildError, setting: &str, value: &str, allowed: &str) {
    assert_eq!((error.setting(), error.value()), (setting, value));
    assert!(error.allowed().contains(allowed), "{:?} should say {allowed:?}", error.allowed());
    let text = error.to_string();
    for part in [setting, value, allowed] {
        assert!(text.contains(part), "{text:?} should name {part:?}");
    }
}

#[test]
fn impossible_settings_are_named_with_their_value_and_what_is_allowed() {
    let error = |builder: tower_load_leveling::Builder| builder.build().expect_err("impossible");
    assert_names(error(builder(1, 0)), "concurrency", "0", "1 to 536869887");
    let too_many = (MAX + 1).to_string();
    assert_names(error(builder(1, MAX + 1)), "concurrency", &too_many, "1 to 536869887");
    assert_names(error(builder(MAX + 1, 1)), "capacity", &too_many, "0 to 536869887");
    let huge = usize::MAX.to_string();
    assert_names(error(builder(usize::MAX, 1)), "capacity", &huge, "0 to 536869887");
    assert_names(
        error(builder(1, 1).max_wait(Duration::ZERO)),
        "max_wait",
        "0ns",
        "more than zero",
    );
    let neither = LoadLevelLayer::builder().capacity(1);
    assert_names(error(neither), "concurrency", "not set", "adaptive");
    let outlives = builder(1, 1).execution(Execution::Caller).abandon(Abandon::Finish);
    assert_names(error(outlives), "execution", "Execution::Caller", "Execution::Spawn");
}

#[test]
fn the_largest_and_smallest_settings_are_possible() {
    for (capacity, limit) in [(0, 1), (MAX, MAX), (0, MAX), (MAX, 1)] {
        let layer = builder(capacity, limit).build().expect("valid");
        let stats = layer.handle().stats();
        assert_eq!((stats.capacity, stats.limit), (capacity, limit));
    }
    let overflows = [Overflow::Reject, Overflow::Wait, Overflow::EvictOldest];
    assert!(overflows.into_iter().all(|overflow| builder(0, 1).overflow(overflow).build().is_ok()));
}

#[test]
fn settings_out_of_range_at_run_time_are_brought_into_range() {
    let handle = builder(1, 1).build().expect("valid").handle();
    handle.set_limit(usize::MAX);
    handle.set_capacity(usize::MAX);
    let stats = handle.stats();
    assert_eq!((stats.capacity, stats.limit), (MAX, MAX));
}

#[test]
fn what_is_public_can_be_printed() {
    let builder = builder(7, 3).name("orders");
    let text = format!("{builder:?}");
    assert!(text.contains("orders") && text.contains("7"), "{text}");
    let layer = builder.build().expect("valid");
    assert!(format!("{layer:?} {:?}", layer.handle()).contains("orders"));
}
