//! Flows: each gets its share, and none can fill the queue.

mod support;

use support::{
    builder,
    flows::{classify, layer, ms},
    gate::Gate,
    reason, rejection, settle,
};
use tokio::time::advance;
use tokio_test::task;
use tower::{Layer, Service};
use tower_load_leveling::{Class, Order, error::Reason};

#[tokio::test(start_paused = true)]
async fn a_short_flow_does_not_wait_for_a_long_one() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(100, 1));
    let mut service = layer.layer(gate.service());
    let _calls = [1, 100, 101, 102, 103, 200, 300, 2].map(|id| task::spawn(service.call(id)));
    for nth in 0..8 {
        settle().await;
        advance(ms(5)).await;
        gate.finish(gate.called()[nth]);
    }
    assert_eq!(gate.called()[..5], [1, 100, 200, 300, 2]);
}

#[tokio::test(start_paused = true)]
async fn flows_share_time_and_not_calls() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(2000, 1));
    let mut service = layer.layer(gate.service());
    let mut calls: Vec<_> = (0..90).map(|nth| service.call(100 + nth)).collect();
    calls.extend((0..90).map(|nth| service.call(200 + nth)));
    let mut time = [0, 0];
    for nth in 0..70 {
        settle().await;
        let id = gate.called()[nth];
        let (flow, takes) = if id < 200 { (0, 100) } else { (1, 10) };
        advance(ms(takes)).await;
        gate.finish(id);
        time[flow] += takes;
    }
    let ratio = time[0] as f64 / time[1] as f64;
    assert!((0.7..1.5).contains(&ratio), "{time:?} ms");
}

#[tokio::test(start_paused = true)]
async fn flows_are_served_in_the_ratio_of_their_weights() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let weighted = |id: &u32| classify(id).weight(if *id < 200 { 3 } else { 1 });
    let layer = builder(100, 1).classify_request(weighted).build().expect("valid");
    let mut service = layer.layer(gate.service());
    let _calls: Vec<_> =
        (0..20).flat_map(|nth| [100 + nth, 200 + nth]).map(|id| service.call(id)).collect();
    for nth in 0..21 {
        settle().await;
        advance(ms(5)).await;
        gate.finish(gate.called()[nth]);
    }
    let of_three = gate.called()[1..].iter().filter(|id| **id < 200).count();
    assert!((14..=16).contains(&of_three), "{of_three} of 20: {:?}", gate.called());
}

#[tokio::test(start_paused = true)]
async fn a_flow_with_more_for_its_weight_gives_way_and_one_with_less_does_not() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let weighted = |id: &u32| classify(id).weight(if *id < 200 { 4 } else { 1 });
    let layer = builder(8, 1).classify_request(weighted).build().expect("valid");
    let mut service = layer.layer(gate.service());
    let _running = task::spawn(service.call(1));
    let _heavy: Vec<_> = (100..106).map(|id| task::spawn(service.call(id))).collect();
    let mut light: Vec<_> = (200..202).map(|id| service.call(id)).collect();
    settle().await;
    let refused = rejection(service.call(202).await);
    assert_eq!((refused.reason(), refused.is_over_share()), (Reason::Full, true));
    // Six for four are less than two for one, and so are seven.
    let _seventh = task::spawn(service.call(106));
    settle().await;
    let evicted = rejection(light.remove(0).await);
    assert_eq!((evicted.reason(), evicted.is_over_share()), (Reason::Evicted, true));
    let refused = rejection(service.call(107).await);
    assert_eq!((refused.reason(), refused.is_over_share()), (Reason::Full, true));
}

#[tokio::test(start_paused = true)]
async fn when_the_queue_is_full_the_oldest_of_the_longest_flow_gives_way() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(4, 1));
    let mut service = layer.layer(gate.service());
    let _running = task::spawn(service.call(100));
    let mut long: Vec<_> = (101..105).map(|id| service.call(id)).collect();
    settle().await;
    let alone = rejection(service.call(105).await);
    assert_eq!(
        (alone.reason(), alone.is_over_share()),
        (Reason::Full, false),
        "nobody else is there"
    );
    let _short = task::spawn(service.call(200));
    settle().await;
    let evicted = rejection(long.remove(0).await);
    assert_eq!((evicted.reason(), evicted.is_over_share()), (Reason::Evicted, true));
    let refused = rejection(service.call(105).await);
    assert_eq!((refused.reason(), refused.is_over_share()), (Reason::Full, true), "it has most");
    let _without = task::spawn(service.call(1));
    settle().await;
    assert_eq!(reason(long.remove(0).await), Reason::Evicted, "those without a flow are one");
    assert_eq!(layer.handle().stats().queued, 4);
    assert_eq!(reason(service.call(201).await), Reason::Full, "it would be as long as the longest");
}

#[tokio::test(start_paused = true)]
async fn callers_who_leave_free_the_share_of_their_flow() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(4, 1));
    let mut service = layer.layer(gate.service());
    let _running = task::spawn(service.call(100));
    let long: Vec<_> = (101..105).map(|id| task::spawn(service.call(id))).collect();
    settle().await;
    drop(long);
    // Nobody has to give way, and nothing is held against the flow.
    let _again: Vec<_> = (106..110).map(|id| task::spawn(service.call(id))).collect();
    settle().await;
    let stats = layer.handle().stats();
    assert_eq!((stats.queued, stats.cancelled, stats.removed.total()), (4, 4, 0));
    let _other = task::spawn(service.call(200));
    settle().await;
    assert_eq!(layer.handle().stats().removed.evicted, 1);
}

#[tokio::test(start_paused = true)]
async fn a_flow_whose_own_queue_stands_is_served_newest_first_and_the_others_are_not() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(100, 1).order(Order::AdaptiveLifo).lifo_after(ms(50)));
    let mut service = layer.layer(gate.service());
    let _running = task::spawn(service.call(1));
    let _long: Vec<_> = (100..104).map(|id| task::spawn(service.call(id))).collect();
    settle().await;
    advance(ms(60)).await;
    let _short: Vec<_> = (200..202).map(|id| task::spawn(service.call(id))).collect();
    for nth in 0..7 {
        settle().await;
        gate.finish(gate.called()[nth]);
    }
    let (long, short): (Vec<u32>, Vec<u32>) = gate.called()[1..].iter().partition(|id| **id < 200);
    assert_eq!(long, [100, 103, 102, 101]);
    assert_eq!(short, [200, 201]);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_flows_with_one_request_each_are_all_served() {
    let _t = support::trace_init();
    let gate = Gate::open();
    let of_its_own = |id: &u32| Class::new().flow(*id);
    let layer = builder(20_000, 4).classify_request(of_its_own).build().expect("valid");
    let mut service = layer.layer(gate.service());
    layer.handle().pause();
    let calls: Vec<_> = (1..=10_000).map(|flow| service.call(flow)).collect();
    layer.handle().resume();
    for call in calls {
        call.await.expect("served");
    }
    assert_eq!(layer.handle().stats().succeeded, 10_000);
}
