//! The layer in the place of tower's concurrency limit: capacity 0, `Overflow::Wait`,
//! `Execution::Caller`. What tower's limit promises, this one keeps.

mod support;

use std::task::Poll;

use support::{builder, gate::Gate};
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{Layer, Service};
use tower_load_leveling::{Execution, LoadLevel, Overflow};

use support::gate::{GateService, Told};

type Limited = task::Spawn<LoadLevel<GateService>>;

fn limited(limit: usize, gate: &Gate) -> Limited {
    let builder = builder(0, limit).overflow(Overflow::Wait).execution(Execution::Caller);
    task::spawn(builder.build().expect("valid").layer(gate.service()))
}

fn ready(service: &mut Limited) -> Poll<Result<(), tower::BoxError>> {
    service.enter(|cx, mut service| service.poll_ready(cx))
}

macro_rules! call {
    ($service:ident, $id:expr) => {
        task::spawn($service.enter(|_, mut service| service.call($id)))
    };
}

fn clone(service: &Limited) -> Limited {
    task::spawn((**service).clone())
}

#[tokio::test]
async fn so_many_run_and_the_next_is_ready_when_the_first_has_ended() {
    let gate = Gate::new();
    let mut service = limited(2, &gate);
    assert_ready_ok!(ready(&mut service));
    let mut first = call!(service, 1);
    assert_ready_ok!(ready(&mut service));
    let mut second = call!(service, 2);
    assert_pending!(ready(&mut service));
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    assert_eq!(gate.called(), [1, 2]);
    assert!(!service.is_woken());
    gate.finish(1);
    assert_ready_ok!(first.poll());
    assert!(service.is_woken());
    assert_ready_ok!(ready(&mut service));
    let mut third = call!(service, 3);
    assert_pending!(ready(&mut service));
    gate.finish(2);
    assert_ready_ok!(second.poll());
    assert!(service.is_woken());
    gate.finish(3);
    assert_ready_ok!(third.poll());
}

#[tokio::test]
async fn a_slot_kept_by_a_ready_service_is_free_after_its_call() {
    let gate = Gate::new();
    let mut first = limited(1, &gate);
    let mut second = clone(&first);
    assert_ready_ok!(ready(&mut first));
    assert_pending!(ready(&mut second));
    let mut call = call!(first, 1);
    assert_pending!(ready(&mut second));
    gate.finish(1);
    assert_ready_ok!(call.poll());
    assert!(second.is_woken());
    assert_ready_ok!(ready(&mut second));
}

#[tokio::test]
async fn a_ready_service_that_is_dropped_frees_its_slot() {
    let mut first = limited(1, &Gate::new());
    let mut second = clone(&first);
    assert_ready_ok!(ready(&mut first));
    assert_pending!(ready(&mut second));
    drop(first);
    assert!(second.is_woken());
    assert_ready_ok!(ready(&mut second));
}

#[tokio::test]
async fn an_error_frees_the_slot_as_a_response_does() {
    let gate = Gate::new();
    let mut service = limited(1, &gate);
    assert_ready_ok!(ready(&mut service));
    let mut call = call!(service, 1);
    gate.end(1, Told::Err);
    assert!(matches!(call.poll(), Poll::Ready(Err(_))));
    assert_ready_ok!(ready(&mut service));
}

#[tokio::test]
async fn a_call_that_is_dropped_frees_the_slot() {
    let gate = Gate::new();
    let mut service = limited(1, &gate);
    assert_ready_ok!(ready(&mut service));
    let call = call!(service, 1);
    assert_pending!(ready(&mut service));
    drop(call);
    assert!(service.is_woken());
    assert_ready_ok!(ready(&mut service));
    assert_eq!(gate.dropped(), [1]);
}

#[tokio::test]
async fn a_free_slot_wakes_those_who_wait_one_after_the_other() {
    let mut first = limited(1, &Gate::new());
    let (mut second, mut third) = (clone(&first), clone(&first));
    assert_ready_ok!(ready(&mut first));
    assert_pending!(ready(&mut second));
    assert_pending!(ready(&mut third));
    drop(first);
    assert!(second.is_woken());
    assert!(!third.is_woken());
    drop(second);
    assert!(third.is_woken());
}
