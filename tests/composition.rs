//! Together with tower's own layers, inside and outside.

mod support;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::future::join_all;
use support::{
    EXECUTIONS, builder,
    gate::{Failed, Gate},
    reason, settle,
};
use tokio::time::{Instant, Sleep, sleep};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt,
    retry::Policy,
    service_fn,
    timeout::error::Elapsed,
    util::{BoxCloneService, BoxCloneSyncService, BoxService},
};
use tower_load_leveling::{LoadLevelLayer, Overflow, error::Reason};

const SECOND: Duration = Duration::from_secs(1);

/// Calls `service` for each of `ids` at once, and returns the results in that order.
async fn call_all<S>(service: &S, ids: std::ops::Range<u32>) -> Vec<Result<u32, BoxError>>
where
    S: Service<u32, Response = u32, Error = BoxError> + Clone,
{
    join_all(ids.map(|id| service.clone().oneshot(id))).await
}

#[track_caller]
fn assert_answers(results: &[Result<u32, BoxError>], ids: std::ops::Range<u32>) {
    let answers: Vec<_> = results.iter().map(|result| result.as_ref().ok().copied()).collect();
    let expected: Vec<_> = ids.map(Some).collect();
    assert_eq!(answers, expected, "every call should get its own answer: {results:?}");
}

/// An inner whose calls take one second, and whose error cannot happen.
async fn for_a_second(id: u32) -> Result<u32, Infallible> {
    sleep(SECOND).await;
    Ok(id)
}

// Timeouts.

#[tokio::test(start_paused = true)]
async fn a_timeout_inside_bounds_running_alone() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let gate = Gate::new();
        let layer = builder(4, 1).execution(execution).build().expect("valid");
        let service =
            ServiceBuilder::new().layer(layer.clone()).timeout(SECOND).service(gate.service());
        let start = Instant::now();
        let calls = [1, 2].map(|id| tokio::spawn(service.clone().oneshot(id)));
        for (call, seconds) in calls.into_iter().zip([1, 2]) {
            let error = call.await.expect("no panic").expect_err("the gate never opens");
            assert!(
                error.downcast_ref::<Elapsed>().is_some(),
                "the timeout's own error should come through unwrapped: {error:?}"
            );
            assert_eq!(
                start.elapsed().as_secs(),
                seconds,
                "the second should have its whole time, after the first"
            );
        }
        settle().await;
        let stats = layer.handle().stats();
        assert_eq!(gate.dropped(), [1, 2], "both should have been started, and cut off");
        assert_eq!((stats.failed, stats.cancelled, stats.in_flight), (2, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_outside_bounds_waiting_and_running_and_frees_the_place() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let gate = Gate::new();
        let layer = builder(1, 1).execution(execution).build().expect("valid");
        let service =
            ServiceBuilder::new().timeout(SECOND).layer(layer.clone()).service(gate.service());
        let start = Instant::now();
        let calls = [1, 2].map(|id| tokio::spawn(service.clone().oneshot(id)));
        for call in calls {
            let error = call.await.expect("no panic").expect_err("the gate never opens");
            assert!(error.is::<Elapsed>(), "the timeout should fire: {error:?}");
        }
        assert_eq!(start.elapsed().as_secs(), 1, "both should be answered after the same second");
        settle().await;
        let stats = layer.handle().stats();
        assert_eq!((stats.queued, stats.in_flight), (0, 0), "both places should be free");
        assert_eq!(stats.cancelled, 2);
        assert_eq!(gate.called(), [1], "the one that waited should never reach the inner");
        assert_eq!(gate.dropped(), [1], "the one that ran should be dropped");
        gate.finish_all();
        assert_answers(&call_all(&service, 3..5).await, 3..5);
    }
}

// Retries.

/// Tries again when the layer has rejected the request, and then only.
#[derive(Clone)]
struct RetryRejected;

impl<Res> Policy<u32, Res, BoxError> for RetryRejected {
    type Future = Sleep;

    fn retry(&mut self, _: &mut u32, result: &mut Result<Res, BoxError>) -> Option<Sleep> {
        let error = result.as_ref().err()?;
        let rejected = error.downcast_ref::<tower_load_leveling::error::Rejected>()?;
        Some(sleep(rejected.retry_after().unwrap_or(SECOND)))
    }

    fn clone_request(&mut self, id: &u32) -> Option<u32> {
        Some(*id)
    }
}

/// Tries again at once, whatever has failed.
#[derive(Clone)]
struct RetryErrors;

impl<Res, E> Policy<u32, Res, E> for RetryErrors {
    type Future = std::future::Ready<()>;

    fn retry(&mut self, _: &mut u32, result: &mut Result<Res, E>) -> Option<Self::Future> {
        result.is_err().then(|| std::future::ready(()))
    }

    fn clone_request(&mut self, id: &u32) -> Option<u32> {
        Some(*id)
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_outside_holds_nothing_while_it_backs_off() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let gate = Gate::new();
        let layer = builder(0, 1).execution(execution).build().expect("valid");
        let handle = layer.handle();
        let service =
            ServiceBuilder::new().retry(RetryRejected).layer(layer).service(gate.service());
        let running = tokio::spawn(service.clone().oneshot(1));
        settle().await;
        let retried = tokio::spawn(service.clone().oneshot(2));
        settle().await;
        let stats = handle.stats();
        assert_eq!(stats.refused.full, 1, "the first attempt should be refused");
        assert_eq!((stats.queued, stats.in_flight), (0, 1), "and should hold no place meanwhile");
        gate.finish_all();
        assert_eq!(running.await.expect("no panic").expect("finished"), 1);
        assert_eq!(retried.await.expect("no panic").expect("the retry should succeed"), 2);
        assert_eq!(gate.called(), [1, 2], "a rejected attempt should never reach the inner");
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_inside_keeps_its_one_slot_for_all_attempts() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let attempts = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&attempts);
        let layer = builder(4, 1).execution(execution).build().expect("valid");
        let service = ServiceBuilder::new().layer(layer.clone()).retry(RetryErrors).service_fn(
            move |id: u32| {
                let attempt = counted.fetch_add(1, SeqCst);
                async move { if attempt < 2 { Err(Failed(id)) } else { Ok(id) } }
            },
        );
        assert_eq!(service.oneshot(7).await.expect("the third attempt succeeds"), 7);
        let stats = layer.handle().stats();
        assert_eq!(attempts.load(SeqCst), 3);
        assert_eq!((stats.admitted, stats.succeeded, stats.failed), (1, 1, 0));
    }
}

// Limits of tower's own.

#[tokio::test(start_paused = true)]
async fn a_concurrency_limit_inside_holds_too() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let layer = builder(8, 4).execution(execution).build().expect("valid");
        let service = ServiceBuilder::new()
            .layer(layer.clone())
            .concurrency_limit(1)
            .service_fn(for_a_second);
        let start = Instant::now();
        assert_answers(&call_all(&service, 0..4).await, 0..4);
        assert_eq!(start.elapsed().as_secs(), 4, "the narrower limit should set the pace");
    }
}

#[tokio::test(start_paused = true)]
async fn a_concurrency_limit_outside_bounds_how_many_wait() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let layer = builder(1, 1).execution(execution).build().expect("valid");
        let service = ServiceBuilder::new()
            .concurrency_limit(2)
            .layer(layer.clone())
            .service_fn(for_a_second);
        let start = Instant::now();
        assert_answers(&call_all(&service, 0..6).await, 0..6);
        assert_eq!(start.elapsed().as_secs(), 6, "our limit of 1 should set the pace");
        assert_eq!(layer.handle().stats().refused.total(), 0, "no more than 2 should come in");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_inside_spaces_dispatch_and_takes_no_slot() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let gate = Gate::open();
        let layer = builder(8, 4).execution(execution).build().expect("valid");
        let service = ServiceBuilder::new()
            .layer(layer.clone())
            .rate_limit(1, SECOND)
            .service(gate.service());
        let start = Instant::now();
        let calls = task::spawn(call_all(&service, 0..3));
        let mut calls = calls;
        assert_pending!(calls.poll());
        settle().await;
        let stats = layer.handle().stats();
        assert_eq!(stats.queued, 2, "two should wait for the rate");
        assert!(stats.in_flight <= 1, "waiting for readiness takes no slot: {stats:?}");
        assert_answers(&calls.await, 0..3);
        assert_eq!(start.elapsed().as_secs(), 2, "at 0, 1 and 2 seconds");
        assert_eq!(gate.called(), [0, 1, 2]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_outside_spaces_admission() {
    let _t = support::trace_init();
    let gate = Gate::open();
    let layer = builder(0, 1).build().expect("valid");
    let mut service =
        ServiceBuilder::new().rate_limit(1, SECOND).layer(layer).service(gate.service());
    let start = Instant::now();
    for id in 0..3 {
        let call = service.ready().await.expect("ready").call(id);
        assert_eq!(call.await.expect("one at a time needs no queue"), id);
    }
    assert_eq!(start.elapsed().as_secs(), 2, "at 0, 1 and 2 seconds");
}

// Buffers.

#[tokio::test]
async fn a_buffer_outside_feeds_a_leveler_that_makes_it_wait() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let gate = Gate::new();
        let layer =
            builder(1, 1).overflow(Overflow::Wait).execution(execution).build().expect("valid");
        let service = ServiceBuilder::new().buffer(64).layer(layer.clone()).service(gate.service());
        let mut calls = task::spawn(call_all(&service, 0..32));
        assert_pending!(calls.poll());
        settle().await;
        let stats = layer.handle().stats();
        assert_eq!((stats.queued, stats.in_flight), (1, 1), "the others should wait in the buffer");
        assert_eq!(stats.refused.total(), 0);
        gate.finish_all();
        assert_answers(&calls.await, 0..32);
        assert_eq!(gate.peak(), 1);
    }
}

#[tokio::test]
async fn a_buffer_inside_passes_the_limit_on() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let gate = Gate::new();
        let layer = builder(64, 2).execution(execution).build().expect("valid");
        let service = ServiceBuilder::new().layer(layer).buffer(8).service(gate.service());
        let mut calls = task::spawn(call_all(&service, 0..32));
        assert_pending!(calls.poll());
        settle().await;
        assert_eq!(gate.running(), 2, "no more than our limit should pass into the buffer");
        gate.finish_all();
        assert_answers(&calls.await, 0..32);
        assert_eq!(gate.peak(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn all_of_them_at_once() {
    let _t = support::trace_init();
    let running = Arc::new(AtomicUsize::new(0));
    let peak = Arc::new(AtomicUsize::new(0));
    let counted = (Arc::clone(&running), Arc::clone(&peak));
    let service = ServiceBuilder::new()
        .load_shed()
        .buffer(128)
        .timeout(60 * SECOND)
        .retry(RetryErrors)
        .layer(LoadLevelLayer::new(128, 4))
        .concurrency_limit(3)
        .rate_limit(10, SECOND)
        .timeout(2 * SECOND)
        .map_err(BoxError::from)
        .service_fn(move |id: u32| {
            let (running, peak) = counted.clone();
            async move {
                peak.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                let answer = for_a_second(id).await;
                running.fetch_sub(1, SeqCst);
                answer
            }
        });
    assert_answers(&call_all(&service, 0..100).await, 0..100);
    assert_eq!(peak.load(SeqCst), 3, "the narrowest limit should be reached and never passed");
}

// What the inner may be, and what becomes of its errors.

#[tokio::test]
async fn a_boxed_inner_that_is_neither_clone_nor_sync_can_be_shared() {
    let _t = support::trace_init();
    let gate = Gate::open();
    let layer = LoadLevelLayer::new(64, 2);
    let service = layer.layer(BoxService::new(gate.service()));
    let anywhere = BoxCloneSyncService::new(service.clone());
    let sent = BoxCloneService::new(service);
    assert_answers(&call_all(&anywhere, 0..8).await, 0..8);
    assert_answers(&call_all(&sent, 8..16).await, 8..16);
    assert_eq!(layer.handle().stats().succeeded, 16);
}

#[tokio::test]
async fn inner_errors_come_out_unwrapped() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let layer = builder(4, 1).execution(execution).build().expect("valid");
        let concrete = layer.layer(service_fn(|id: u32| async move { Err::<(), _>(Failed(id)) }));
        let boxed = layer
            .layer(service_fn(|id: u32| async move { Err::<(), BoxError>(Failed(id).into()) }));
        let gate = Gate::new();
        let mut hold = task::spawn(layer.layer(gate.service()).oneshot(0));
        // At first they are dispatched directly, then through the queue.
        for queued in [0, 2] {
            let mut first = task::spawn(concrete.clone().oneshot(1));
            let mut second = task::spawn(boxed.clone().oneshot(2));
            if queued > 0 {
                assert_pending!(hold.poll());
                assert_pending!(first.poll());
                assert_pending!(second.poll());
                assert_eq!(layer.handle().stats().queued, queued);
                gate.finish_all();
                // Under `Caller` its slot is free only when it has been polled.
                settle().await;
                assert_eq!(assert_ready_ok!(hold.poll()), 0);
            }
            let errors = [first.await, second.await].map(|result| result.expect_err("it fails"));
            for (error, id) in errors.into_iter().zip([1, 2]) {
                assert_eq!(
                    error.downcast_ref::<Failed>(),
                    Some(&Failed(id)),
                    "the error should be the inner's own, not boxed again: {error:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_can_be_told_from_the_errors_of_layers_outside() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let service = ServiceBuilder::new()
        .load_shed()
        .timeout(SECOND)
        .layer(LoadLevelLayer::new(0, 1))
        .service(gate.service());
    let mut running = task::spawn(service.clone().oneshot(1));
    assert_pending!(running.poll());
    settle().await;
    let refused = assert_ready!(task::spawn(service.clone().oneshot(2)).poll());
    assert_eq!(reason(refused), Reason::Full, "it is ours, not `Overloaded` of the load shedder");
    gate.finish_all();
    settle().await;
    assert_eq!(assert_ready_ok!(running.poll()), 1);
}
