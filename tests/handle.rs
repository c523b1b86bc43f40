//! What a handle shows and changes while the leveler runs.

mod support;

use std::time::Duration;

use support::{builder, gate::Gate, reason, settle};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service};
use tower_load_leveling::{
    Class, LoadLevelLayer,
    error::Reason,
    limit::{Aimd, Bdp},
};

#[tokio::test]
async fn a_handle_says_what_is_set_and_what_is_going_on() {
    let layer = builder(3, 2).name("orders").build().expect("valid");
    let handle = layer.handle();
    assert_eq!((handle.name(), handle.limit(), handle.room()), ("orders", 2, 5));
    assert!(!handle.is_adaptive() && !handle.is_paused());
    handle.pause();
    assert!(handle.is_paused());
    handle.resume();
    assert!(!handle.is_paused());
    let adaptive = LoadLevelLayer::builder().adaptive_concurrency().build().expect("valid");
    assert!(adaptive.handle().is_adaptive());
}

#[tokio::test]
async fn a_service_leads_to_the_handle_of_its_layer() {
    let layer = LoadLevelLayer::new(3, 2);
    let mut service = layer.layer(Gate::open().service());
    service.call(1).await.expect("answered");
    assert_eq!(service.handle().stats().succeeded, 1);
    assert_eq!(service.clone().handle().room(), layer.handle().room());
}

#[tokio::test]
async fn room_is_what_would_be_admitted_now() {
    let gate = Gate::new();
    let layer = LoadLevelLayer::new(2, 1);
    let handle = layer.handle();
    let mut service = layer.layer(gate.service());
    let mut calls = Vec::new();
    while handle.room() > 0 {
        calls.push(service.call(calls.len() as u32));
    }
    assert_eq!(calls.len(), 3);
    assert_eq!(reason(service.call(9).await), Reason::Full);
    drop(calls.pop());
    assert_eq!(handle.room(), 1);
    handle.set_capacity(5);
    assert_eq!(handle.room(), 4);
    handle.set_capacity(0);
    assert_eq!(handle.room(), 0, "more wait than may");
    handle.set_capacity(5);
    handle.close();
    assert_eq!(handle.room(), 0);
}

#[tokio::test]
async fn whoever_watches_is_told_when_a_place_is_free_or_the_limit_grows() {
    let gate = Gate::new();
    let layer = LoadLevelLayer::new(1, 1);
    let handle = layer.handle();
    let mut service = layer.layer(gate.service());
    let running = tokio::spawn(service.call(0));
    let waiting = service.call(1);
    settle().await;
    let mut changed = task::spawn(handle.changed());
    assert_pending!(changed.poll());
    drop(waiting);
    assert_ready!(changed.poll(), "a cancelled call frees its place");

    let mut changed = task::spawn(handle.changed());
    assert_pending!(changed.poll());
    gate.finish(0);
    running.await.expect("no panic").expect("answered");
    assert_ready!(changed.poll(), "a call has ended");

    let mut changed = task::spawn(handle.changed());
    assert_pending!(changed.poll());
    handle.set_limit(2).expect("valid");
    assert_ready!(changed.poll(), "the limit has grown");

    let mut changed = task::spawn(handle.changed());
    handle.close();
    assert_ready!(changed.poll(), "there is nothing more to wait for");
}

#[tokio::test]
async fn a_change_between_the_making_of_the_future_and_its_poll_is_not_missed() {
    let layer = LoadLevelLayer::new(0, 1);
    let handle = layer.handle();
    let mut service = layer.layer(Gate::new().service());
    let call = service.call(0);
    let changed = handle.changed();
    assert_eq!(handle.room(), 0);
    drop(call);
    settle().await;
    assert_eq!(handle.room(), 1);
    assert_ready!(task::spawn(changed).poll());
}

#[tokio::test]
async fn a_limit_of_zero_is_an_error_and_changes_nothing() {
    let layer = LoadLevelLayer::new(1, 5);
    let error = layer.handle().set_limit(0).expect_err("not possible");
    assert_eq!((error.setting(), error.value()), ("set_limit", "0"));
    assert_eq!(layer.handle().limit(), 5);
    assert_eq!(layer.handle().set_limit(1), Ok(()));
    assert_eq!(layer.handle().limit(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_limit_goes_back_to_its_algorithm_and_on_from_where_it_is() {
    let layer = LoadLevelLayer::builder()
        .adaptive(Aimd::new().min(1).max(100).initial(20))
        .build()
        .expect("valid");
    let handle = layer.handle();
    handle.set_limit(7).expect("valid");
    assert!(!handle.is_adaptive());
    let mut service = layer.layer(Gate::open().service());
    service.call(0).await.expect("answered");
    assert_eq!(handle.limit(), 7, "by hand it stays");
    assert!(handle.resume_adaptive());
    assert!(handle.is_adaptive());
    assert_eq!(handle.limit(), 7, "the algorithm goes on from there");
    assert!(handle.resume_adaptive(), "again is no different");

    let bdp = LoadLevelLayer::builder().adaptive(Bdp::new()).build().expect("valid").handle();
    bdp.set_limit(40).expect("valid");
    assert!(bdp.resume_adaptive());
    assert_eq!(bdp.limit(), 40);

    let fixed = LoadLevelLayer::new(1, 3).handle();
    assert!(!fixed.resume_adaptive(), "there is no algorithm");
    assert_eq!(fixed.limit(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_rate_can_be_set_changed_and_lifted_while_calls_wait() {
    let gate = Gate::new();
    let layer = LoadLevelLayer::new(100, 50);
    let handle = layer.handle();
    let second = Duration::from_secs(1);
    handle.set_rate(Some((10, second))).expect("valid");
    let mut service = layer.layer(gate.service());
    let _calls: Vec<_> = (0..40).map(|id| tokio::spawn(service.call(id))).collect();
    tokio::time::sleep(second).await;
    let first = gate.running();
    assert!((10..=12).contains(&first), "{first} in the first second");
    handle.set_rate(Some((2, second))).expect("valid");
    tokio::time::sleep(2 * second).await;
    let slow = gate.running() - first;
    assert!((4..=5).contains(&slow), "{slow} in two seconds");
    handle.set_rate(None).expect("valid");
    settle().await;
    assert_eq!(gate.running(), 40, "as many as the limit lets");

    let error = handle.set_rate(Some((0, second))).expect_err("not possible");
    assert_eq!(error.setting(), "set_rate");
}

#[tokio::test]
async fn the_bypass_limit_can_be_changed() {
    let layer = LoadLevelLayer::builder()
        .concurrency(1)
        .bypass_limit(0)
        .classify_request(|_: &u32| Class::bypass())
        .build()
        .expect("valid");
    let gate = Gate::new();
    let mut service = layer.layer(gate.service());
    service.call(0).await.expect_err("the budget is 0");
    layer.handle().set_bypass_limit(2);
    let _calls = [service.call(1), service.call(2)].map(tokio::spawn);
    settle().await;
    assert_eq!(layer.handle().stats().bypassing, 2);
    service.call(3).await.expect_err("the budget is used up");
}
