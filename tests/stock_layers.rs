//! Where tower's own stack misbehaves, and this layer does not. For each symptom there is a test
//! that tower still has the symptom: if that test fails, tower has changed, and the docs have to
//! follow.

mod support;

use std::{convert::Infallible, task::Poll, time::Duration};

use futures::future::{join_all, poll_fn};
use support::{EXECUTIONS, builder, gate::Gate, settle};
use tokio::time::{sleep, timeout};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, task};
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt,
    buffer::Buffer,
    limit::{ConcurrencyLimit, GlobalConcurrencyLimitLayer},
    service_fn,
    timeout::error::Elapsed,
};
use tower_load_leveling::{Execution, Overflow};

const SECOND: Duration = Duration::from_secs(1);

/// An inner whose calls take one second, and whose error cannot happen.
async fn for_a_second(id: u32) -> Result<u32, Infallible> {
    sleep(SECOND).await;
    Ok(id)
}

/// Makes a service ready if it can be at once, as a load shedder does, and calls it.
trait CallWhenReady: Service<u32> {
    fn call_when_ready(&mut self, id: u32) -> Self::Future
    where
        Self::Error: std::fmt::Debug,
    {
        let mut ready = task::spawn(poll_fn(|cx| self.poll_ready(cx)));
        assert_ready!(ready.poll(), "a load shedder is always ready").expect("and does not fail");
        drop(ready);
        self.call(id)
    }
}

impl<S: Service<u32>> CallWhenReady for S {}

/// Calls 1000 times through a load shedder without a yield, and returns how many were refused.
async fn refused_of_1000<S>(inner: S) -> usize
where
    S: Service<u32, Response = u32, Error = BoxError> + Send + 'static,
    S::Future: Send,
{
    // On a task, since that is what has a budget.
    let flood = async move {
        let mut service = ServiceBuilder::new().load_shed().service(inner);
        let mut calls = Vec::new();
        for id in 0..1000 {
            poll_fn(|cx| service.poll_ready(cx)).await.expect("always ready");
            calls.push(service.call(id));
        }
        join_all(calls).await.iter().filter(|result| result.is_err()).count()
    };
    tokio::spawn(flood).await.expect("no panic")
}

#[tokio::test]
async fn a_loop_that_does_not_yield_is_not_refused() {
    let _t = support::trace_init();
    // Symptom: `LoadShed(Buffer(100000))` refuses 872 of 1000 calls with an almost empty queue,
    // since tokio's budget makes a semaphore that has permits report that it has none.
    for execution in EXECUTIONS {
        for overflow in [Overflow::Reject, Overflow::Wait, Overflow::EvictOldest] {
            let layer = builder(100_000, 1).execution(execution).overflow(overflow);
            let layer = layer.build().expect("valid");
            let refused = refused_of_1000(layer.layer(Gate::open().service())).await;
            assert_eq!(refused, 0, "there was room for all, with {overflow:?}");
        }
    }
}

#[tokio::test]
async fn stock_buffer_refuses_a_loop_that_does_not_yield() {
    let _t = support::trace_init();
    let refused = refused_of_1000(Buffer::new(Gate::open().service(), 100_000)).await;
    assert!(refused > 0, "with an almost empty queue");
}

/// One clone is refused and then left alone, while the service becomes idle. Returns how many of 20
/// fresh callers are refused after that.
async fn refused_beside_a_sleeping_clone<S>(gate: &Gate, service: S) -> usize
where
    S: Service<u32, Response = u32, Error = BoxError> + Clone,
{
    let mut running = task::spawn(service.clone().call_when_ready(0));
    let mut sleeping = service.clone();
    assert_pending!(running.poll());
    settle().await;
    // Polled once: were it admitted, the gate would keep it for ever.
    let refused = task::spawn(sleeping.call_when_ready(1)).poll();
    assert_ready_err!(refused, "all places are taken");
    gate.finish_all();
    running.await.expect("finished");
    settle().await;
    let mut refused = 0;
    for id in 2..22 {
        refused += usize::from(service.clone().call_when_ready(id).await.is_err());
        settle().await;
    }
    drop(sleeping);
    refused
}

#[tokio::test]
async fn a_clone_left_asleep_does_not_block_others() {
    let _t = support::trace_init();
    // Symptom: `LoadShed` over `GlobalConcurrencyLimit(1)`: the permit that comes free belongs to a
    // clone that nobody polls, and 20 of 20 fresh callers are refused on an idle server.
    for execution in EXECUTIONS {
        for overflow in [Overflow::Reject, Overflow::Wait] {
            let gate = Gate::new();
            let layer = builder(0, 1).execution(execution).overflow(overflow);
            let layer = layer.build().expect("valid");
            let service = ServiceBuilder::new().load_shed().layer(layer).service(gate.service());
            let refused = refused_beside_a_sleeping_clone(&gate, service).await;
            assert_eq!(refused, 0, "the server is idle, with {overflow:?}");
        }
    }
}

#[tokio::test]
async fn stock_limit_gives_its_permit_to_a_clone_left_asleep() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let limit = GlobalConcurrencyLimitLayer::new(1);
    let inner = gate.clone();
    let service = ServiceBuilder::new()
        .load_shed()
        .layer(limit)
        .service_fn(move |id| inner.service().oneshot(id));
    assert_eq!(refused_beside_a_sleeping_clone(&gate, service).await, 20);
}

/// One caller keeps its response future and does not poll it. Returns how the next call ends.
async fn beside_a_kept_future<S>(mut service: S) -> Result<u32, Elapsed>
where
    S: Service<u32, Response = u32>,
    S::Error: std::fmt::Debug,
{
    let kept = service.ready().await.expect("ready").call(1);
    settle().await;
    let next = async { service.ready().await.expect("ready").call(2).await.expect("answered") };
    let result = timeout(3600 * SECOND, next).await.map_err(|_| Elapsed::new());
    drop(kept);
    result
}

#[tokio::test(start_paused = true)]
async fn a_response_future_that_is_kept_unpolled_holds_up_nobody() {
    let _t = support::trace_init();
    // Symptom: `Buffer(ConcurrencyLimit(1))`: one caller keeps the future of a short call without
    // polling it, and everybody else waits for ever.
    let layer = builder(4, 1).execution(Execution::Spawn).build().expect("valid");
    let answer = beside_a_kept_future(layer.layer(service_fn(for_a_second))).await;
    assert_eq!(answer.expect("an hour should be enough"), 2);
}

#[tokio::test(start_paused = true)]
async fn stock_buffer_waits_for_a_future_that_is_kept_unpolled() {
    let _t = support::trace_init();
    let inner = ConcurrencyLimit::new(service_fn(for_a_second), 1);
    beside_a_kept_future(Buffer::new(inner, 4)).await.expect_err("the kept future has the permit");
}

/// With one call running, four or five are queued and dropped. Returns how many of the next four
/// are admitted.
async fn admitted_after_cancelling<S>(service: S) -> usize
where
    S: Service<u32, Response = u32, Error = BoxError>,
{
    let mut service = ServiceBuilder::new().load_shed().service(service);
    let mut running = task::spawn(service.call_when_ready(0));
    assert_pending!(running.poll());
    settle().await;
    let mut queued = Vec::new();
    for id in 1..6 {
        let mut call = task::spawn(service.call_when_ready(id));
        if let Poll::Ready(result) = call.poll() {
            result.expect_err("the gate is shut");
        } else {
            queued.push(call);
        }
        settle().await;
    }
    assert!(queued.len() >= 4, "four should wait, at least");
    drop(queued);
    settle().await;
    let mut calls: Vec<_> = (6..10).map(|id| task::spawn(service.call_when_ready(id))).collect();
    calls.iter_mut().filter_map(|call| call.poll().is_pending().then_some(())).count()
}

#[tokio::test]
async fn places_of_cancelled_calls_are_free() {
    let _t = support::trace_init();
    // Symptom: `Buffer(4)`, 5 queued, all 5 cancelled, inner busy: still no free place.
    for execution in EXECUTIONS {
        for overflow in [Overflow::Reject, Overflow::Wait] {
            let gate = Gate::new();
            let layer = builder(4, 1).execution(execution).overflow(overflow);
            let layer = layer.build().expect("valid");
            let admitted = admitted_after_cancelling(layer.layer(gate.service())).await;
            assert_eq!(admitted, 4, "all four should be admitted, with {overflow:?}");
            assert_eq!(gate.called(), [0], "the inner should never see those that were dropped");
        }
    }
}

#[tokio::test]
async fn stock_buffer_keeps_the_places_of_cancelled_calls() {
    let _t = support::trace_init();
    let inner = ConcurrencyLimit::new(Gate::new().service(), 1);
    assert_eq!(admitted_after_cancelling(Buffer::new(inner, 4)).await, 0);
}

/// One call panics inside; returns how many of the next ten succeed.
async fn succeed_after_a_panic<S>(gate: &Gate, mut service: S) -> usize
where
    S: Service<u32, Response = u32, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    gate.panic_in_call();
    let panics = tokio::spawn(service.clone().oneshot(0));
    assert!(!matches!(panics.await, Ok(Ok(_))), "it should not get an answer");
    let mut succeeded = 0;
    for id in 1..11 {
        if let Ok(ready) = service.ready().await {
            succeeded += usize::from(ready.call(id).await.is_ok());
        }
    }
    succeeded
}

#[tokio::test]
async fn a_panic_in_an_inner_call_leaves_later_calls_alone() {
    let _t = support::trace_init();
    // Symptom: an inner `call` panics under `Buffer`, and every later call fails for good.
    for execution in EXECUTIONS {
        let gate = Gate::open();
        let layer = builder(4, 1).execution(execution).build().expect("valid");
        let succeeded = succeed_after_a_panic(&gate, layer.layer(gate.service())).await;
        assert_eq!(succeeded, 10, "the panic was of one call");
    }
}

#[tokio::test]
async fn stock_buffer_dies_of_a_panic_in_an_inner_call() {
    let _t = support::trace_init();
    let gate = Gate::open();
    let service = Buffer::new(gate.service(), 4);
    assert_eq!(succeed_after_a_panic(&gate, service).await, 0);
}

/// Calls 32 times while nothing ends; returns how many were admitted.
async fn admitted_while_nothing_ends<S>(service: S) -> usize
where
    S: Service<u32, Response = u32, Error = BoxError>,
{
    let mut service = ServiceBuilder::new().load_shed().service(service);
    let mut admitted = Vec::new();
    // With a rest after each call, so that the stock buffer can take in what it is able to.
    for id in 0..32 {
        let mut call = task::spawn(service.call_when_ready(id));
        match call.poll() {
            Poll::Pending => admitted.push(call),
            Poll::Ready(result) => drop(result.expect_err("the gate is shut")),
        }
        settle().await;
    }
    admitted.len()
}

#[tokio::test]
async fn capacity_plus_limit_is_the_exact_bound() {
    let _t = support::trace_init();
    // Symptom: `Buffer(b)` over `ConcurrencyLimit(n)` admits b + n + 1.
    for execution in EXECUTIONS {
        for overflow in [Overflow::Reject, Overflow::Wait] {
            for capacity in [0, 1, 4] {
                let layer = builder(capacity, 2).execution(execution).overflow(overflow);
                let layer = layer.build().expect("valid");
                let admitted =
                    admitted_while_nothing_ends(layer.layer(Gate::new().service())).await;
                assert_eq!(admitted, capacity + 2, "with {overflow:?}");
            }
        }
    }
}

#[tokio::test]
async fn stock_buffer_admits_one_more() {
    let _t = support::trace_init();
    let inner = ConcurrencyLimit::new(Gate::new().service(), 2);
    assert_eq!(admitted_while_nothing_ends(Buffer::new(inner, 4)).await, 4 + 2 + 1);
}

#[tokio::test(start_paused = true)]
async fn no_more_callers_wait_than_there_is_room_for() {
    let _t = support::trace_init();
    // Symptom: in front of a bulkhead with a maximum wait, 20 000 of 20 000 callers wait.
    let gate = Gate::new();
    let layer = builder(100, 1).max_wait(SECOND).build().expect("valid");
    let service = layer.layer(gate.service());
    let mut calls: Vec<_> =
        (0..20_000).map(|id| task::spawn(service.clone().oneshot(id))).collect();
    let waiting = calls.iter_mut().filter_map(|call| call.poll().is_pending().then_some(()));
    assert_eq!(waiting.count(), 101, "one runs, 100 wait, the others are told at once");
    assert_eq!(layer.handle().stats().refused.full, 20_000 - 101);
}
