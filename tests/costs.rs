//! Requests that take several slots and places.

mod support;

use std::time::Duration;

use support::{builder, gate::Gate, reason, settle};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{BoxError, Layer, Service, ServiceExt};
use tower_load_leveling::{Builder, ByResult, Class, LoadLevelLayer, Overflow, error::Reason};

/// The hundreds of a request are its cost.
fn classify(id: &u32) -> Class {
    Class::new().cost(id / 100)
}

type Leveler = LoadLevelLayer<fn(&u32) -> Class, ByResult>;

fn layer(builder: Builder) -> Leveler {
    builder.request_classifier(classify as fn(&u32) -> Class).build().expect("valid")
}

#[tokio::test(start_paused = true)]
async fn a_heavy_request_takes_as_many_slots_and_places_as_it_costs() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(4, 4));
    let mut service = layer.layer(gate.service());
    let handle = layer.handle();
    let heavy = task::spawn(service.call(300));
    let light = task::spawn(service.call(1));
    let waits = task::spawn(service.call(200));
    settle().await;
    let stats = handle.stats();
    assert_eq!((stats.in_flight, stats.slots_taken, stats.queued), (2, 4, 1));
    assert_eq!(reason(service.call(300).await), Reason::Full, "there are two places left");
    let last = task::spawn(service.call(200));
    assert_eq!(reason(service.call(2).await), Reason::Full);
    drop(waits);
    let again = task::spawn(service.call(201));
    settle().await;
    assert_eq!(handle.stats().queued, 2);
    drop((heavy, last));
    settle().await;
    assert_eq!(gate.called(), [300, 1, 201], "two slots of the three are enough for it");
    drop((light, again));
    settle().await;
    let stats = handle.stats();
    assert_eq!((stats.in_flight, stats.slots_taken, stats.queued), (0, 0, 0));
    assert_eq!((stats.admitted, stats.cancelled), (5, 5));
}

/// Traps T24 and T25: it is neither starved by the light ones behind it, nor blocks them for ever;
/// and what it leaves free is taken by several at once.
#[tokio::test(start_paused = true)]
async fn a_heavy_head_waits_for_its_slots_and_is_not_overtaken() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(20, 4));
    let mut service = layer.layer(gate.service());
    let _light: Vec<_> = (0..4).map(|id| task::spawn(service.call(id))).collect();
    let _heavy = task::spawn(service.call(400));
    let _behind: Vec<_> = (10..16).map(|id| task::spawn(service.call(id))).collect();
    for id in 0..4 {
        settle().await;
        assert_eq!(gate.called(), [0, 1, 2, 3], "slots are kept free for the heavy one");
        gate.finish(id);
    }
    settle().await;
    assert_eq!(gate.called()[4..], [400]);
    gate.finish(400);
    settle().await;
    assert_eq!(gate.called()[5..], [10, 11, 12, 13]);
    assert_eq!(gate.peak(), 4);
}

#[tokio::test(start_paused = true)]
async fn one_that_costs_more_than_the_limit_runs_alone() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(10, 2));
    let mut service = layer.layer(gate.service());
    let mut huge = task::spawn(service.call(100_000));
    let _light = task::spawn(service.call(1));
    settle().await;
    assert_eq!(gate.called(), [100_000]);
    gate.finish(100_000);
    settle().await;
    assert_ready_ok!(huge.poll());
    assert_eq!(gate.called(), [100_000, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_limit_lowered_below_a_cost_does_not_block_it() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(10, 4));
    let mut service = layer.layer(gate.service());
    let _light = task::spawn(service.call(1));
    let _heavy = task::spawn(service.call(400));
    layer.handle().set_limit(2).expect("valid");
    settle().await;
    gate.finish(1);
    settle().await;
    assert_eq!(gate.called(), [1, 400]);
    let stats = layer.handle().stats();
    assert_eq!((stats.in_flight, stats.slots_taken, stats.queued), (1, 2, 0));
    gate.finish(400);
    settle().await;
    assert_eq!(layer.handle().stats().slots_taken, 0);
}

#[tokio::test(start_paused = true)]
async fn with_a_reserved_place_a_heavy_request_asks_for_the_others() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(2, 1).overflow(Overflow::Wait));
    let mut service = layer.layer(gate.service());
    let _running = task::spawn(service.call(1));
    layer.handle().set_limit(2).expect("valid");
    layer.handle().pause();
    let mut ready = task::spawn(futures::future::poll_fn(|cx| service.poll_ready(cx)));
    assert!(assert_ready!(ready.poll()).is_ok());
    drop(ready);
    let mut heavy = task::spawn(service.call(200));
    assert_pending!(heavy.poll());
    assert_eq!(layer.handle().stats().queued, 1);
    assert_eq!(reason(service.call(200).await), Reason::Full);
    drop(heavy);
    settle().await;
    assert_eq!(layer.handle().stats().queued, 0);
}

#[tokio::test(start_paused = true)]
async fn a_ready_service_may_refuse_one_that_takes_more_than_one_place() {
    let _t = support::trace_init();
    let layer = layer(builder(0, 2).overflow(Overflow::Wait));
    let mut service = layer.layer(Gate::new().service());
    let _running = task::spawn(service.call(1));
    service.ready().await.expect("one place is free");
    assert_eq!(reason(service.call(200).await), Reason::Full);
}

#[tokio::test(start_paused = true)]
async fn one_that_waited_for_a_higher_limit_takes_what_it_costs() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(100, 2));
    let mut service = layer.layer(gate.service());
    layer.handle().pause();
    let _calls: Vec<_> = (1000..1005).map(|id| task::spawn(service.call(id))).collect();
    layer.handle().set_limit(20).expect("valid");
    layer.handle().resume();
    settle().await;
    let stats = layer.handle().stats();
    assert_eq!((stats.in_flight, stats.slots_taken), (2, 20));
}

#[tokio::test(start_paused = true)]
async fn the_highest_cost_there_is_means_alone_and_harms_nobody() {
    let _t = support::trace_init();
    let classify = |cost: &u32| Class::new().cost(*cost);
    let layer = builder(100, 2).classify_request(classify).build().expect("valid");
    let mut service = layer.layer(tower::service_fn(|_: u32| async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok::<_, BoxError>(())
    }));
    let calls: Vec<_> =
        (0..40).map(|nth| tokio::spawn(service.call([u32::MAX, 1][nth % 2]))).collect();
    for call in calls {
        call.await.expect("no panic").expect("served");
    }
}

#[tokio::test(start_paused = true)]
async fn a_report_counts_calls_and_not_what_they_cost() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(4, 4));
    let mut service = layer.layer(gate.service());
    let _heavy = task::spawn(service.call(300));
    settle().await;
    assert_eq!(layer.handle().drain(Duration::from_millis(1)).await.in_flight, 1);
}

#[tokio::test(start_paused = true)]
async fn a_heavy_head_that_leaves_makes_way_for_those_behind_it() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(20, 4));
    let mut service = layer.layer(gate.service());
    let _running = task::spawn(service.call(301));
    let heavy = task::spawn(service.call(402));
    let _light = task::spawn(service.call(103));
    settle().await;
    assert_eq!(gate.called(), [301]);
    drop(heavy);
    settle().await;
    assert_eq!(gate.called(), [301, 103]);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_does_not_give_way_to_one_for_whom_that_is_not_enough() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(1, 4).overflow(Overflow::EvictOldest));
    let mut service = layer.layer(gate.service());
    let _running = task::spawn(service.call(401));
    let _waits = task::spawn(service.call(102));
    settle().await;
    assert_eq!(reason(service.call(403).await), Reason::Full);
    assert_eq!(layer.handle().stats().removed.total(), 0);
}
