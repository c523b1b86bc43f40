//! Laws 2, 3 and 4: in flight ≤ limit, admitted ≤ capacity + limit, and refusals at once.

mod support;

use support::{
    EXECUTIONS, builder,
    gate::{Door, Gate},
    reason, settle,
};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service};
use tower_load_leveling::{LoadLevelLayer, Overflow, error::Reason};

#[tokio::test]
async fn no_more_than_the_limit_run_at_once() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let gate = Gate::new();
        let layer = builder(100, 3).execution(execution).build().expect("valid");
        let mut service = layer.layer(gate.service());
        let calls: Vec<_> = (0..10).map(|id| tokio::spawn(service.call(id))).collect();
        for first in 0..10 {
            settle().await;
            assert_eq!(gate.running(), 3.min(10 - first as usize), "all slots should be in use");
            assert_eq!(layer.handle().stats().in_flight, gate.running());
            gate.finish(first);
        }
        for call in calls {
            call.await.expect("no panic").expect("every call should be answered");
        }
        assert_eq!(gate.peak(), 3, "the limit should never be passed");
    }
}

#[tokio::test]
async fn a_lowered_limit_takes_effect_as_calls_finish() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let gate = Gate::new();
        let layer = builder(100, 4).execution(execution).build().expect("valid");
        let mut service = layer.layer(gate.service());
        let calls: Vec<_> = (0..10).map(|id| tokio::spawn(service.call(id))).collect();
        settle().await;
        layer.handle().set_limit(2).expect("valid");
        for (finished, running) in [(0, 3), (1, 2), (2, 2), (3, 2)] {
            gate.finish(finished);
            settle().await;
            assert_eq!(gate.running(), running, "after request {finished}");
        }
        gate.finish_all();
        for call in calls {
            call.await.expect("no panic").expect("every call should be answered");
        }
    }
}

#[tokio::test]
async fn a_raised_limit_dispatches_as_many_as_fit_in_one_step() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = LoadLevelLayer::new(100, 1);
    let mut service = layer.layer(gate.service());
    let _calls: Vec<_> = (0..10).map(|id| service.call(id)).collect();
    settle().await;
    assert_eq!(gate.running(), 1);
    layer.handle().set_limit(7).expect("valid");
    settle().await;
    assert_eq!(gate.running(), 7, "six more fit now");
    assert_eq!(layer.handle().stats().limit, 7);
}

#[tokio::test]
async fn exactly_capacity_plus_limit_are_admitted_in_one_go() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        for (capacity, limit) in [(0, 1), (0, 3), (1, 1), (7, 2), (5000, 1)] {
            let layer = builder(capacity, limit).execution(execution).build().expect("valid");
            let mut service = layer.layer(Gate::new().service());
            let mut calls: Vec<_> =
                (0..(capacity + limit) as u32).map(|id| task::spawn(service.call(id))).collect();
            let mut next = task::spawn(service.call(u32::MAX));
            assert_eq!(reason(assert_ready!(next.poll())), Reason::Full, "{capacity} + {limit}");
            for call in &mut calls {
                assert_pending!(call.poll(), "admitted: {capacity} + {limit}");
            }
            let stats = layer.handle().stats();
            assert_eq!((stats.admitted, stats.refused.full), ((capacity + limit) as u64, 1));
        }
    }
}

#[tokio::test]
async fn free_slots_are_waiting_room_while_paused() {
    let _t = support::trace_init();
    let gate = Gate::open();
    let layer = LoadLevelLayer::new(2, 3);
    let mut service = layer.layer(gate.service());
    layer.handle().pause();
    let mut calls: Vec<_> = (0..5).map(|id| task::spawn(service.call(id))).collect();
    assert_ready_err!(task::spawn(service.call(9)).poll(), "all five places are taken");
    settle().await;
    assert!(gate.called().is_empty(), "nothing should be dispatched while paused");
    assert_eq!(layer.handle().stats().queued, 5);
    layer.handle().resume();
    settle().await;
    for call in &mut calls {
        assert_ready_ok!(call.poll());
    }
}

#[tokio::test]
async fn with_capacity_zero_a_call_runs_now_or_is_refused() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = LoadLevelLayer::new(0, 1);
    let mut service = layer.layer(gate.service());
    let mut first = task::spawn(service.call(0));
    settle().await;
    assert_ready_err!(task::spawn(service.call(1)).poll(), "no waiting");
    gate.finish(0);
    settle().await;
    assert_ready_ok!(first.poll());
    let _second = task::spawn(service.call(2));
    settle().await;
    assert_eq!(gate.called(), [0, 2]);
}

#[tokio::test]
async fn a_lowered_capacity_keeps_those_who_wait_and_refuses_the_next() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = LoadLevelLayer::new(3, 1);
    let mut service = layer.layer(gate.service());
    let calls: Vec<_> = (0..4).map(|id| tokio::spawn(service.call(id))).collect();
    layer.handle().set_capacity(1);
    gate_step(&gate, 0).await;
    assert_eq!(reason(service.call(9).await), Reason::Full, "two still wait, one may");
    gate_step(&gate, 1).await;
    assert_eq!(reason(service.call(9).await), Reason::Full);
    gate_step(&gate, 2).await;
    let fits = tokio::spawn(service.call(10));
    gate.finish_all();
    for call in calls.into_iter().chain([fits]) {
        call.await.expect("no panic").expect("the admitted should be answered");
    }
}

async fn gate_step(gate: &Gate, id: u32) {
    settle().await;
    gate.finish(id);
    settle().await;
}

#[tokio::test]
async fn evict_oldest_admits_the_newcomer_and_removes_the_oldest_waiter() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = builder(2, 1).overflow(Overflow::EvictOldest).build().expect("valid");
    let mut service = layer.layer(gate.service());
    let mut calls: Vec<_> = (0..5).map(|id| task::spawn(service.call(id))).collect();
    settle().await;
    let results: Vec<_> = calls.iter_mut().map(|call| call.poll()).collect();
    let evicted: Vec<_> = results.iter().map(|poll| poll.is_ready()).collect();
    assert_eq!(evicted, [false, true, true, false, false], "0 runs, 1 and 2 are the oldest");
    for result in results {
        if let std::task::Poll::Ready(result) = result {
            assert_eq!(reason(result), Reason::Evicted);
        }
    }
    let stats = layer.handle().stats();
    assert_eq!((stats.queued, stats.removed.evicted, stats.refused.total()), (2, 2, 0));
}

#[tokio::test]
async fn evict_oldest_may_pass_the_bound_by_one_channel_at_most() {
    let _t = support::trace_init();
    let layer = builder(1, 1).overflow(Overflow::EvictOldest).build().expect("valid");
    let mut service = layer.layer(Gate::new().service());
    let mut calls: Vec<_> = (0..2000).map(|id| task::spawn(service.call(id))).collect();
    let refused = calls.iter_mut().map(|call| call.poll()).filter(|poll| poll.is_ready()).count();
    assert!(refused >= 2000 - 2 - 1024, "unread newcomers should be bounded: {refused} refused");
    settle().await;
    assert_eq!(layer.handle().stats().queued, 1, "the drain task restores the bound");
}

#[tokio::test]
async fn evict_oldest_refuses_when_nobody_waits() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = builder(0, 1).overflow(Overflow::EvictOldest).build().expect("valid");
    let mut service = layer.layer(gate.service());
    let _running = task::spawn(service.call(0));
    settle().await;
    assert_eq!(reason(service.call(1).await), Reason::Full);
}

#[tokio::test]
async fn a_refusal_needs_no_word_from_the_drain_task() {
    let _t = support::trace_init();
    let layer = LoadLevelLayer::new(0, 1);
    let mut service = layer.layer(Gate::new().service());
    let _running = service.call(0);
    // No `await` up to here and none below: nothing else can have run on this thread.
    for id in 1..1000 {
        let refusal = assert_ready!(task::spawn(service.call(id)).poll());
        assert_eq!(reason(refusal), Reason::Full, "refused at its first poll");
    }
}

#[tokio::test]
async fn try_call_hands_the_request_back() {
    let _t = support::trace_init();
    let layer = LoadLevelLayer::new(0, 1);
    let mut service = layer.layer(Gate::new().service());
    let _running = service.try_call(0).expect("a slot is free");
    let refused = service.try_call(7).expect_err("no place is free");
    assert_eq!(refused.rejected().reason(), Reason::Full);
    assert_eq!(refused.into_request(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_how_things_stand() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = LoadLevelLayer::new(20, 1);
    let mut service = layer.layer(gate.service());
    let mut calls: Vec<_> = (0..21).map(|id| task::spawn(service.call(id))).collect();
    let first = support::rejection(service.call(99).await);
    assert_eq!((first.queued(), first.limit()), (20, 1));
    assert_eq!(first.retry_after(), None, "nothing has been measured");
    for id in 0..20 {
        settle().await;
        tokio::time::advance(std::time::Duration::from_millis(50)).await;
        gate.finish(id);
        settle().await;
        assert_ready_ok!(calls[id as usize].poll());
        calls.push(task::spawn(service.call(100 + id)));
    }
    let later = support::rejection(service.call(99).await);
    let retry_after = later.retry_after().expect("a rate has been measured").as_secs_f64();
    assert!((0.79..1.21).contains(&retry_after), "20 queued at 20 a second: {retry_after}");
}

#[tokio::test]
async fn waiting_for_readiness_takes_no_slot() {
    let _t = support::trace_init();
    let (gate, door) = (Gate::new(), Door::shut());
    let layer = LoadLevelLayer::new(10, 1);
    let mut unready = layer.layer(gate.service_behind(&door));
    let mut ready = layer.layer(gate.service());
    let _held_up = task::spawn(unready.call(0));
    settle().await;
    assert_eq!(layer.handle().stats().in_flight, 0);
    let _runs = task::spawn(ready.call(1));
    settle().await;
    assert_eq!(gate.called(), [1], "another inner should have the slot");
}
