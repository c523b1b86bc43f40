//! Laws 4 and 5 in bytes: what a call, a refusal and a loop of abandoned calls allocate. Counted
//! per thread, on a runtime that has one, so what the drain task and the task of a call allocate is
//! in it.

mod support;

use std::{
    future::{Ready, pending, ready},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use allocation_counter::{AllocationInfo, measure};
use futures::FutureExt;
use support::builder;
use tokio::runtime::{Builder, Runtime};
use tower::{BoxError, Layer, Service, service_fn};
use tower_load_leveling::{Execution, LoadLevelLayer};

fn runtime() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime")
}

/// What 100 calls allocate, one after the other, once everything has grown to its size.
fn of_100_calls(execution: Execution, queued: bool) -> AllocationInfo {
    // While the clock is paused all calls are short, however busy the machine.
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let layer = builder(16, 16).execution(execution).build().expect("valid");
    let handle = layer.handle();
    let service = layer.layer(service_fn(|id: u64| ready(Ok::<_, BoxError>(id))));
    let calls = || {
        let (mut service, handle) = (service.clone(), handle.clone());
        // In a task, as calls are; that is one allocation more.
        let task = async move {
            for id in 0..100 {
                if queued {
                    handle.pause();
                }
                let call = service.call(id);
                handle.resume();
                call.await.expect("answered");
            }
        };
        runtime.block_on(runtime.spawn(task)).expect("no panic");
    };
    calls();
    measure(calls)
}

#[test]
fn a_call_allocates_its_job_and_its_task_and_nothing_else() {
    for (execution, queued, each) in [
        (Execution::Caller, false, 0),
        // The running call is handed over in a box.
        (Execution::Caller, true, 2),
        // The box of one that is polled in place.
        (Execution::Spawn, false, 1),
        // A box too, for the task to leave where the caller finds it.
        (Execution::Spawn, true, 3),
    ] {
        let count = of_100_calls(execution, queued).count_total;
        // Now and then a block of the channel is new.
        let most = 100 * each + if queued { 10 } else { 1 };
        assert!(count <= most, "{execution:?}, queued: {queued}: {count} in 100 calls");
    }
}

#[test]
fn a_refusal_allocates_its_error_only() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let layer = LoadLevelLayer::new(0, 1);
    let mut service =
        layer.layer(service_fn(|_: u64| std::future::pending::<Result<u64, BoxError>>()));
    let _running = service.call(0);
    let refused = measure(|| {
        let answer = service.call(1).now_or_never().expect("at once");
        assert!(answer.is_err());
    });
    assert_eq!(refused.count_total, 1);
    let refused = measure(|| assert!(service.try_call(1).is_err()));
    assert_eq!(refused.count_total, 0, "a refusal by `try_call` is not even boxed");
}

#[test]
fn layer_allocates_once() {
    let layer = LoadLevelLayer::new(16, 16);
    let inner = service_fn(|id: u64| ready(Ok::<_, BoxError>(id)));
    assert!(measure(|| drop(layer.layer(inner))).count_total <= 1);
}

#[test]
fn a_million_calls_dropped_without_a_yield_keep_memory_bounded_and_every_place_free() {
    for execution in [Execution::Spawn, Execution::Caller] {
        runtime().block_on(async {
            let layer = builder(100_000, 16).execution(execution).build().expect("valid");
            let mut service =
                layer.layer(service_fn(|_: u64| std::future::pending::<Result<u64, BoxError>>()));
            let dropped = measure(|| (0..1_000_000).for_each(|id| drop(service.call(id))));
            assert!(dropped.bytes_max <= 2 << 20, "{} bytes were alive", dropped.bytes_max);
            support::settle().await;
            let stats = layer.handle().stats();
            assert_eq!((stats.queued, stats.in_flight, stats.cancelled), (0, 0, 1_000_000));
            layer.handle().pause();
            let admitted = (0..100_017).map(|id| service.try_call(id)).collect::<Vec<_>>();
            assert_eq!(admitted.iter().filter(|call| call.is_ok()).count(), 100_016);
        });
    }
}

/// The future of a call that is large and never ready.
struct Large([u8; 4096]);

impl Future for Large {
    type Output = Result<u64, BoxError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        std::hint::black_box(&self.0);
        Poll::Pending
    }
}

#[test]
fn what_is_left_of_dropped_calls_does_not_grow_with_the_future_of_the_inner() {
    for execution in [Execution::Spawn, Execution::Caller] {
        runtime().block_on(async {
            let layer = builder(100_000, 16).execution(execution).build().expect("valid");
            let mut service = layer.layer(service_fn(|_: u64| Large([0; 4096])));
            let _running: Vec<_> = (0..16).map(|id| service.call(id)).collect();
            let dropped = measure(|| (0..20_000).for_each(|id| drop(service.call(id))));
            assert!(dropped.bytes_max <= 2 << 20, "{} bytes were alive", dropped.bytes_max);
        });
    }
}

#[test]
fn a_request_that_waits_takes_no_more_than_400_bytes_beside_itself() {
    runtime().block_on(async {
        let layer = LoadLevelLayer::new(200_000, 1);
        let inner = service_fn(|_: [u8; 1024]| ready(Ok::<_, BoxError>(())));
        let mut service = layer.layer(inner);
        layer.handle().pause();
        let mut calls = Vec::with_capacity(100_000);
        let waiting = measure(|| {
            (0..100_000).for_each(|_| calls.push(service.call([0; 1024])));
            // Looks at the line, so all are in it.
            assert!(layer.handle().stats().oldest_wait.is_some());
        });
        let each = waiting.bytes_current / 100_000;
        assert!(each <= 1024 + 400, "{each} bytes");
    });
}

#[test]
fn calls_dropped_before_an_inner_is_ready_keep_memory_bounded() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let layer = builder(10, 4).build().expect("valid");
    let mut service = layer.layer(Never);
    let dropped = measure(|| (0..1_000_000).for_each(|id| drop(service.call(id))));
    assert!(dropped.bytes_max <= 2 << 20, "{} bytes were alive", dropped.bytes_max);
}

/// Is never ready, and forgets who asked.
struct Never;

impl Service<u64> for Never {
    type Response = ();
    type Error = BoxError;
    type Future = Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Pending
    }

    fn call(&mut self, _: u64) -> Self::Future {
        unreachable!("it is never ready")
    }
}

#[test]
fn calls_with_a_wait_limit_dropped_without_a_yield_keep_memory_bounded() {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _entered = runtime.enter();
    let layer = builder(4096, 1).max_wait(Duration::from_secs(60)).build().expect("valid");
    let mut service =
        layer.layer(service_fn(|_: u64| std::future::pending::<Result<u64, BoxError>>()));
    let _running = service.call(0);
    let _waiting = service.call(0);
    let dropped = measure(|| {
        for _ in 0..500 {
            let calls: Vec<_> = (0..2000).map(|id| service.call(id)).collect();
            drop(calls);
        }
    });
    assert!(dropped.bytes_max <= 4 << 20, "{} bytes were alive", dropped.bytes_max);
}

#[test]
fn a_refused_request_whose_drop_panics_leaks_nothing() {
    struct Fierce(bool);
    impl Drop for Fierce {
        fn drop(&mut self) {
            if self.0 {
                resume_unwind(Box::new("the drop panics"));
            }
        }
    }
    let runtime = Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(async {
        let layer = LoadLevelLayer::new(0, 1);
        let mut service = layer.layer(service_fn(|_: Fierce| pending::<Result<(), BoxError>>()));
        let _running = service.call(Fierce(false));
        let mut refuse = || {
            let call = AssertUnwindSafe(|| drop(service.call(Fierce(true))));
            drop(catch_unwind(call).expect_err("the drop panics"));
        };
        refuse();
        let info = measure(|| (0..10).for_each(|_| refuse()));
        assert_eq!(info.bytes_current, 0);
    });
}
