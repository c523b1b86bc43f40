//! Law 1: a nested call that would have to wait without a bound is refused, so that calls that wait
//! for each other end.

mod support;

use std::{
    pin::Pin,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use support::{EXECUTIONS, builder, gate::Gate, reason, settle};
use tokio::{
    runtime::{self, Runtime},
    time::{Instant, timeout},
};
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn,
    util::{BoxCloneSyncService, BoxService},
};
use tower_load_leveling::{Abandon, Class, Execution, LoadLevelLayer, Overflow, error::Reason};

type Boxed = BoxCloneSyncService<u32, u32, BoxError>;
type Answer = Pin<Box<dyn Future<Output = Result<u32, BoxError>> + Send>>;

/// Where an inner makes its nested call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    Call,
    Poll,
}

/// An inner that calls `next` with one less, down to 0.
fn countdown(next: Arc<OnceLock<Boxed>>, at: At) -> Boxed {
    BoxCloneSyncService::new(service_fn(move |depth: u32| -> Answer {
        if depth == 0 {
            return Box::pin(async { Ok(0) });
        }
        let mut next = next.get().expect("set").clone();
        if at == At::Call {
            let answer = next.call(depth - 1);
            return Box::pin(async move { Ok(answer.await? + 1) });
        }
        Box::pin(async move {
            // All outer calls hold their slots before any nested call is made.
            settle().await;
            let next = next.ready().await?;
            Ok(next.call(depth - 1).await? + 1)
        })
    }))
}

/// A leveler whose inner calls it again.
fn nested(layer: &LoadLevelLayer, at: At) -> Boxed {
    let next = Arc::new(OnceLock::new());
    let service = BoxCloneSyncService::new(layer.layer(countdown(Arc::clone(&next), at)));
    next.set(service.clone()).expect("once");
    service
}

const SOON: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn nested_calls_end_although_outer_calls_hold_all_slots() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        for at in [At::Call, At::Poll] {
            let layer = builder(10, 2).execution(execution).build().expect("valid");
            let service = nested(&layer, at);
            let outer: Vec<_> = (0..2).map(|_| tokio::spawn(service.clone().oneshot(1))).collect();
            let mut refused = 0;
            for call in outer {
                let answer = timeout(SOON, call).await.expect("should end").expect("no panic");
                match answer {
                    Ok(answer) => assert_eq!(answer, 1),
                    Err(error) => {
                        assert_eq!(reason(Err::<u32, _>(error)), Reason::Nested);
                        refused += 1;
                    }
                }
            }
            let stats = layer.handle().stats();
            assert!(refused > 0 || at == At::Call, "{execution:?}, {at:?}");
            assert_eq!(stats.refused.nested + stats.removed.nested, refused);
            assert_eq!((stats.queued, stats.in_flight), (0, 0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_nested_call_is_served_by_a_free_slot_and_refused_at_once_without() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        for at in [At::Call, At::Poll] {
            let layer = builder(10, 3).execution(execution).build().expect("valid");
            let service = nested(&layer, at);
            let served = timeout(SOON, service.clone().oneshot(2)).await.expect("should end");
            assert_eq!(served.expect("three slots"), 2, "{execution:?}, {at:?}");
            let refused = timeout(SOON, service.oneshot(3)).await.expect("should end");
            assert_eq!(reason(refused), Reason::Nested, "{execution:?}, {at:?}");
        }
    }
}

/// A slot is free, but the request in front needs two, and so waits for the outer call.
#[tokio::test(start_paused = true)]
async fn a_nested_call_behind_a_heavy_request_is_refused_and_the_heavy_request_is_served() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let next = Arc::new(OnceLock::new());
        let layer = builder(10, 2)
            .execution(execution)
            .classify_request(|depth: &u32| Class::new().cost(if *depth == 0 { 2 } else { 1 }))
            .build()
            .expect("valid");
        let inner = countdown(Arc::clone(&next), At::Poll);
        let service = BoxCloneSyncService::new(layer.layer(inner));
        next.set(service.clone()).expect("once");
        let outer = tokio::spawn(service.clone().oneshot(2));
        tokio::task::yield_now().await;
        let heavy = tokio::spawn(service.oneshot(0));
        let answer = timeout(SOON, outer).await.expect("should end").expect("no panic");
        assert_eq!(reason(answer), Reason::Nested, "{execution:?}");
        let answer = timeout(SOON, heavy).await.expect("should end").expect("no panic");
        assert_eq!(answer.expect("served"), 0, "{execution:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_nested_call_with_a_bound_on_its_wait_waits() {
    let _t = support::trace_init();
    let limit = Duration::from_millis(50);
    for execution in EXECUTIONS {
        let layer = builder(10, 1).execution(execution).max_wait(limit).build().expect("valid");
        let start = Instant::now();
        let answer = timeout(SOON, nested(&layer, At::Poll).oneshot(1)).await.expect("should end");
        assert_eq!(reason(answer), Reason::MaxWait);
        assert!(start.elapsed() >= limit);
    }
    let next = Arc::new(OnceLock::new());
    let layer = builder(10, 1)
        .classify_request(move |_: &u32| Class::new().deadline(Instant::now() + limit))
        .build()
        .expect("valid");
    let service = BoxCloneSyncService::new(layer.layer(countdown(Arc::clone(&next), At::Poll)));
    next.set(service.clone()).expect("once");
    let answer = timeout(SOON, service.oneshot(1)).await.expect("should end");
    assert_eq!(reason(answer), Reason::Deadline);
}

/// A runtime that is driven by `block_on` only. Its clock goes on when nothing else can.
fn runtime() -> Runtime {
    let mut builder = runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(true).build().expect("a runtime")
}

#[test]
fn calls_handed_on_end_whatever_nested_calls_they_make() {
    for at in [At::Call, At::Poll] {
        let layer = builder(100, 3).build().expect("valid");
        let service = nested(&layer, at);
        // The drain task lives here, and is not driven afterwards: calls are handed on, or wait for
        // the drain task to move, which takes 50 ms.
        let idle = runtime();
        idle.block_on(service.clone().oneshot(0)).expect("served");
        runtime().block_on(async {
            let began = Instant::now();
            let depths = [1, 0, 0, 2, 0, 1, 0, 0, 1, 0, 2, 0, 0, 1, 0, 1, 2, 1];
            let calls = depths.map(|depth| tokio::spawn(service.clone().oneshot(depth)));
            let (mut served, mut refused) = (0, 0);
            for (call, depth) in calls.into_iter().zip(depths) {
                match call.await.expect("no panic") {
                    Ok(answer) => {
                        assert_eq!(answer, depth);
                        served += u32::from(depth > 0);
                    }
                    Err(error) => {
                        assert!(depth > 0, "it waits for no other");
                        assert_eq!(reason(Err::<u32, _>(error)), Reason::Nested);
                        refused += 1;
                    }
                }
            }
            // In its own `call` the inner is locked, and the nested call waits for the drain task.
            let moves = Duration::from_millis(if at == At::Call { 50 } else { 0 });
            assert_eq!(began.elapsed(), moves, "{at:?}: the rest was handed on");
            assert!(served > 0 && refused > 0, "{at:?}: {served} served, {refused} refused");
        });
        let stats = layer.handle().stats();
        assert_eq!((stats.queued, stats.in_flight), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_nested_call_is_seen_through_another_leveler() {
    let _t = support::trace_init();
    for (outer, middle) in EXECUTIONS.iter().flat_map(|a| EXECUTIONS.map(|b| (*a, b))) {
        for at in [At::Call, At::Poll] {
            let first = builder(10, 1).execution(outer).build().expect("valid");
            let second = builder(10, 9).execution(middle).build().expect("valid");
            let (next, after) = (Arc::new(OnceLock::new()), Arc::new(OnceLock::new()));
            let a = BoxCloneSyncService::new(first.layer(countdown(Arc::clone(&next), at)));
            let b = BoxCloneSyncService::new(second.layer(countdown(Arc::clone(&after), at)));
            next.set(b).expect("once");
            after.set(a.clone()).expect("once");
            let answer = timeout(SOON, a.oneshot(2)).await.expect("should end");
            assert_eq!(reason(answer), Reason::Nested, "{outer:?}, {middle:?}, {at:?}");
            assert_eq!(second.handle().stats().refused.nested, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_nested_call_is_seen_through_the_queue_of_another_leveler() {
    let _t = support::trace_init();
    let first = builder(10, 1).build().expect("valid");
    let second = builder(10, 1).build().expect("valid");
    let (next, after) = (Arc::new(OnceLock::new()), Arc::new(OnceLock::new()));
    let a = BoxCloneSyncService::new(first.layer(countdown(Arc::clone(&next), At::Poll)));
    let b = BoxCloneSyncService::new(second.layer(countdown(Arc::clone(&after), At::Poll)));
    next.set(b).expect("once");
    after.set(a.clone()).expect("once");
    second.handle().pause();
    let call = tokio::spawn(a.oneshot(2));
    settle().await;
    settle().await;
    assert_eq!(second.handle().stats().queued, 1);
    second.handle().resume();
    let answer = timeout(SOON, call).await.expect("should end").expect("no panic");
    assert_eq!(reason(answer), Reason::Nested);
}

#[tokio::test(start_paused = true)]
async fn work_left_behind_by_a_call_that_has_ended_waits_like_any_other() {
    let _t = support::trace_init();
    let first = builder(10, 1).build().expect("valid");
    let second = builder(10, 1).abandon(Abandon::Finish).build().expect("valid");
    let gate = Gate::new();
    let a = Arc::new(OnceLock::<Boxed>::new());
    // The middle one waits for a while, and calls the first one again.
    let middle = BoxCloneSyncService::new(second.layer(service_fn({
        let a = Arc::clone(&a);
        move |_: u32| {
            let a = a.get().expect("set").clone();
            async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                a.oneshot(1).await
            }
        }
    })));
    let mut inner = gate.service();
    let service = first.layer(service_fn(move |id: u32| {
        if id == 0 {
            drop(middle.clone().call(9));
        }
        let _ = std::task::Poll::is_ready(&Service::poll_ready(
            &mut inner,
            &mut std::task::Context::from_waker(std::task::Waker::noop()),
        ));
        inner.call(id)
    }));
    a.set(BoxCloneSyncService::new(service.clone())).expect("once");
    let outer = tokio::spawn(service.clone().oneshot(0));
    settle().await;
    gate.finish(0);
    outer.await.expect("no panic").expect("answered");
    let _full = tokio::spawn(service.oneshot(2));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let stats = first.handle().stats();
    assert_eq!((stats.queued, stats.refused.nested), (1, 0), "it waits");
}

#[tokio::test(start_paused = true)]
async fn a_call_in_a_task_of_the_inner_is_not_nested() {
    let _t = support::trace_init();
    let layer = builder(10, 1).build().expect("valid");
    let seen = Arc::new(Mutex::new(None));
    let itself = Arc::new(OnceLock::<Boxed>::new());
    let service = BoxCloneSyncService::new(layer.layer(service_fn({
        let (itself, seen) = (Arc::clone(&itself), Arc::clone(&seen));
        move |depth: u32| {
            let (itself, seen) = (itself.get().expect("set").clone(), Arc::clone(&seen));
            async move {
                if depth > 0 {
                    let call = tokio::spawn(async move { itself.oneshot(0).await });
                    *seen.lock().expect("whole") = Some(call);
                }
                Ok::<_, BoxError>(depth)
            }
        }
    })));
    itself.set(service.clone()).expect("once");
    assert_eq!(service.oneshot(1).await.expect("answered"), 1);
    let call = seen.lock().expect("whole").take().expect("made");
    assert_eq!(call.await.expect("no panic").expect("waited, and answered"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_nested_call_does_not_wait_for_a_place_either() {
    let _t = support::trace_init();
    for capacity in [0, 1] {
        let layer = builder(capacity, 1).overflow(Overflow::Wait).build().expect("valid");
        let waits = layer.layer(Gate::new().service());
        let service = nested(&layer, At::Poll);
        let outer = tokio::spawn(service.clone().oneshot(1));
        tokio::task::yield_now().await;
        // Takes the place that is left, if any.
        let queued = tokio::spawn(waits.oneshot(0));
        let answer = timeout(SOON, outer).await.expect("should end").expect("no panic");
        assert_eq!(reason(answer), Reason::Nested, "capacity {capacity}");
        queued.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_nested_call_does_not_wait_for_an_inner_that_the_outer_call_keeps_unready() {
    let _t = support::trace_init();
    let layer = builder(10, 4).build().expect("valid");
    let next = Arc::new(OnceLock::new());
    let inner =
        ServiceBuilder::new().concurrency_limit(1).service(countdown(Arc::clone(&next), At::Poll));
    let service = BoxCloneSyncService::new(layer.layer(inner));
    next.set(service.clone()).expect("once");
    // Others wait for the inner already.
    let outer = tokio::spawn(service.clone().oneshot(1));
    tokio::task::yield_now().await;
    let other = tokio::spawn(service.oneshot(0));
    let answer = timeout(SOON, outer).await.expect("should end").expect("no panic");
    assert_eq!(reason(answer), Reason::Nested);
    let answer = timeout(SOON, other).await.expect("should end").expect("no panic");
    assert_eq!(answer.expect("answered"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_nested_call_of_a_paused_leveler_is_refused_and_one_at_a_pace_waits() {
    let _t = support::trace_init();
    let layer = builder(10, 4).build().expect("valid");
    let service = nested(&layer, At::Poll);
    let call = tokio::spawn(service.oneshot(1));
    tokio::task::yield_now().await;
    layer.handle().pause();
    let answer = timeout(SOON, call).await.expect("should end").expect("no panic");
    assert_eq!(reason(answer), Reason::Nested);
    let layer = builder(10, 4).rate(10, Duration::from_secs(1)).build().expect("valid");
    let answer = timeout(SOON, nested(&layer, At::Poll).oneshot(1)).await.expect("should end");
    assert_eq!(answer.expect("a slot is free"), 1);
}

/// Bodies that call their own leveler while they are read.
#[cfg(feature = "http")]
mod bodies {
    use std::convert::Infallible;

    use bytes::Bytes;
    use futures::{FutureExt, StreamExt, future::BoxFuture};
    use http::Response;
    use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
    use tower_load_leveling::http::{HeldBody, Hold};

    use super::*;

    type Body = UnsyncBoxBody<Bytes, std::io::Error>;

    /// A body that calls `next` with one less, down to 0, and passes on what its body says.
    fn countdown(depth: u32, next: Arc<OnceLock<BoxCloneSyncService<u32, u32, BoxError>>>) -> Body {
        let frame = async move {
            if depth > 0 {
                let mut next = next.get().expect("set").clone();
                next.call(depth - 1).await.map_err(std::io::Error::other)?;
            }
            Ok(http_body::Frame::data(Bytes::from_static(b"end")))
        };
        StreamBody::new(frame.into_stream().boxed()).boxed_unsync()
    }

    /// Returns the error of the call that a body has made.
    fn unwrap(error: BoxError) -> BoxError {
        let error = error.downcast::<std::io::Error>().expect("the body's");
        error.into_inner().expect("the call's")
    }

    /// A leveler whose bodies call it again, through `outside`.
    fn nested(
        layer: impl Fn() -> tower_load_leveling::Builder,
        through_another: bool,
    ) -> (tower_load_leveling::Handle, BoxCloneSyncService<u32, u32, BoxError>) {
        let next = Arc::new(OnceLock::new());
        let layer = layer().hold_until(Hold::BodyEnd).build().expect("valid");
        let inner = service_fn({
            let next = Arc::clone(&next);
            move |depth| {
                let body = countdown(depth, Arc::clone(&next));
                async move { Ok::<_, Infallible>(Response::new(body)) }
            }
        });
        let levelled = layer.layer(inner);
        let read = service_fn(move |depth| -> Answer {
            let call: BoxFuture<'_, Result<Response<HeldBody<Body>>, BoxError>> =
                Box::pin(levelled.clone().oneshot(depth));
            Box::pin(async move {
                match call.await {
                    Ok(response) => response.into_body().collect().await.map(|_| 0).map_err(unwrap),
                    Err(error) => Err(error),
                }
            })
        });
        let service = match through_another {
            false => BoxCloneSyncService::new(read),
            true => BoxCloneSyncService::new(builder(10, 10).build().expect("valid").layer(read)),
        };
        next.set(service.clone()).expect("once");
        (layer.handle(), service)
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_a_body_makes_of_its_own_leveler_is_nested() {
        let _t = support::trace_init();
        for execution in EXECUTIONS {
            for through_another in [false, true] {
                let layer = || builder(10, 2).execution(execution);
                let (handle, service) = nested(layer, through_another);
                let when = format!("{execution:?}, through another: {through_another}");
                let served = timeout(SOON, service.clone().oneshot(1)).await.expect("should end");
                assert_eq!(served.expect("two slots"), 0, "{when}");
                let refused = timeout(SOON, service.clone().oneshot(2)).await.expect("should end");
                assert_eq!(reason(refused), Reason::Nested, "{when}");
                settle().await;
                let stats = handle.stats();
                assert_eq!((stats.queued, stats.in_flight), (0, 0), "{when}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_made_after_a_body_has_ended_waits_like_any_other() {
        let _t = support::trace_init();
        let (handle, service) = nested(|| builder(10, 1), false);
        service.clone().oneshot(0).await.expect("served");
        handle.pause();
        let waits = tokio::spawn(service.oneshot(0));
        settle().await;
        assert_eq!(handle.stats().queued, 1);
        handle.resume();
        waits.await.expect("no panic").expect("served");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_nested_call_leaves_nothing_behind_on_the_thread() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let layer = builder(10, 1).execution(execution).build().expect("valid");
        let panics = layer.layer(service_fn(|_: u32| async {
            settle().await;
            if true {
                panic!("of the inner");
            }
            Ok::<_, BoxError>(0)
        }));
        tokio::spawn(panics.oneshot(0)).await.expect_err("panics");
        let gate = Gate::new();
        let service = layer.layer(gate.service());
        let running = tokio::spawn(service.clone().oneshot(1));
        settle().await;
        let waits = tokio::spawn(service.oneshot(2));
        settle().await;
        assert_eq!(layer.handle().stats().queued, 1, "it is not nested, and waits");
        gate.finish_all();
        running.await.expect("no panic").expect("answered");
        waits.await.expect("no panic").expect("answered");
    }
}

#[test]
fn what_an_operator_reads() {
    assert_eq!(Reason::Nested.as_str(), "nested");
    assert_eq!(Reason::Nested.to_string(), "a nested call would wait without a bound");
    assert!(Reason::ALL.contains(&Reason::Nested));
    let _: Option<BoxService<(), (), ()>> = None;
    let _ = Execution::Spawn;
}
