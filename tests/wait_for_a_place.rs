//! Law 9: readiness reserves nothing by default; with `Overflow::Wait` it reserves, and nobody
//! hoards.

mod support;

use std::task::Poll;

use support::{EXECUTIONS, builder, gate::Gate, reason, settle};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt};
use tower_load_leveling::{LoadLevelLayer, Overflow, error::Reason};

fn waiting(capacity: usize, limit: usize) -> LoadLevelLayer {
    builder(capacity, limit).overflow(Overflow::Wait).build().expect("valid")
}

fn ready<S: Service<u32> + Unpin>(service: &mut task::Spawn<S>) -> Poll<Result<(), S::Error>> {
    service.enter(|cx, mut service| service.poll_ready(cx))
}

#[tokio::test]
async fn readiness_reserves_nothing_by_default() {
    let _t = support::trace_init();
    let layer = LoadLevelLayer::new(0, 1);
    let service = layer.layer(Gate::open().service());
    let mut clones: Vec<_> = (0..5).map(|_| task::spawn(service.clone())).collect();
    for clone in &mut clones {
        assert_ready_ok!(ready(clone));
    }
    service.clone().call(1).await.expect("five ready clones should hold nothing");
}

#[tokio::test]
async fn a_full_leveler_makes_ready_wait_until_a_place_is_free() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let gate = Gate::new();
        let layer = builder(1, 1).overflow(Overflow::Wait).execution(execution).build();
        let layer = layer.expect("valid");
        let service = layer.layer(gate.service());
        let calls: Vec<_> = (0..6)
            .map(|id| {
                let service = service.clone();
                tokio::spawn(async move { service.oneshot(id).await })
            })
            .collect();
        for id in 0..6 {
            settle().await;
            assert!(layer.handle().stats().queued <= 1);
            gate.finish(id);
        }
        for call in calls {
            call.await.expect("no panic").expect("nobody is refused");
        }
        assert_eq!(layer.handle().stats().refused.total(), 0);
    }
}

#[tokio::test]
async fn a_reserved_place_is_used_by_the_call() {
    let _t = support::trace_init();
    let layer = waiting(0, 1);
    let mut service = layer.layer(Gate::open().service());
    let mut other = task::spawn(service.clone());
    assert_ready_ok!(ready(&mut task::spawn(&mut service)));
    assert_pending!(ready(&mut other));
    assert_eq!(layer.handle().stats().queued, 0, "a reservation is not a request");
    assert_eq!(service.call(1).await.expect("its place is reserved"), 1);
    settle().await;
    assert!(other.is_woken(), "the place is free again");
    assert_ready_ok!(ready(&mut other));
}

#[tokio::test]
async fn a_reserved_place_is_given_back_when_the_service_is_dropped() {
    let _t = support::trace_init();
    let layer = waiting(0, 1);
    let service = layer.layer(Gate::open().service());
    let mut reserved = task::spawn(service.clone());
    let mut other = task::spawn(service.clone());
    assert_ready_ok!(ready(&mut reserved));
    assert_pending!(ready(&mut other));
    drop(reserved);
    assert!(other.is_woken());
    assert_ready_ok!(ready(&mut other));
}

#[tokio::test]
async fn a_sleeping_clone_keeps_no_place_it_has_not_been_given() {
    let _t = support::trace_init();
    // Symptom: `LoadShed` over `GlobalConcurrencyLimit(1)`, a clone refused and kept unpolled: the
    // freed permit is assigned to it, and 20 of 20 fresh callers are refused on an idle server.
    let gate = Gate::new();
    let layer = waiting(0, 1);
    let service = layer.layer(gate.service());
    let mut running = task::spawn(service.clone().oneshot(0));
    assert_pending!(running.poll());
    let mut sleepers: Vec<_> = (0..20).map(|_| task::spawn(service.clone())).collect();
    for sleeper in &mut sleepers {
        assert_pending!(ready(sleeper));
    }
    let mut awake = tokio::spawn(service.clone().oneshot(1));
    settle().await;
    gate.finish(0);
    settle().await;
    assert_eq!(gate.called(), [0, 1], "the one who is awake should get the place");
    gate.finish(1);
    assert!((&mut awake).await.expect("no panic").is_ok());
}

#[tokio::test]
async fn clones_that_go_away_while_they_wait_leave_nothing_behind() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = waiting(0, 1);
    let service = layer.layer(gate.service());
    let _running = service.clone().call(0);
    for _ in 0..10_000 {
        assert_pending!(ready(&mut task::spawn(service.clone())));
    }
    settle().await;
    let mut last = task::spawn(service.clone());
    assert_pending!(ready(&mut last));
    gate.finish_all();
    settle().await;
    assert!(last.is_woken());
    assert_ready_ok!(ready(&mut last));
}

#[tokio::test]
async fn call_without_ready_is_decided_at_once() {
    let _t = support::trace_init();
    let layer = waiting(0, 1);
    let mut service = layer.layer(Gate::new().service());
    let _running = service.call(0);
    assert_eq!(reason(assert_ready!(task::spawn(service.call(1)).poll())), Reason::Full);
}

#[tokio::test]
async fn closing_wakes_those_who_wait_for_a_place() {
    let _t = support::trace_init();
    let layer = waiting(0, 1);
    let service = layer.layer(Gate::new().service());
    let _running = service.clone().call(0);
    let mut reserved = service.clone();
    let waits = tokio::spawn(service.clone().oneshot(1));
    settle().await;
    layer.handle().close();
    assert_eq!(reason(waits.await.expect("no panic")), Reason::Closed);
    assert_eq!(reason(reserved.call(2).await), Reason::Closed);
}

#[tokio::test]
async fn a_place_reserved_before_the_close_is_refused_and_given_back() {
    let _t = support::trace_init();
    let layer = waiting(0, 1);
    let mut service = layer.layer(Gate::open().service());
    assert_ready_ok!(ready(&mut task::spawn(&mut service)));
    layer.handle().close();
    assert_eq!(reason(service.call(1).await), Reason::Closed);
    layer.handle().idle().await;
}

#[tokio::test]
async fn a_reservation_does_not_count_as_work() {
    let _t = support::trace_init();
    let layer = waiting(1, 1);
    let mut service = layer.layer(Gate::open().service());
    assert_ready_ok!(ready(&mut task::spawn(&mut service)));
    layer.handle().idle().await;
    service.clone().call(1).await.expect("one more place");
    layer.handle().idle().await;
}

#[tokio::test]
async fn raising_the_capacity_wakes_those_who_wait() {
    let _t = support::trace_init();
    let layer = waiting(0, 1);
    let service = layer.layer(Gate::new().service());
    let _running = service.clone().call(0);
    let mut waits = task::spawn(service.clone());
    assert_pending!(ready(&mut waits));
    layer.handle().set_capacity(1);
    assert!(waits.is_woken());
    assert_ready_ok!(ready(&mut waits));
}
