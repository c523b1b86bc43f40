//! Laws 11 and 13: how long a request may wait, by tokio's clock.

mod support;

use std::{
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use support::{
    EXECUTIONS, builder,
    gate::{Door, Gate},
    reason, rejection, settle,
};
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{BoxError, Layer, Service, service_fn};
use tower_load_leveling::{Class, LoadLevelLayer, error::Reason};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn with_deadlines(layer: tower_load_leveling::Builder) -> LoadLevelLayer<impl Fn(&u32) -> Class> {
    // The request is its own deadline, in ms from the start of the test.
    let start = Instant::now();
    let classify = move |deadline: &u32| match deadline {
        0 => Class::new(),
        deadline => Class::new().deadline(start + ms(u64::from(*deadline))),
    };
    layer.classify_request(classify).build().expect("valid")
}

#[tokio::test(start_paused = true)]
async fn a_late_request_is_answered_when_it_is_late_not_when_its_turn_comes() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let gate = Gate::new();
        let layer = builder(10, 1).execution(execution).max_wait(ms(100)).build().expect("valid");
        let mut service = layer.layer(gate.service());
        let _running = task::spawn(service.call(0));
        let start = Instant::now();
        let late = rejection(service.call(1).await);
        assert_eq!(late.reason(), Reason::MaxWait);
        assert!((ms(100)..=ms(102)).contains(&start.elapsed()), "{:?}", start.elapsed());
        assert!((ms(100)..=ms(102)).contains(&late.waited()), "{:?}", late.waited());
        assert_eq!(layer.handle().stats().removed.max_wait, 1);
        assert_eq!(gate.called(), [0], "a late request is never dispatched");
    }
}

#[tokio::test(start_paused = true)]
async fn the_earlier_of_max_wait_and_deadline_counts_and_the_reason_says_which() {
    let _t = support::trace_init();
    let layer = with_deadlines(builder(10, 1).max_wait(ms(100)));
    let mut service = layer.layer(Gate::new().service());
    let start = Instant::now();
    let _running = service.call(0);
    let (early, late) = (service.call(50), service.call(200));
    assert_eq!(reason(early.await), Reason::Deadline);
    assert!((ms(50)..=ms(52)).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(reason(late.await), Reason::MaxWait);
    assert!((ms(100)..=ms(102)).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_is_exactly_now_has_passed() {
    let _t = support::trace_init();
    let gate = Gate::open();
    let layer = with_deadlines(builder(10, 1));
    let mut service = layer.layer(gate.service());
    advance(ms(50)).await;
    let refusal = assert_ready!(task::spawn(service.call(50)).poll());
    assert_eq!(reason(refusal), Reason::Deadline, "refused at the door");
    let stats = layer.handle().stats();
    assert_eq!((stats.admitted, stats.refused.deadline), (0, 1));
    assert_eq!(service.call(51).await.expect("one more millisecond"), 51);
}

#[tokio::test(start_paused = true)]
async fn an_expired_request_is_not_started_when_a_slot_is_freed_at_that_instant() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = builder(10, 1).max_wait(ms(100)).build().expect("valid");
    let mut service = layer.layer(gate.service());
    let _running = service.call(0);
    let late = service.call(1);
    // The drain task has not even read it when both happen.
    advance(ms(100)).await;
    gate.finish(0);
    assert_eq!(reason(late.await), Reason::MaxWait);
    settle().await;
    assert_eq!(gate.called(), [0]);
}

#[tokio::test(start_paused = true)]
async fn many_are_late_each_at_its_own_time() {
    let _t = support::trace_init();
    let layer = with_deadlines(builder(2000, 1));
    let mut service = layer.layer(Gate::new().service());
    let start = Instant::now();
    let _running = service.call(0);
    // In a scrambled order: 7919 has no factor in common with 1000.
    let calls: Vec<_> = (0..1000u32)
        .map(|i| {
            let deadline = 1 + (i * 7919) % 1000;
            let call = service.call(deadline);
            tokio::spawn(async move {
                assert_eq!(reason(call.await), Reason::Deadline);
                let late_by = Instant::now() - (start + ms(u64::from(deadline)));
                assert!(late_by <= ms(2), "{deadline}: {late_by:?}");
            })
        })
        .collect();
    for call in calls {
        call.await.expect("in time");
    }
}

#[tokio::test(start_paused = true)]
async fn time_goes_on_while_paused_or_unready() {
    let _t = support::trace_init();
    let layer = builder(10, 1).max_wait(ms(100)).build().expect("valid");
    let mut unready = layer.layer(Gate::new().service_behind(&Door::shut()));
    assert_eq!(reason(unready.call(0).await), Reason::MaxWait);
    layer.handle().pause();
    let mut service = layer.layer(Gate::open().service());
    assert_eq!(reason(service.call(1).await), Reason::MaxWait);
}

#[tokio::test(start_paused = true)]
async fn a_new_max_wait_holds_for_newcomers() {
    let _t = support::trace_init();
    let layer = builder(10, 1).max_wait(ms(300)).build().expect("valid");
    let mut service = layer.layer(Gate::new().service());
    let _running = service.call(0);
    let mut before = task::spawn(service.call(1));
    layer.handle().set_max_wait(Some(ms(50)));
    let start = Instant::now();
    assert_eq!(reason(service.call(2).await), Reason::MaxWait);
    assert!(start.elapsed() <= ms(52), "{:?}", start.elapsed());
    assert_pending!(before.poll(), "it keeps the limit it came with");
    layer.handle().set_max_wait(None);
    let mut for_ever = task::spawn(service.call(3));
    assert_eq!(reason(before.await), Reason::MaxWait);
    assert!((ms(300)..=ms(302)).contains(&start.elapsed()), "{:?}", start.elapsed());
    advance(Duration::from_secs(86_400)).await;
    settle().await;
    assert_pending!(for_ever.poll());
}

#[tokio::test(start_paused = true)]
async fn a_remaining_time_below_a_millisecond_is_no_time_without_end() {
    let _t = support::trace_init();
    let layer = builder(10, 1).max_wait(Duration::from_nanos(1)).build().expect("valid");
    let mut service = layer.layer(Gate::new().service());
    let _running = service.call(0);
    let start = Instant::now();
    assert_eq!(reason(service.call(1).await), Reason::MaxWait);
    assert!(start.elapsed() <= ms(2));
}

#[tokio::test(start_paused = true)]
async fn a_limit_beyond_the_clock_is_no_limit() {
    let _t = support::trace_init();
    let layer = builder(10, 1).max_wait(Duration::MAX).build().expect("valid");
    let mut service = layer.layer(Gate::open().service());
    layer.handle().pause();
    let call = tokio::spawn(service.call(1));
    settle().await;
    layer.handle().resume();
    assert!(call.await.expect("no panic").is_ok());
}

#[tokio::test(start_paused = true)]
async fn waits_and_service_times_are_measured_by_the_paused_clock() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = LoadLevelLayer::new(10, 1);
    let mut service = layer.layer(gate.service());
    let calls = [service.call(0), service.call(1)];
    settle().await;
    advance(ms(80)).await;
    assert_eq!(layer.handle().stats().oldest_wait, Some(ms(80)));
    gate.finish(0);
    settle().await;
    advance(ms(40)).await;
    gate.finish(1);
    futures::future::join_all(calls).await;
    let stats = layer.handle().stats();
    let close = |time: Option<Duration>, to: u64| {
        let time = time.expect("two were recorded").as_secs_f64() * 1e3;
        assert!((to as f64..to as f64 * 1.07).contains(&time), "{time} ms, not {to} ms");
    };
    close(stats.wait.quantile(1.0), 80);
    assert_eq!(stats.wait.quantile(0.5), Some(Duration::ZERO));
    close(stats.service_time.quantile(1.0), 80);
    close(stats.service_time.quantile(0.5), 40);
}

#[tokio::test]
async fn a_request_that_becomes_late_behind_a_slow_call_is_not_started() {
    let _t = support::trace_init();
    // On the real clock, since it has to go on inside of `call`, where nothing can be awaited.
    let layer = builder(10, 10).max_wait(ms(20)).build().expect("valid");
    let called = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut service = layer.layer(tower::service_fn({
        let called = std::sync::Arc::clone(&called);
        move |id: u32| {
            called.lock().expect("not poisoned").push(id);
            let start = Instant::now();
            while start.elapsed() < ms(25) {
                std::hint::spin_loop();
            }
            async { Ok::<_, std::io::Error>(()) }
        }
    }));
    layer.handle().pause();
    let calls = [service.call(0), service.call(1)];
    settle().await;
    layer.handle().resume();
    let [_, second] = calls;
    assert_eq!(reason(second.await), Reason::MaxWait);
    assert!(!called.lock().expect("not poisoned").contains(&1), "both were dispatched in one turn");
}

/// The drain task reads the clock once for several dispatches, but not for a request that may be
/// late.
#[tokio::test(start_paused = true)]
async fn a_request_that_becomes_late_during_a_call_of_the_same_turn_is_not_called() {
    const SLOW: u32 = 1;
    const LATE: u32 = 2;
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let start = Instant::now();
        let classify = move |request: &u32| match *request {
            LATE => Class::new().deadline(start + ms(20)),
            _ => Class::new(),
        };
        let builder = builder(100, 64).execution(execution).classify_request(classify);
        let layer = builder.build().expect("valid");
        let mut service = layer.layer(service_fn(|request: u32| {
            if request == SLOW {
                let mut slow = pin!(advance(ms(60)));
                let _ = slow.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            }
            async move { Ok::<_, BoxError>(request) }
        }));
        let handle = layer.handle();
        // Dispatches that take no time, after which a reading holds for several.
        handle.pause();
        let quick: Vec<_> = (0..40).map(|_| service.call(0)).collect();
        handle.resume();
        for call in quick {
            call.await.expect("served");
        }
        handle.pause();
        let [.., slow, late] = [0, 0, 0, SLOW, LATE].map(|request| service.call(request));
        handle.resume();
        assert_eq!(reason(late.await), Reason::Deadline, "{execution:?}");
        assert_eq!(slow.await.expect("served"), SLOW, "{execution:?}");
    }
}
