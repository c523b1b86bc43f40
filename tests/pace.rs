//! Rates, limits below 1, and when to come back.

mod support;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use support::{builder, gate::Gate, reason, rejection, settle};
use tokio::time::{Instant, advance, sleep};
use tokio_test::task;
use tower::{BoxError, Layer, Service, service_fn};
use tower_load_leveling::{
    Builder, Class, LoadLevelLayer,
    error::Reason,
    limit::{Algorithm, Sample},
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// When calls were made, that take so long, of so many sent at once; within so much time.
async fn dispatches(
    builder: Builder,
    calls: usize,
    takes: Duration,
    within: Duration,
) -> Vec<Duration> {
    let start = Instant::now();
    let times = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&times);
    let inner = service_fn(move |()| {
        noted.lock().expect("no panic").push(start.elapsed());
        async move {
            if !takes.is_zero() {
                sleep(takes).await;
            }
            Ok::<_, BoxError>(())
        }
    });
    let layer = builder.build().expect("valid");
    let mut service = layer.layer(inner);
    let _calls: Vec<_> = (0..calls).map(|_| service.call(())).collect();
    // In small steps, so that it is tokio's timers that wake the drain task.
    sleep(within).await;
    std::mem::take(&mut *times.lock().expect("no panic"))
}

#[tokio::test(start_paused = true)]
async fn dispatches_are_evenly_spaced() {
    let builder = builder(1000, 100).rate(100, ms(1000));
    let times = dispatches(builder, 200, Duration::ZERO, ms(1005)).await;
    assert!((100..=102).contains(&times.len()), "{}", times.len());
    let gaps: Vec<_> = times.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(gaps.iter().all(|gap| (ms(8)..=ms(12)).contains(gap)), "{gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn rates_above_the_resolution_of_timers_hold() {
    for rate in [900, 3000, 20_000] {
        let builder = builder(100_000, 1000).rate(rate, ms(1000));
        let times = dispatches(builder, 50_000, Duration::ZERO, ms(2000)).await;
        let expected = f64::from(rate) * 2.0;
        let error = (times.len() as f64 - expected) / expected;
        assert!(error.abs() < 0.01, "{} dispatches, {expected} expected", times.len());
        let first = times.iter().filter(|time| **time < ms(100)).count() as f64;
        assert!((first - expected / 20.0).abs() < expected / 400.0 + 2.0, "{first} in 100 ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_goes_at_once_and_the_rest_evenly() {
    let builder = builder(1000, 100).rate(10, ms(1000)).rate_burst(5);
    let times = dispatches(builder, 50, Duration::ZERO, ms(995)).await;
    assert_eq!(times.iter().filter(|time| time.is_zero()).count(), 5);
    assert_eq!(times.len(), 14, "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn the_limit_holds_beside_the_rate() {
    let builder = builder(1000, 2).rate(1000, ms(1000));
    let times = dispatches(builder, 100, ms(100), ms(1000)).await;
    assert!((18..=22).contains(&times.len()), "two at a time, 100 ms each: {}", times.len());
}

#[tokio::test(start_paused = true)]
async fn with_a_rate_free_slots_are_waiting_room_and_the_late_are_answered_in_time() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = builder(0, 3).rate(1, ms(1000)).max_wait(ms(100)).build().expect("valid");
    let mut service = layer.layer(gate.service());
    let _first = task::spawn(service.call(1));
    let (second, _third) = (service.call(2), task::spawn(service.call(3)));
    assert_eq!(reason(service.call(4).await), Reason::Full);
    let start = Instant::now();
    assert_eq!(reason(second.await), Reason::MaxWait);
    assert!((ms(100)..=ms(102)).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(gate.called(), [1]);
}

/// A limit that stays.
#[derive(Debug)]
struct Below(f64);

impl Algorithm for Below {
    fn limit(&self) -> f64 {
        self.0
    }
    fn on_sample(&mut self, _: &Sample) {}
}

#[tokio::test(start_paused = true)]
async fn a_limit_below_one_spaces_dispatches_by_the_service_time() {
    let builder = LoadLevelLayer::builder().capacity(1000).adaptive(Below(0.25));
    let times = dispatches(builder, 1000, ms(20), ms(8000)).await;
    // 20 ms each, a quarter of the time: one in 80 ms, give or take a quarter.
    assert!((92..=108).contains(&times.len()), "{}", times.len());
    let gaps: Vec<_> = times.windows(2).skip(2).map(|two| two[1] - two[0]).collect();
    assert!(gaps.iter().all(|gap| (ms(59)..=ms(102)).contains(gap)), "{gaps:?}");
    assert!(gaps.iter().collect::<HashSet<_>>().len() > 5, "they are spread");
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_not_made_up_for() {
    let _t = support::trace_init();
    let gate = Gate::open();
    let layer = builder(1000, 100).rate(10, ms(1000)).build().expect("valid");
    let mut service = layer.layer(gate.service());
    let _calls: Vec<_> = (0..100).map(|id| task::spawn(service.call(id))).collect();
    settle().await;
    layer.handle().pause();
    sleep(ms(10_000)).await;
    assert_eq!(gate.called().len(), 1);
    layer.handle().resume();
    settle().await;
    assert_eq!(gate.called().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn those_rejected_together_are_not_told_to_come_back_together() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = builder(100, 1).build().expect("valid");
    let mut service = layer.layer(gate.service());
    let _calls: Vec<_> = (0..101).map(|id| task::spawn(service.call(id))).collect();
    settle().await;
    assert_eq!(rejection(service.call(999).await).retry_after(), None, "nothing is known yet");
    advance(ms(20)).await;
    gate.finish(0);
    settle().await;
    let _last = task::spawn(service.call(101));
    let mut told = HashSet::new();
    for _ in 0..200 {
        // 100 wait, and each takes 20 ms.
        let after = rejection(service.call(999).await).retry_after().expect("one has finished");
        assert!((ms(1599)..=ms(2401)).contains(&after), "{after:?}");
        told.insert(after);
    }
    assert!(told.len() > 100, "{} different times", told.len());
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_to_wait_longer_than_a_minute() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = builder(100, 1).build().expect("valid");
    let mut service = layer.layer(gate.service());
    let _calls: Vec<_> = (0..101).map(|id| task::spawn(service.call(id))).collect();
    advance(ms(60_000)).await;
    settle().await;
    gate.finish(0);
    settle().await;
    let _last = task::spawn(service.call(101));
    let after = rejection(service.call(999).await).retry_after().expect("one has finished");
    assert!((ms(48_000)..=ms(60_000)).contains(&after), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_limit_raised_from_below_one_is_felt_at_once() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = builder(10, 1).adaptive(Below(0.01)).build().expect("valid");
    let mut service = layer.layer(gate.service());
    let _calls: Vec<_> = (0..3).map(|id| task::spawn(service.call(id))).collect();
    settle().await;
    advance(ms(1000)).await;
    gate.finish(0);
    settle().await;
    assert_eq!(gate.called(), [0], "a hundred seconds are between them");
    layer.handle().set_limit(4).expect("valid");
    settle().await;
    assert_eq!(gate.called(), [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn calls_that_panic_count_too() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = builder(10, 10).rate(1, ms(1000)).build().expect("valid");
    let mut service = layer.layer(gate.service());
    let calls: Vec<_> = (0..3).map(|id| tokio::spawn(service.call(id))).collect();
    for _ in 0..3 {
        gate.panic_in_call();
        advance(ms(100)).await;
        settle().await;
    }
    assert_eq!(calls.iter().filter(|call| call.is_finished()).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_flow_whose_calls_panic_does_not_take_the_rate_of_others() {
    let _t = support::trace_init();
    let called = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&called);
    let inner = service_fn(move |id: u32| {
        notes.lock().expect("no panic while it is held").push(id);
        assert!(id > 0, "this flow panics");
        async {
            sleep(ms(10)).await;
            Ok::<_, BoxError>(())
        }
    });
    let builder = builder(1000, 4).rate(10, ms(1000));
    let layer = builder.classify_request(|id: &u32| Class::new().flow(id)).build().expect("valid");
    let mut service = layer.layer(inner);
    layer.handle().pause();
    let _calls: Vec<_> = (0..200).map(|nth| tokio::spawn(service.call(nth / 100))).collect();
    layer.handle().resume();
    sleep(ms(5000)).await;
    let called = called.lock().expect("no panic while it is held");
    let healthy = called.iter().filter(|id| **id == 1).count();
    assert!((20..=30).contains(&healthy), "{healthy} of {}", called.len());
}
