//! How the search begins.

use std::time::Duration;

use tokio::time::Instant;

use super::Inner;
use crate::limit::{
    algorithm::Algorithm,
    bdp::{Bdp, phase::Phase},
    sample::{Load, Outcome, Sample},
};

#[test]
fn a_high_start_looks_down_first() {
    assert!(matches!(Bdp::new().trials.phase, Phase::Startup { .. }));
    assert!(matches!(Bdp::new().initial(64).trials.phase, Phase::Verify));
    assert!(matches!(Bdp::new().initial(64).max(5).trials.phase, Phase::Startup { .. }));
}

#[test]
fn calls_of_half_a_minute_are_measured_like_quick_ones() {
    let after = |service: f64| {
        let mut bdp = Bdp::new();
        let mut inner = Inner::new(64.0, service);
        let mut calls = 0;
        while bdp.limit() < 64.0 && calls < 10_000 {
            let limit = bdp.limit();
            let gap = Duration::from_secs_f64(service / limit.min(inner.servers));
            // A busy leveler ticks all the time.
            for tick in 1..100 {
                bdp.on_tick(inner.now + gap * tick / 100, &Load::new(limit as usize, 10));
            }
            inner.finish(&mut bdp, 1, Outcome::Success);
            calls += 1;
        }
        calls
    };
    assert_eq!(after(30.0), after(0.02));
    assert!(after(30.0) < 100, "{}", after(30.0));
}

#[test]
fn a_doubling_takes_one_latency() {
    let mut bdp = Bdp::new();
    let mut inner = Inner::new(512.0, 0.1);
    let start = inner.now;
    while bdp.limit() < 512.0 {
        inner.finish(&mut bdp, 1, Outcome::Success);
    }
    // Seven doublings from 4, the first two after eight calls.
    let latencies = (inner.now - start).as_secs_f64() / 0.1;
    assert!(latencies <= 8.5, "{latencies}");
}

#[test]
fn calls_that_end_in_waves_do_not_look_like_a_collapse() {
    // A network of 250 ms, and servers enough: calls dispatched together end together.
    let mut bdp = Bdp::new();
    let mut now = Instant::now();
    let mut highest = 0.0_f64;
    for _ in 0..12 {
        let (dispatched, limit) = (now, bdp.limit() as usize);
        now += Duration::from_millis(250);
        for call in 0..limit {
            let finished = now + Duration::from_micros(call as u64);
            let mut sample = Sample::new(dispatched, finished, Outcome::Success);
            sample.in_flight_at_dispatch = limit;
            sample.in_flight = limit - 1;
            sample.limit_reached = true;
            bdp.on_sample(&sample);
        }
        highest = highest.max(bdp.limit());
    }
    assert!(highest >= 512.0, "{highest}");
}

#[test]
fn a_start_above_the_knee_is_left_after_some_calls() {
    let mut bdp = Bdp::new();
    let mut inner = Inner::new(1.0, 0.2);
    let mut highest = 0.0_f64;
    for _ in 0..80 {
        inner.finish(&mut bdp, 1, Outcome::Success);
        highest = highest.max(bdp.limit());
    }
    assert!(highest <= 8.0, "{highest}");
    inner.finish(&mut bdp, 40, Outcome::Success);
    assert!(bdp.limit() <= 2.0, "{}", bdp.limit());
}

#[test]
fn a_start_at_the_knee_is_found_right_by_a_look_below() {
    let mut bdp = Bdp::new();
    let mut inner = Inner::new(4.0, 0.1);
    let mut lowest = f64::INFINITY;
    for _ in 0..300 {
        inner.finish(&mut bdp, 1, Outcome::Success);
        lowest = lowest.min(bdp.limit());
    }
    assert_eq!(lowest, 2.0);
    assert!((4.0..=6.0).contains(&bdp.limit()), "{}", bdp.limit());
}

#[test]
fn a_lowest_limit_is_the_end_of_a_look_below() {
    let mut bdp = Bdp::new().min(4);
    Inner::new(1.0, 0.2).succeed(&mut bdp, 1000);
    assert!((4.0..=5.0).contains(&bdp.limit()), "{}", bdp.limit());
}

#[test]
fn callers_who_never_reach_the_limit_do_not_hide_the_knee() {
    // 60 callers who ask again at once, and 16 servers.
    let (callers, mut bdp, mut now) = (60.0, Bdp::new(), Instant::now());
    for _ in 0..2000 {
        let limit = bdp.limit();
        let running = limit.min(callers);
        let rate = running.min(16.0) / 0.02;
        now += Duration::from_secs_f64(1.0 / rate);
        let dispatched = now - Duration::from_secs_f64(running / rate);
        let mut sample = Sample::new(dispatched, now, Outcome::Success);
        sample.in_flight_at_dispatch = running as usize;
        sample.in_flight = running as usize - 1;
        sample.limit_reached = limit < callers;
        bdp.on_sample(&sample);
    }
    assert!((14.0..=24.0).contains(&bdp.limit()), "{}", bdp.limit());
}
