//! The limit of each flow: it runs no more than so much at once, and holds up nobody else.

mod support;

use std::sync::{Arc, OnceLock};

use support::{
    EXECUTIONS, builder,
    flows::{classify, layer, ms},
    gate::Gate,
    reason, rejection, settle,
};
use tokio::time::{Instant, advance};
use tokio_test::task;
use tower::{BoxError, Layer, Service, service_fn, util::BoxCloneSyncService};
use tower_load_leveling::{
    Class, LoadLevelLayer, Order, Priority,
    error::Reason,
    limit::{Algorithm, Sample},
};

#[tokio::test(start_paused = true)]
async fn a_flow_runs_no_more_than_its_limit_and_holds_up_nobody_else() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let gate = Gate::new();
        let layer = layer(builder(100, 10).flow_limit(2).execution(execution));
        let mut service = layer.layer(gate.service());
        let calls = [100, 101, 102, 103, 200, 201, 202, 1, 2, 3];
        calls.iter().for_each(|id| drop(tokio::spawn(service.call(*id))));
        settle().await;
        let mut called = gate.called();
        called.sort_unstable();
        assert_eq!(called, [1, 2, 3, 100, 101, 200, 201], "{execution:?}");
        gate.finish(100);
        settle().await;
        assert_eq!(gate.called()[7..], [102], "{execution:?}");
        gate.finish(200);
        gate.finish(101);
        settle().await;
        assert_eq!(gate.called().len(), 10, "{execution:?}");
        assert_eq!(layer.handle().stats().queued, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_held_flow_of_a_high_priority_does_not_hold_up_a_low_one() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(100, 4).flow_limit(1));
    let mut service = layer.layer(gate.service());
    let _calls = [2100, 2101, 5100, 5200, 5000].map(|id| task::spawn(service.call(id)));
    settle().await;
    assert_eq!(gate.called(), [2100, 5200, 5000], "the limit is one of all priorities");
    gate.finish(2100);
    settle().await;
    gate.finish(2101);
    settle().await;
    assert_eq!(gate.called()[3..], [2101, 5100]);
}

#[tokio::test(start_paused = true)]
async fn a_heavy_request_counts_as_its_cost_and_runs_alone_beyond_the_limit() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(100, 16).flow_limit(3));
    let mut service = layer.layer(gate.service());
    // 2 slots, 2 slots, 1 slot, 5 slots.
    let [two, other_two, one, five] = [10_100, 10_101, 102, 40_103];
    let _calls = [two, other_two, one, five].map(|id| task::spawn(service.call(id)));
    settle().await;
    assert_eq!(gate.called(), [two], "and the second is not overtaken");
    gate.finish(two);
    settle().await;
    assert_eq!(gate.called()[1..], [other_two, one]);
    gate.finish(one);
    settle().await;
    assert_eq!(gate.called().len(), 3);
    gate.finish(other_two);
    settle().await;
    assert_eq!((gate.called()[3], layer.handle().stats().in_flight), (five, 1));
    let _next = task::spawn(service.call(104));
    settle().await;
    assert_eq!(gate.called().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_heavy_request_that_leaves_lets_its_flow_go() {
    let _t = support::trace_init();
    let (one, heavy, next) = (100, 20_101, 102);
    for (execution, exact_flows) in EXECUTIONS.into_iter().flat_map(|one| [(one, 1000), (one, 1)]) {
        let gate = Gate::new();
        let builder = builder(100, 16).flow_limit(3).execution(execution);
        let layer = layer(builder.exact_flows(exact_flows));
        let mut service = layer.layer(gate.service());
        let _others = [200, 300, 400].map(|id| task::spawn(service.call(id)));
        let _one = task::spawn(service.call(one));
        settle().await;
        let held = tokio::spawn(service.call(heavy));
        settle().await;
        let _next = [next, 5103].map(|id| task::spawn(service.call(id)));
        settle().await;
        assert_eq!(gate.called().len(), 4, "the heavy one has not left");
        held.abort();
        settle().await;
        assert_eq!(gate.called()[4..], [next, 5103], "{execution:?} {exact_flows}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_heavy_request_that_is_removed_lets_its_flow_go() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let late = |id: &u32| match id {
        20_101 => classify(id).deadline(Instant::now() + ms(50)),
        id => classify(id),
    };
    let layer = builder(100, 16).flow_limit(3).request_classifier(late).build().expect("valid");
    let mut service = layer.layer(gate.service());
    let calls = [100, 20_101, 102, 5103].map(|id| tokio::spawn(service.call(id)));
    settle().await;
    assert_eq!(gate.called(), [100]);
    advance(ms(51)).await;
    settle().await;
    assert!(calls[1].is_finished());
    assert_eq!(gate.called()[1..], [102, 5103]);
}

#[tokio::test(start_paused = true)]
async fn a_heavy_request_of_a_dead_inner_lets_its_flow_go() {
    let _t = support::trace_init();
    let (gate, mortal) = (Gate::new(), support::gate::Door::default());
    let layer = layer(builder(100, 16).flow_limit(3));
    let mut healthy = layer.layer(gate.service());
    let mut other = layer.layer(gate.service_behind(&mortal));
    let _one = task::spawn(healthy.call(100));
    let heavy = tokio::spawn(other.call(20_101));
    let _next = task::spawn(healthy.call(102));
    settle().await;
    mortal.fail();
    let last = tokio::spawn(other.call(1));
    settle().await;
    assert!(heavy.is_finished() && last.is_finished());
    assert_eq!(gate.called(), [100, 102]);
}

#[tokio::test(start_paused = true)]
async fn a_heavy_request_that_is_evicted_lets_its_flow_go() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(0, 7).flow_limit(4));
    let mut service = layer.layer(gate.service());
    // One slot, four of which three are free, one: six of seven places.
    let mut calls: Vec<_> = [100, 30_101, 102].map(|id| tokio::spawn(service.call(id))).into();
    settle().await;
    assert_eq!(gate.called(), [100]);
    let _others = [200, 300].map(|id| task::spawn(service.call(id)));
    settle().await;
    let evicted = rejection(calls.remove(1).await.expect("no panic"));
    assert_eq!((evicted.reason(), evicted.is_over_share()), (Reason::Evicted, true));
    assert_eq!(gate.called(), [100, 200, 300, 102]);
}

#[tokio::test(start_paused = true)]
async fn calls_that_panic_or_are_given_up_make_room_for_the_next_of_their_flow() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let gate = Gate::new();
        let layer = layer(builder(100, 4).flow_limit(1).execution(execution));
        let mut service = layer.layer(gate.service());
        let spawn = |call| tokio::spawn(call);
        let calls: Vec<_> = (100..106).map(|id| spawn(service.call(id))).collect();
        settle().await;
        calls[0].abort();
        settle().await;
        gate.end(101, support::gate::Told::Panic);
        settle().await;
        gate.end(102, support::gate::Told::Err);
        settle().await;
        calls[4].abort();
        settle().await;
        gate.finish(103);
        settle().await;
        assert_eq!(gate.called(), [100, 101, 102, 103, 105], "{execution:?}");
        gate.finish(105);
        settle().await;
        assert_eq!(layer.handle().stats().in_flight, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_in_the_inner_at_once_makes_room_too() {
    let _t = support::trace_init();
    let layer = layer(builder(100, 4).flow_limit(1));
    let inner = |id: u32| {
        assert!(id == 103, "told to");
        async move { Ok::<_, BoxError>(id) }
    };
    let mut service = layer.layer(service_fn(inner));
    let calls: Vec<_> = (100..104).map(|id| tokio::spawn(service.call(id))).collect();
    let mut ends = Vec::new();
    for call in calls {
        ends.push(call.await.is_ok());
    }
    assert_eq!(ends, [false, false, false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_a_flow_at_its_limit_as_over_its_share() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(2, 4).flow_limit(1));
    let mut service = layer.layer(gate.service());
    let mut long: Vec<_> = (100..106).map(|id| service.call(id)).collect();
    settle().await;
    let refused = rejection(service.call(106).await);
    assert_eq!((refused.reason(), refused.is_over_share()), (Reason::Full, true));
    // Others push the excess out, and run.
    let _others = [200, 1].map(|id| task::spawn(service.call(id)));
    settle().await;
    assert_eq!(gate.called(), [100, 200, 1]);
    let evicted = rejection(long.remove(1).await);
    assert_eq!((evicted.reason(), evicted.is_over_share()), (Reason::Evicted, true));
}

#[tokio::test(start_paused = true)]
async fn without_capacity_the_excess_of_a_flow_gives_way_to_others() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(0, 3).flow_limit(1));
    let mut service = layer.layer(gate.service());
    let _long = [100, 101, 102].map(|id| task::spawn(service.call(id)));
    settle().await;
    let refused = rejection(service.call(103).await);
    assert_eq!((refused.reason(), refused.is_over_share()), (Reason::Full, true));
    let _other = task::spawn(service.call(200));
    settle().await;
    assert_eq!(gate.called(), [100, 200]);
}

#[tokio::test(start_paused = true)]
async fn the_excess_of_a_flow_gives_way_to_a_lower_priority_and_the_rest_does_not() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(4, 3).flow_limit(1));
    let mut service = layer.layer(gate.service());
    let mut high: Vec<_> = (2100..2107).map(|id| tokio::spawn(service.call(id))).collect();
    settle().await;
    let _low = [5200, 5000].map(|id| tokio::spawn(service.call(id)));
    settle().await;
    assert_eq!(gate.called(), [2100, 5200, 5000]);
    let evicted = rejection(high.remove(1).await.expect("no panic"));
    assert_eq!((evicted.reason(), evicted.is_over_share()), (Reason::Evicted, true));
    // No slot is free. The low ones may still have as much waiting as the flow.
    let waiting: Vec<_> = (5201..5206).map(|id| tokio::spawn(service.call(id))).collect();
    settle().await;
    let refused = waiting.iter().filter(|call| call.is_finished()).count();
    let stats = layer.handle().stats();
    assert_eq!((refused, stats.queued, stats.removed.evicted), (3, 4, 4), "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn held_requests_are_late_when_others_are_and_are_removed_by_a_drain() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(100, 4).flow_limit(1).max_wait(ms(50)));
    let mut service = layer.layer(gate.service());
    let _first = task::spawn(service.call(100));
    let late = tokio::spawn(service.call(101));
    settle().await;
    let began = Instant::now();
    assert_eq!(reason(late.await.expect("no panic")), Reason::MaxWait);
    assert!(began.elapsed() <= ms(52), "{:?}", began.elapsed());
    let held = tokio::spawn(service.call(102));
    settle().await;
    let report = layer.handle().drain(ms(10)).await;
    assert_eq!((report.removed, report.in_flight), (1, 1));
    assert_eq!(reason(held.await.expect("no panic")), Reason::Closed);
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_flow_runs_while_paused_and_its_limit_holds_after() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(100, 4).flow_limit(2));
    let mut service = layer.layer(gate.service());
    layer.handle().pause();
    let _calls: Vec<_> = (100..105).map(|id| task::spawn(service.call(id))).collect();
    settle().await;
    assert_eq!(gate.called().len(), 0);
    layer.handle().resume();
    settle().await;
    assert_eq!(gate.called(), [100, 101]);
}

#[tokio::test(start_paused = true)]
async fn newest_first_holds_within_a_held_flow() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(100, 4).flow_limit(1).order(Order::Lifo));
    let mut service = layer.layer(gate.service());
    let _calls: Vec<_> = (100..104).map(|id| task::spawn(service.call(id))).collect();
    settle().await;
    let first = gate.called()[0];
    for nth in 0..4 {
        gate.finish(gate.called()[nth]);
        settle().await;
    }
    let rest: Vec<_> = [103, 102, 101, 100].into_iter().filter(|id| *id != first).collect();
    assert_eq!(gate.called()[1..], rest);
}

#[tokio::test(start_paused = true)]
async fn a_handle_changes_the_limit_of_flows_at_once() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(100, 8).flow_limit(1));
    let handle = layer.handle();
    let mut service = layer.layer(gate.service());
    let _calls: Vec<_> = (100..110).map(|id| task::spawn(service.call(id))).collect();
    let count = async || {
        settle().await;
        gate.called().len()
    };
    assert_eq!(count().await, 1);
    handle.set_flow_limit(3).expect("valid");
    assert_eq!((count().await, handle.settings().flow_limit), (3, Some(3)));
    handle.set_flow_limit(1).expect("valid");
    gate.finish(100);
    gate.finish(101);
    assert_eq!(count().await, 3, "a lower one takes effect as calls end");
    gate.finish(102);
    assert_eq!(count().await, 4);
    handle.set_flow_limit(None).expect("valid");
    assert_eq!(count().await, 10);
    let error = handle.set_flow_limit(0).expect_err("nothing would run");
    assert_eq!((error.setting(), error.value()), ("set_flow_limit", "0"));
}

#[tokio::test(start_paused = true)]
async fn flows_that_share_queues_have_limits_of_their_own() {
    let _t = support::trace_init();
    let gate = Gate::new();
    // One queue for a single flow; all others share.
    let layer = builder(1000, 64).flow_limit(2).exact_flows(1);
    let layer = layer.classify_request(|id: &u32| Class::new().flow(id % 20)).build().unwrap();
    let mut service = layer.layer(gate.service());
    let _calls: Vec<_> = (0..200).map(|id| task::spawn(service.call(id))).collect();
    settle().await;
    for round in 0..5 {
        let running = gate.called()[round * 40..].to_vec();
        assert_eq!(running.len(), 40, "two of each of twenty flows");
        let most = (0..20).map(|flow| running.iter().filter(|id| **id % 20 == flow).count());
        assert_eq!(most.max(), Some(2));
        running.into_iter().for_each(|id| gate.finish(id));
        settle().await;
    }
    assert_eq!(layer.handle().stats().succeeded, 200);
}

#[tokio::test(start_paused = true)]
async fn requests_of_a_dead_inner_are_answered_though_their_flow_is_held() {
    let _t = support::trace_init();
    let (gate, mortal) = (Gate::new(), support::gate::Door::default());
    let layer = layer(builder(100, 8).flow_limit(1).exact_flows(1));
    let mut healthy = layer.layer(gate.service());
    let mut other = layer.layer(gate.service_behind(&mortal));
    let _running = [task::spawn(healthy.call(100)), task::spawn(healthy.call(200))];
    let waiting: Vec<_> = [101, 201].map(|id| tokio::spawn(other.call(id))).into();
    settle().await;
    mortal.fail();
    let last = tokio::spawn(other.call(1));
    settle().await;
    for call in waiting.into_iter().chain([last]) {
        assert!(call.is_finished(), "none waits for another call of its flow");
    }
}

#[tokio::test(start_paused = true)]
async fn a_nested_call_of_a_flow_at_its_limit_is_refused_and_the_outer_call_ends() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let next = Arc::new(OnceLock::<BoxCloneSyncService<u32, Reason, BoxError>>::new());
        let inner = {
            let next = Arc::clone(&next);
            service_fn(move |id: u32| {
                let mut next = next.get().expect("set").clone();
                async move {
                    settle().await;
                    let nested = next.call(id + 1).await;
                    Ok::<_, BoxError>(nested.unwrap_or_else(|error| reason(Err::<(), _>(error))))
                }
            })
        };
        let layer = layer(builder(100, 8).flow_limit(1).execution(execution));
        let service = BoxCloneSyncService::new(layer.layer(inner));
        next.set(service.clone()).expect("once");
        let mut outer = service;
        let ended = tokio::time::timeout(ms(1000), outer.call(100)).await;
        assert_eq!(ended.expect("it ends").expect("served"), Reason::Nested, "{execution:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_nested_call_that_its_flow_has_too_little_room_for_is_refused() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let next = Arc::new(OnceLock::<BoxCloneSyncService<u32, Reason, BoxError>>::new());
        let inner = {
            let next = Arc::clone(&next);
            service_fn(move |_: u32| {
                let mut next = next.get().expect("set").clone();
                async move {
                    // Of cost 2, in the flow of the outer call.
                    let nested = next.call(10_100).await;
                    Ok::<_, BoxError>(nested.unwrap_or_else(|error| reason(Err::<(), _>(error))))
                }
            })
        };
        let layer = layer(builder(100, 8).flow_limit(2).execution(execution));
        let service = BoxCloneSyncService::new(layer.layer(inner));
        next.set(service.clone()).expect("once");
        let mut outer = service;
        let ended = tokio::time::timeout(ms(1000), outer.call(100)).await;
        assert_eq!(ended.expect("it ends").expect("served"), Reason::Nested, "{execution:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_own_flow_is_too_slow_is_refused_and_others_are_not() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let timed = |id: &u32| classify(id).deadline(Instant::now() + ms(400));
    let layer = builder(1000, 8).flow_limit(1).classify_request(timed).build().expect("valid");
    let mut service = layer.layer(gate.service());
    for id in 110..140 {
        let _call = task::spawn(service.call(id));
        settle().await;
        advance(ms(50)).await;
        gate.finish(id);
        settle().await;
    }
    // One runs. The others take 50 ms each, one after the other, so seven wait in time.
    let calls: Vec<_> = (100..112).map(|id| tokio::spawn(service.call(id))).collect();
    settle().await;
    for call in calls.into_iter().skip(8) {
        assert!(call.is_finished());
        assert_eq!(reason(call.await.expect("no panic")), Reason::WouldMissDeadline);
    }
    let _others = [200, 1].map(|id| task::spawn(service.call(id)));
    settle().await;
    let called = gate.called();
    assert!(called.contains(&200) && called.contains(&1), "{called:?}");
}

#[tokio::test(start_paused = true)]
async fn however_many_flows_are_full_another_is_not_over_its_share() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let critical = |id: &u32| match id {
        0 => Class::new().priority(Priority::Critical),
        flow => Class::new().priority(Priority::Low).flow(flow),
    };
    let builder = builder(100, 512).flow_limit(1).classify_request(critical);
    let layer = builder.build().expect("valid");
    let mut service = layer.layer(gate.service());
    let _running: Vec<_> = (1..=512).map(|flow| tokio::spawn(service.call(flow))).collect();
    settle().await;
    assert_eq!(gate.running(), 512);
    let _waiting: Vec<_> = (0..100).map(|_| tokio::spawn(service.call(0))).collect();
    settle().await;
    let mut known = 0;
    for flow in 1..=512 {
        known += usize::from(rejection(service.call(flow).await).is_over_share());
    }
    assert!(known >= 505, "{known} of 512 full flows");
    for flow in 1000..3000 {
        let refused = rejection(service.call(flow).await);
        assert!(!refused.is_over_share(), "{flow} runs nothing");
    }
}

/// An algorithm that tells what it is told.
struct Told(std::sync::mpsc::Sender<(bool, usize)>);

impl Algorithm for Told {
    fn limit(&self) -> f64 {
        8.0
    }

    fn on_sample(&mut self, sample: &Sample) {
        self.0.send((sample.limit_reached, 0)).expect("read");
    }

    fn on_tick(&mut self, _: Instant, load: &tower_load_leveling::limit::Load) {
        self.0.send((false, load.queued)).expect("read");
    }
}

#[tokio::test(start_paused = true)]
async fn an_algorithm_is_not_told_that_held_requests_wait_for_the_limit() {
    let _t = support::trace_init();
    let (tell, told) = std::sync::mpsc::channel();
    let gate = Gate::new();
    let builder = LoadLevelLayer::builder().capacity(100).adaptive(Told(tell)).flow_limit(1);
    let layer = layer(builder);
    let mut service = layer.layer(gate.service());
    let _calls: Vec<_> = (100..110).map(|id| task::spawn(service.call(id))).collect();
    for nth in 0..5 {
        settle().await;
        advance(ms(25)).await;
        settle().await;
        gate.finish(gate.called()[nth]);
    }
    settle().await;
    let told: Vec<_> = told.try_iter().collect();
    assert!(told.len() >= 10, "{told:?}");
    assert!(told.iter().all(|told| *told == (false, 0)), "{told:?}");
}
