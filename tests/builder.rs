//! What can be built, and what the error says when it cannot.

mod support;

use std::time::Duration;

use support::builder;
use tower_load_leveling::{Abandon, Execution, LoadLevelLayer, Overflow, error::BuildError, limit};

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
    assert_names(error(builder(1, usize::MAX)), "concurrency", &huge, "1 to 536869887");
    assert_names(error(builder(usize::MAX, 1)), "capacity", &huge, "0 to 536869887");
    assert_names(
        error(builder(1, 1).max_wait(Duration::ZERO)),
        "max_wait",
        "0ns",
        "more than zero",
    );
    let neither = LoadLevelLayer::builder().capacity(1);
    assert_names(error(neither), "concurrency", "not set", "adaptive_concurrency");
    let fixed = |limit| LoadLevelLayer::builder().adaptive(limit::Fixed::new(limit));
    assert_names(error(fixed(0)), "concurrency", "0", "1 to 536869887");
    assert_eq!(fixed(7).build().expect("valid").handle().stats().limit, 7);
    let outlives = builder(1, 1).execution(Execution::Caller).abandon(Abandon::Finish);
    assert_names(error(outlives), "execution", "Execution::Caller", "Execution::Spawn");
}

#[test]
fn impossible_settings_of_the_line_are_named_too() {
    let error = |builder: tower_load_leveling::Builder| builder.build().expect_err("impossible");
    let (zero, second) = (Duration::ZERO, Duration::from_secs(1));
    let new = || builder(1, 1);
    for share in [-0.01, 0.26, f64::NAN] {
        let value = share.to_string();
        assert_names(error(new().guaranteed_share(share)), "guaranteed_share", &value, "0 to 0.25");
    }
    assert_names(error(new().exact_flows(0)), "exact_flows", "0", "1 to 536869887");
    assert_names(error(new().flow_limit(0)), "flow_limit", "0", "1 to 536869887");
    assert_names(error(new().flow_limit(MAX + 1)), "flow_limit", "536869888", "1 to 536869887");
    let short = Duration::from_micros(999);
    assert_names(error(new().lifo_after(short)), "lifo_after", "999µs", "1 ms or more");
    assert_names(error(new().controlled_delay(zero)), "controlled_delay", "0ns", "more than zero");
    assert_names(error(new().bypass_limit(MAX + 1)), "bypass_limit", "536869888", "0 to 536869887");
    assert_names(error(new().rate_burst(0)), "rate_burst", "0", "1 or more");
    assert_names(error(new().rate(0, second)), "rate", "0 per 1s", "1 or more requests");
    assert_names(error(new().rate(1, zero)), "rate", "1 per 0ns", "100 years");
    let never = Duration::from_secs(4_000_000_000);
    assert_names(error(new().rate(1, never)), "rate", "1 per 4000000000s", "100 years");
}

#[cfg(feature = "http")]
#[test]
fn a_body_that_may_not_lie_at_all_is_named_too() {
    let new = || builder(1, 1).hold_until(tower_load_leveling::http::Hold::BodyEnd);
    let error = new().body_idle(Duration::ZERO).build().expect_err("impossible");
    assert_names(error, "body_idle", "0ns", "more than zero");
    let possible = new().body_idle(Duration::ZERO).body_idle(Duration::from_nanos(1));
    assert!(possible.build().is_ok(), "the last counts");
}

#[test]
fn settings_of_the_line_at_the_edge_are_possible() {
    let ms = Duration::from_millis(1);
    let possible = [
        builder(1, 1).guaranteed_share(0.0),
        builder(1, 1).guaranteed_share(0.25),
        builder(1, 1).exact_flows(1),
        builder(1, 1).lifo_after(ms),
        builder(1, 1).controlled_delay(None),
        builder(1, 1).bypass_limit(0),
        builder(1, 1).flow_limit(1),
        builder(1, 1).flow_limit(MAX),
        builder(1, 1).rate(u32::MAX, Duration::from_nanos(1)).rate_burst(u32::MAX),
        builder(1, 1).rate(1, ms * 1000 * 3600 * 24 * 365),
    ];
    assert!(possible.into_iter().all(|builder| builder.build().is_ok()));
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
    handle.set_limit(usize::MAX).expect("valid");
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
