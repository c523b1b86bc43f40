//! Nothing that waits for a place is invisible, or waits longer than `max_wait` (law 21).

mod support;

use std::{future::poll_fn, task::Poll, thread, time::Duration};

use support::{EXECUTIONS, builder, gate::Gate, reason, rejection, settle};
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt};
use tower_load_leveling::{LoadLevelLayer, Overflow, error::Reason};

const MAX_WAIT: Duration = Duration::from_millis(100);

fn waiting(capacity: usize, limit: usize) -> LoadLevelLayer {
    builder(capacity, limit).overflow(Overflow::Wait).max_wait(MAX_WAIT).build().expect("valid")
}

fn ready<S: Service<u32> + Unpin>(service: &mut task::Spawn<S>) -> Poll<Result<(), S::Error>> {
    service.enter(|cx, mut service| service.poll_ready(cx))
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_a_place_are_counted() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let gate = Gate::new();
        let layer = builder(4, 2).overflow(Overflow::Wait).execution(execution).build();
        let layer = layer.expect("valid");
        let (service, handle) = (layer.layer(gate.service()), layer.handle());
        let mut calls: Vec<_> =
            (0..50).map(|id| task::spawn(service.clone().oneshot(id))).collect();
        for call in &mut calls {
            assert_pending!(call.poll());
        }
        settle().await;
        advance(Duration::from_secs(3)).await;
        let stats = handle.stats();
        assert_eq!((stats.in_flight, stats.queued, stats.waiting_for_place), (2, 4, 44));
        assert_eq!(stats.longest_wait_for_place, Some(Duration::from_secs(3)));
        assert_eq!((stats.reserved, stats.wait_for_place.count()), (0, 0));
        // Those who are woken and have not come yet wait as well.
        gate.finish(0);
        settle().await;
        assert_ready_ok!(calls[0].poll());
        assert_eq!(handle.stats().waiting_for_place, 44);
        assert_pending!(calls[6].poll());
        let stats = handle.stats();
        assert_eq!((stats.waiting_for_place, stats.wait_for_place.count()), (43, 1));
        assert!(stats.wait_for_place.quantile(1.0) >= Some(Duration::from_secs(3)));
        drop(calls);
        assert_eq!(handle.stats().waiting_for_place, 0);
        assert_eq!(handle.stats().longest_wait_for_place, None);
    }
}

#[tokio::test]
async fn a_reserved_place_is_counted_until_it_is_used_or_given_back() {
    let _t = support::trace_init();
    let layer = waiting(0, 2);
    let (service, handle) = (layer.layer(Gate::new().service()), layer.handle());
    let mut idle = [service.clone(), service.clone()].map(task::spawn);
    idle.iter_mut().for_each(|worker| assert_ready_ok!(ready(worker)));
    assert_eq!((handle.stats().reserved, handle.room()), (2, 0));
    let mut third = task::spawn(service.clone());
    assert_pending!(ready(&mut third));
    assert_eq!(handle.stats().waiting_for_place, 1);
    let [mut first, second] = idle;
    let call = first.enter(|_, mut service| service.call(0));
    assert_eq!(handle.stats().reserved, 1);
    drop(second);
    assert_eq!(handle.stats().reserved, 0);
    assert!(third.is_woken());
    drop(call);
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_place_ends_in_time_and_the_call_is_refused() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let gate = Gate::new();
        let layer = builder(0, 1).overflow(Overflow::Wait).max_wait(MAX_WAIT);
        let layer = layer.execution(execution).build().expect("valid");
        let (mut service, handle) = (layer.layer(gate.service()), layer.handle());
        let mut running = task::spawn(service.clone().oneshot(0));
        assert_pending!(running.poll());
        let start = Instant::now();
        poll_fn(|cx| Service::<u32>::poll_ready(&mut service, cx)).await.expect("no error");
        let waited = start.elapsed();
        assert!((MAX_WAIT..=MAX_WAIT + Duration::from_millis(2)).contains(&waited), "{waited:?}");
        assert_eq!((handle.stats().waiting_for_place, handle.stats().reserved), (0, 0));
        let rejected = rejection(service.call(1).await);
        assert_eq!(rejected.reason(), Reason::MaxWait);
        assert!(rejected.waited() >= MAX_WAIT);
        let stats = handle.stats();
        assert_eq!((stats.refused.get(Reason::MaxWait), stats.refused.total()), (1, 1));
        assert_eq!((stats.admitted, stats.removed.total()), (1, 0));
        assert_eq!(stats.wait_for_place.count(), 1);
        // The next call is decided afresh.
        assert_eq!(reason(service.call(2).await), Reason::Full);
        gate.finish(0);
        running.await.expect("it ran");
        assert_eq!(gate.called(), [0]);
        drop(task::spawn(service.call(3)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_asked_again_after_its_wait_takes_a_place_that_is_free_by_then() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = waiting(0, 1);
    let mut service = task::spawn(layer.layer(gate.service()));
    let running = service.enter(|_, mut service| service.call(0));
    assert_pending!(ready(&mut service));
    advance(MAX_WAIT).await;
    assert!(service.is_woken());
    assert_ready_ok!(ready(&mut service));
    gate.finish_all();
    running.await.expect("it ran");
    assert_ready_ok!(ready(&mut service));
    assert_eq!(layer.handle().stats().reserved, 1);
    service.enter(|_, mut service| service.call(1)).await.expect("there is a place");
}

#[tokio::test(start_paused = true)]
async fn a_new_wait_limit_holds_for_those_who_begin_to_wait() {
    let _t = support::trace_init();
    let layer = builder(0, 1).overflow(Overflow::Wait).build().expect("valid");
    let mut service = layer.layer(Gate::new().service());
    let _running = service.call(0);
    let mut unbounded = task::spawn(service.clone());
    assert_pending!(ready(&mut unbounded));
    layer.handle().set_max_wait(Some(Duration::ZERO));
    assert_ready_ok!(ready(&mut task::spawn(service.clone())));
    layer.handle().set_max_wait(Some(MAX_WAIT));
    let mut bounded = task::spawn(service.clone());
    assert_pending!(ready(&mut bounded));
    layer.handle().set_max_wait(None);
    advance(MAX_WAIT).await;
    assert!(bounded.is_woken());
    assert_ready_ok!(ready(&mut bounded));
    assert_pending!(ready(&mut unbounded));
    // A clone of one whose wait is over waits for itself.
    assert_pending!(ready(&mut task::spawn(bounded.clone())));
}

#[tokio::test]
async fn a_woken_service_that_leaves_hands_its_wake_up_on() {
    let _t = support::trace_init();
    let layer = waiting(0, 1);
    let service = layer.layer(Gate::open().service());
    let [mut first, mut second, mut third] = [(); 3].map(|()| task::spawn(service.clone()));
    assert_ready_ok!(ready(&mut first));
    assert_pending!(ready(&mut second));
    assert_pending!(ready(&mut third));
    drop(first);
    assert!(second.is_woken() && !third.is_woken());
    drop(second);
    assert!(third.is_woken());
    assert_ready_ok!(ready(&mut third));
}

#[test]
fn off_any_runtime_nobody_waits_for_a_place_without_a_limit_in_time() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_time().build().expect("a runtime");
    // So long that a call without a runtime ends before it on any machine, or never.
    let waits = [(false, Duration::from_secs(60 * 60)), (true, Duration::from_millis(20))];
    for (is_given, max_wait) in waits {
        let builder = builder(0, 1).overflow(Overflow::Wait).max_wait(max_wait);
        let builder = if is_given { builder.runtime(runtime.handle().clone()) } else { builder };
        let layer = builder.build().expect("valid");
        let mut service = layer.layer(Gate::new().service());
        let entered = runtime.enter();
        let _running = service.call(0);
        drop(entered);
        let ended = thread::spawn(move || {
            let start = std::time::Instant::now();
            let ready = poll_fn(|cx| Service::<u32>::poll_ready(&mut service, cx));
            futures::executor::block_on(ready).expect("no error");
            let waited = start.elapsed();
            (reason(futures::executor::block_on(service.call(1))), waited)
        });
        let (reason, waited) = ended.join().expect("no panic");
        assert_eq!(reason, Reason::MaxWait);
        assert_eq!(waited >= max_wait, is_given, "without a runtime no time is kept");
    }
}
