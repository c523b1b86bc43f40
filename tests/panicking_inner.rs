//! Law 10: a panic reaches its own caller and nobody else.

mod support;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    task::{Context, Poll},
};

use futures::FutureExt;
use support::{
    EXECUTIONS, builder,
    gate::{Door, Gate, Told},
    settle,
};
use tokio_test::{assert_pending, task};
use tower::{BoxError, Layer, Service, service_fn};
use tower_load_leveling::{Class, LoadLevelLayer, error::Rejected, limit::Outcome};

/// Awaits a call in its own task and returns what it panicked with.
async fn panic_of<F>(call: F) -> String
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    let error = tokio::spawn(call.map(drop)).await.expect_err("the panic should reach the caller");
    let payload = error.into_panic();
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(|text| text.to_string())).expect("a text")
}

#[tokio::test]
async fn a_panic_in_the_future_reaches_its_caller_only() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let gate = Gate::new();
        let layer = builder(10, 1).execution(execution).build().expect("valid");
        let mut service = layer.layer(gate.service());
        let panics = tokio::spawn(panic_of(service.call(0)));
        let queued = tokio::spawn(service.call(1));
        settle().await;
        gate.end(0, Told::Panic);
        assert_eq!(panics.await.expect("no panic"), "the future of 0 panics");
        settle().await;
        gate.finish(1);
        assert_eq!(queued.await.expect("no panic").expect("answered"), 1);
        assert_eq!(layer.handle().stats().panicked, 1);
    }
}

#[tokio::test]
async fn a_panic_in_call_leaves_later_calls_alone() {
    let _t = support::trace_init();
    // Symptom: an inner `call` panics under `Buffer`, and every later call fails for good.
    for execution in EXECUTIONS {
        for queued in [false, true] {
            let gate = Gate::open();
            let layer = builder(10, 1).execution(execution).build().expect("valid");
            let mut service = layer.layer(gate.service());
            gate.panic_in_call();
            if queued {
                layer.handle().pause();
            }
            let mut again = service.clone();
            let panics = tokio::spawn(panic_of(async move { again.call(0).await }));
            settle().await;
            layer.handle().resume();
            assert_eq!(panics.await.expect("no panic"), "the call of 0 panics");
            assert_eq!(service.call(1).await.expect("answered"), 1);
            let stats = layer.handle().stats();
            assert_eq!((stats.panicked, stats.succeeded, stats.in_flight), (1, 1, 0));
        }
    }
}

#[tokio::test]
async fn a_panic_in_poll_ready_reaches_the_request_at_hand_only() {
    let _t = support::trace_init();
    for queued in [false, true] {
        let (gate, door) = (Gate::open(), Door::default());
        let layer = LoadLevelLayer::new(10, 1);
        let mut service = layer.layer(gate.service_behind(&door));
        door.panic();
        if queued {
            layer.handle().pause();
        }
        let mut again = service.clone();
        let panics = tokio::spawn(panic_of(async move { again.call(0).await }));
        settle().await;
        layer.handle().resume();
        assert_eq!(panics.await.expect("no panic"), "the door panics");
        assert_eq!(service.call(1).await.expect("answered"), 1);
        assert_eq!(layer.handle().stats().panicked, 1);
    }
}

#[tokio::test]
async fn a_panic_in_a_classifier_is_the_callers_own() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let layer = builder(10, 1)
            .execution(execution)
            .classify_request(|id: &u32| if *id == 0 { panic!("request") } else { Class::new() })
            .classify_response(|result: Result<&u32, &BoxError>| match result {
                Ok(1) => panic!("response"),
                _ => Outcome::Success,
            })
            .build()
            .expect("valid");
        let mut service = layer.layer(Gate::open().service());
        let panic = catch_unwind(AssertUnwindSafe(|| drop(service.call(0))));
        assert!(panic.is_err(), "nothing was admitted, so `call` itself may panic");
        assert_eq!(layer.handle().stats().admitted, 0);
        assert_eq!(panic_of(service.call(1)).await, "response");
        assert_eq!(service.call(2).await.expect("answered"), 2);
        layer.handle().idle().await;
    }
}

#[tokio::test]
async fn a_panic_while_a_request_is_dropped_hurts_nobody_else() {
    let _t = support::trace_init();
    struct Bomb(bool);
    impl Drop for Bomb {
        fn drop(&mut self) {
            if self.0 {
                panic!("dropped");
            }
        }
    }
    let layer = LoadLevelLayer::new(10, 1);
    let mut service = layer.layer(service_fn(|bomb: Bomb| async move {
        std::mem::forget(bomb);
        Ok::<_, std::io::Error>(())
    }));
    layer.handle().pause();
    let removed = service.call(Bomb(true));
    let cancelled = service.call(Bomb(true));
    settle().await;
    assert!(catch_unwind(AssertUnwindSafe(|| drop(cancelled))).is_err());
    let _ = catch_unwind(AssertUnwindSafe(|| layer.handle().abort_queued()));
    removed.await.expect_err("removed");
    layer.handle().resume();
    service.call(Bomb(false)).await.expect("the drain task should be alive");
    let stats = layer.handle().stats();
    assert_eq!((stats.queued, stats.cancelled, stats.removed.closed), (0, 1, 1));
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

/// Cannot be made ready.
struct Unready(fn() -> Result<(), BoxError>);

impl Service<Bomb> for Unready {
    type Response = ();
    type Error = BoxError;
    type Future = std::future::Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready((self.0)())
    }

    fn call(&mut self, _: Bomb) -> Self::Future {
        unreachable!("it is not ready")
    }
}

#[tokio::test]
async fn a_panic_while_a_request_is_dropped_that_its_inner_cannot_take_frees_what_it_had() {
    let _t = support::trace_init();
    for (bypass, queued) in [(false, false), (false, true), (true, false)] {
        for readiness in [(|| Err("dead".into())) as fn() -> _, || panic!("poll_ready")] {
            let layer = builder(1, 1)
                .classify_request(
                    move |_: &Bomb| {
                        if bypass { Class::bypass() } else { Class::new() }
                    },
                )
                .build()
                .expect("valid");
            let service = layer.layer(Unready(readiness));
            // More often than there is room for those that are lost.
            for _ in 0..3 {
                if queued {
                    layer.handle().pause();
                }
                let mut again = service.clone();
                let call = tokio::spawn(async move { again.call(Bomb).await });
                settle().await;
                layer.handle().resume();
                match call.await {
                    Ok(answer) => assert!(!answer.expect_err("not ready").is::<Rejected>()),
                    Err(error) => assert!(error.is_panic()),
                }
                let stats = layer.handle().stats();
                assert_eq!((stats.queued, stats.slots_taken, stats.bypassing), (0, 0, 0));
            }
        }
    }
}

#[tokio::test]
async fn a_panic_while_a_future_is_dropped_frees_its_slot() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let layer = builder(10, 1).execution(execution).build().expect("valid");
        let mut service = layer.layer(service_fn(|explode: bool| async move {
            let _bomb = explode.then(|| Bomb);
            if explode {
                std::future::pending::<()>().await;
            }
            Ok::<_, std::io::Error>(())
        }));
        let mut running = task::spawn(service.call(true));
        assert_pending!(running.poll());
        settle().await;
        assert_pending!(running.poll());
        let _ = catch_unwind(AssertUnwindSafe(|| drop(running)));
        settle().await;
        assert_eq!(layer.handle().stats().in_flight, 0, "the slot should be free");
        service.call(false).await.expect("answered");
    }
}

/// Fails when it is polled ready, and panics when it is dropped.
struct FailsAndPanics;

impl Service<u32> for FailsAndPanics {
    type Response = u32;
    type Error = std::io::Error;
    type Future = std::future::Ready<Result<u32, std::io::Error>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Err(std::io::Error::other("no backend")))
    }

    fn call(&mut self, request: u32) -> Self::Future {
        std::future::ready(Ok(request))
    }
}

impl Drop for FailsAndPanics {
    fn drop(&mut self) {
        panic!("as told");
    }
}

#[tokio::test]
async fn an_inner_whose_last_request_ends_it_answers_before_its_drop() {
    let layer = LoadLevelLayer::new(4, 1);
    layer.handle().pause();
    let mut service = layer.layer(FailsAndPanics);
    let call = service.call(1);
    // The request holds the inner alone now.
    drop(service);
    layer.handle().resume();
    let error = call.await.expect_err("it has failed");
    assert_eq!(error.to_string(), "no backend");
}
