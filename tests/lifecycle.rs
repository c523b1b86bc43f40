//! Laws 1, 15 and 16: every call is answered, whatever goes away, and in which order things end.

mod support;

use std::{sync::Arc, time::Duration};

use support::{
    EXECUTIONS, builder,
    gate::{Door, Gate},
    reason, settle,
};
use tokio::{runtime, time::Instant};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{Layer, Service, service_fn};
use tower_load_leveling::{
    Abandon, LoadLevelLayer,
    error::{Reason, ServiceError},
};

fn current_thread() -> runtime::Runtime {
    runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn layers_are_built_without_a_runtime() {
    let layer = LoadLevelLayer::new(10, 1);
    let mut service = layer.layer(Gate::open().service());
    let answer = current_thread().block_on(async { service.call(1).await });
    assert_eq!(answer.expect("answered"), 1);
}

#[test]
fn without_any_runtime_a_call_is_rejected() {
    for execution in EXECUTIONS {
        let layer = builder(10, 1).execution(execution).build().expect("valid");
        let mut service = layer.layer(Gate::open().service());
        let call = futures::executor::block_on(service.call(1));
        assert_eq!(reason(call), Reason::NoRuntime);
        let stats = layer.handle().stats();
        assert_eq!((stats.admitted, stats.refused.no_runtime), (0, 1));
    }
}

#[test]
fn a_given_runtime_serves_callers_that_have_none() {
    let server = runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    let layer = builder(10, 1).runtime(server.handle().clone()).build().expect("valid");
    let mut service = layer.layer(Gate::open().service());
    let answers = (0..10).map(|id| futures::executor::block_on(service.call(id)));
    assert!(answers.into_iter().all(|answer| answer.is_ok()));
}

#[test]
fn when_its_runtime_dies_those_who_wait_are_answered_and_the_next_call_starts_anew() {
    let gate = Gate::new();
    let layer = LoadLevelLayer::new(10, 1);
    let mut service = layer.layer(gate.service());
    let first = current_thread();
    let (running, queued) = first.block_on(async {
        let calls = (service.call(0), service.call(1));
        settle().await;
        calls
    });
    drop(first);
    let second = current_thread();
    second.block_on(async {
        assert_eq!(reason(queued.await), Reason::Closed);
        // Not `Rejected`, which promises that nothing was started.
        let error = running.await.expect_err("its task has gone with its runtime");
        assert!(error.is::<ServiceError>(), "{error}");
        gate.finish_all();
        assert_eq!(service.call(2).await.expect("a new drain task should be there"), 2);
        let queued: Vec<_> = (3..6).map(|id| service.call(id)).collect();
        for call in queued {
            call.await.expect("the new drain task should serve the queue");
        }
        let stats = layer.handle().stats();
        assert_eq!((stats.failed, stats.removed.closed, stats.succeeded), (1, 1, 4));
        assert_eq!((stats.queued, stats.in_flight), (0, 0));
    });
}

#[test]
fn a_given_runtime_that_has_died_is_replaced_by_the_callers() {
    let dead = current_thread();
    let layer = builder(10, 1).runtime(dead.handle().clone()).build().expect("valid");
    drop(dead);
    let mut service = layer.layer(Gate::open().service());
    current_thread().block_on(async {
        let calls: Vec<_> = (0..3).map(|id| service.call(id)).collect();
        for call in calls {
            call.await.expect("answered");
        }
    });
}

#[tokio::test]
async fn when_all_are_gone_the_admitted_are_finished_first() {
    let _t = support::trace_init();
    for paused in [false, true] {
        let gate = Gate::open();
        let layer = LoadLevelLayer::new(10, 1);
        let mut service = layer.layer(gate.service());
        if paused {
            layer.handle().pause();
        }
        let calls: Vec<_> = (0..5).map(|id| service.call(id)).collect();
        drop((layer, service));
        for call in calls {
            call.await.expect("admitted before the end, so it should be done");
        }
    }
}

#[tokio::test]
async fn the_drain_task_ends_with_the_last_layer_handle_and_service() {
    let _t = support::trace_init();
    let tasks = || runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let inner = Arc::new(());
    let layer = LoadLevelLayer::new(10, 1);
    let handle = layer.handle();
    let mut service = layer.layer(service_fn({
        let inner = Arc::clone(&inner);
        move |_: ()| {
            let inner = Arc::clone(&inner);
            async move {
                drop(inner);
                Ok::<_, std::io::Error>(())
            }
        }
    }));
    let again = service.clone();
    service.call(()).await.expect("answered");
    drop((layer, service));
    settle().await;
    assert_eq!(tasks(), before + 1, "a handle and a service are left");
    drop(handle);
    settle().await;
    assert_eq!(tasks(), before + 1, "a service is left");
    drop(again);
    settle().await;
    assert_eq!(tasks(), before, "the drain task should have ended");
    assert_eq!(Arc::strong_count(&inner), 1, "the inner should have been dropped");
}

#[tokio::test]
async fn an_inner_that_waits_for_readiness_does_not_keep_itself_alive() {
    let _t = support::trace_init();
    // The door keeps the waker that it was polled with, and the inner keeps the door.
    let (gate, door) = (Gate::open(), Door::shut());
    let layer = LoadLevelLayer::new(10, 1);
    let mut service = layer.layer(gate.service_behind(&door));
    let call = service.call(0);
    settle().await;
    let before = runtime::Handle::current().metrics().num_alive_tasks();
    drop((layer, service, call));
    settle().await;
    assert_eq!(runtime::Handle::current().metrics().num_alive_tasks(), before - 1);
}

#[tokio::test]
async fn fresh_is_independent() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = LoadLevelLayer::new(0, 1);
    let (fresh, shared) = (layer.fresh(), layer.clone());
    let _running = layer.layer(gate.service()).call(0);
    assert_eq!(reason(shared.layer(gate.service()).call(1).await), Reason::Full);
    let _runs = fresh.layer(gate.service()).call(2);
    settle().await;
    assert_eq!(gate.called(), [0, 2]);
    layer.handle().close();
    assert_eq!(fresh.handle().stats().in_flight, 1);
}

#[tokio::test]
async fn close_refuses_newcomers_and_lets_the_admitted_finish() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let gate = Gate::open();
        let layer = builder(10, 1).execution(execution).build().expect("valid");
        let mut service = layer.layer(gate.service());
        layer.handle().pause();
        let calls: Vec<_> = (0..5).map(|id| service.call(id)).collect();
        assert!(!layer.handle().is_closed());
        layer.handle().close();
        assert!(layer.handle().is_closed());
        let refusal = assert_ready!(task::spawn(service.call(9)).poll());
        assert_eq!(reason(refusal), Reason::Closed);
        layer.handle().pause();
        for call in calls {
            call.await.expect("admitted before the close, which lifts the pause for good");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn drain_resolves_when_all_have_finished() {
    let _t = support::trace_init();
    let gate = Gate::open();
    let layer = LoadLevelLayer::new(10, 1);
    let mut service = layer.layer(gate.service());
    service.call(100).await.expect("before the drain, so not in its report");
    let calls: Vec<_> = (0..5).map(|id| tokio::spawn(service.call(id))).collect();
    let start = Instant::now();
    let report = layer.handle().drain(Duration::from_secs(10)).await;
    assert_eq!((report.finished, report.removed, report.in_flight), (5, 0, 0));
    assert_eq!(start.elapsed(), Duration::ZERO, "it should not wait for the deadline");
    for call in calls {
        call.await.expect("no panic").expect("answered");
    }
}

#[tokio::test(start_paused = true)]
async fn at_its_deadline_drain_removes_who_waits_and_leaves_who_runs() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = LoadLevelLayer::new(10, 2);
    let mut service = layer.layer(gate.service());
    let mut calls: Vec<_> = (0..6).map(|id| task::spawn(service.call(id))).collect();
    let handle = layer.handle();
    let drain = tokio::spawn(async move { handle.drain(Duration::from_secs(1)).await });
    settle().await;
    gate.finish(0);
    drop(calls.pop());
    let report = drain.await.expect("no panic");
    assert_eq!((report.finished, report.removed, report.in_flight), (2, 2, 2));
    assert_ready_ok!(calls[0].poll());
    for call in &mut calls[3..] {
        assert_eq!(reason(assert_ready!(call.poll())), Reason::Closed);
    }
    assert_pending!(calls[1].poll());
    gate.finish_all();
    settle().await;
    assert_ready_ok!(calls[1].poll());
    assert_ready_ok!(calls[2].poll());
}

#[tokio::test(start_paused = true)]
async fn drain_waits_for_abandoned_work() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = builder(10, 1).abandon(Abandon::Finish).build().expect("valid");
    let mut service = layer.layer(gate.service());
    (0..3).for_each(|id| drop(service.call(id)));
    let handle = layer.handle();
    let mut drain = task::spawn(handle.drain(Duration::from_secs(1)));
    assert_pending!(drain.poll());
    settle().await;
    gate.finish_all();
    settle().await;
    let report = assert_ready!(drain.poll());
    assert_eq!((report.finished, report.removed, report.in_flight), (3, 0, 0));
}

#[tokio::test]
async fn abort_queued_removes_all_that_wait() {
    let _t = support::trace_init();
    let (gate, door) = (Gate::new(), Door::shut());
    let layer = LoadLevelLayer::new(10, 1);
    let mut service = layer.layer(gate.service());
    let mut unready = layer.layer(gate.service_behind(&door));
    let set_aside = unready.call(0);
    settle().await;
    let running = tokio::spawn(service.call(1));
    settle().await;
    let in_line = service.call(2);
    settle().await;
    let in_channel = service.call(3);
    assert_eq!(layer.handle().abort_queued(), 3);
    assert_eq!(layer.handle().abort_queued(), 0);
    for call in [set_aside, in_line, in_channel] {
        assert_eq!(reason(call.await), Reason::Closed);
    }
    gate.finish(1);
    running.await.expect("no panic").expect("what runs is left alone");
    gate.finish_all();
    service.call(4).await.expect("the leveler stays open");
}

#[tokio::test]
async fn idle_resolves_when_nothing_waits_or_runs() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = LoadLevelLayer::new(10, 1);
    layer.handle().idle().await;
    let mut service = layer.layer(gate.service());
    let calls: Vec<_> = (0..2).map(|id| service.call(id)).collect();
    let handle = layer.handle();
    let mut idle = task::spawn(handle.idle());
    assert_pending!(idle.poll());
    settle().await;
    gate.finish(0);
    settle().await;
    assert_pending!(idle.poll());
    gate.finish(1);
    settle().await;
    assert!(idle.is_woken());
    assert_ready!(idle.poll());
    drop(calls);
}

#[test]
fn a_call_that_was_queued_and_runs_when_its_runtime_ends_is_told_so() {
    for abandon in [Abandon::Cancel, Abandon::Finish] {
        let dying = current_thread();
        let layer = builder(10, 10).abandon(abandon).build().expect("valid");
        let gate = Gate::new();
        let (handle, mut service) = (layer.handle(), layer.layer(gate.service()));
        handle.pause();
        let entered = dying.enter();
        let call = service.call(1);
        drop(entered);
        handle.resume();
        dying.block_on(settle());
        assert_eq!(gate.called(), [1]);
        drop(dying);
        let error = current_thread().block_on(call).expect_err("its runtime has ended");
        assert!(error.is::<ServiceError>(), "{abandon:?}: {error}");
        let stats = handle.stats();
        assert_eq!((stats.in_flight, stats.failed), (0, 1));
    }
}
