//! Law 10, with wakers that panic: when woken, and when dropped. A panic hurts nobody but the task
//! of the waker. The member `wakers` does the same with all functions of a waker.

mod support;

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use support::{EXECUTIONS, builder, gate::Gate, reason, settle, watchdog::ends};
use tokio::time::{advance, sleep};
use tower::{BoxError, Layer, Service, ServiceExt};
use tower_load_leveling::{Execution, Handle, LoadLevelLayer, Overflow, error::Reason};

/// A waker that panics when woken.
struct PanicsWhenWoken;

impl Wake for PanicsWhenWoken {
    fn wake(self: Arc<Self>) {
        panic!("a waker panics");
    }
}

fn panics_when_woken() -> Waker {
    Waker::from(Arc::new(PanicsWhenWoken))
}

/// A waker that panics when its last clone is dropped.
struct PanicsWhenDropped;

impl Wake for PanicsWhenDropped {
    fn wake(self: Arc<Self>) {}
}

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        // A second panic while one unwinds would end the process, whoever's it is.
        if !std::thread::panicking() {
            panic!("the drop of a waker panics");
        }
    }
}

/// Polls with a waker whose drop panics, and then with another waker.
fn poll_twice<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    let waker = Waker::from(Arc::new(PanicsWhenDropped));
    assert!(poll(&mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    poll(&mut Context::from_waker(Waker::noop()))
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    let waker = panics_when_woken();
    Pin::new(future).poll(&mut Context::from_waker(&waker))
}

fn waiting_layer(execution: Execution) -> LoadLevelLayer {
    let builder = builder(0, 1).overflow(Overflow::Wait).execution(execution);
    builder.max_wait(Duration::from_secs(1)).build().expect("valid")
}

/// All has ended, and no place is lost.
fn assert_at_rest(handle: &Handle) {
    let stats = handle.stats();
    let ended = stats.succeeded + stats.failed + stats.cancelled + stats.panicked;
    assert_eq!(stats.admitted, ended + stats.removed.total(), "{stats:?}");
    assert_eq!((stats.queued, stats.in_flight, stats.reserved), (0, 0, 0), "{stats:?}");
    assert_eq!(handle.room(), stats.capacity + stats.limit, "{stats:?}");
}

#[test]
fn a_waker_that_panics_keeps_nobody_else_from_a_place() {
    for execution in EXECUTIONS {
        ends(move || async move {
            let (gate, layer) = (Gate::new(), waiting_layer(execution));
            let service = layer.layer(gate.service());
            let call = tokio::spawn(service.clone().oneshot(1));
            settle().await;
            let mut first = service.clone();
            let waker = panics_when_woken();
            assert!(first.poll_ready(&mut Context::from_waker(&waker)).is_pending());
            let second = tokio::spawn(service.clone().oneshot(2));
            settle().await;
            gate.finish_all();
            call.await.expect("no panic").expect("it was admitted");
            second.await.expect("no panic").expect("it was admitted");
            drop(first);
            assert_eq!(layer.handle().stats().succeeded, 2);
            assert_at_rest(&layer.handle());
        });
    }
}

#[test]
fn a_watcher_whose_waker_panics_keeps_no_other_watcher_asleep() {
    for execution in EXECUTIONS {
        ends(move || async move {
            let gate = Gate::new();
            let layer = builder(1, 1).execution(execution).build().expect("valid");
            let call = tokio::spawn(layer.layer(gate.service()).oneshot(1));
            settle().await;
            let handle = layer.handle();
            let (mut idle, mut changed) = (Box::pin(handle.idle()), Box::pin(handle.changed()));
            assert!(poll_once(&mut idle).is_pending() && poll_once(&mut changed).is_pending());
            let others = [(); 3].map(|()| {
                let handle = layer.handle();
                tokio::spawn(async move {
                    let changed = handle.changed();
                    handle.idle().await;
                    changed.await;
                })
            });
            settle().await;
            gate.finish_all();
            call.await.expect("no panic").expect("it was admitted");
            for other in others {
                other.await.expect("no panic");
            }
            assert!(poll_once(&mut idle).is_ready() && poll_once(&mut changed).is_ready());
            assert_at_rest(&handle);
        });
    }
}

#[test]
fn a_waker_that_panics_at_the_end_of_a_wait_ends_no_runtime() {
    for execution in EXECUTIONS {
        ends(move || async move {
            let (gate, layer) = (Gate::new(), waiting_layer(execution));
            let service = layer.layer(gate.service());
            let call = tokio::spawn(service.clone().oneshot(1));
            settle().await;
            let mut first = service.clone();
            let waker = panics_when_woken();
            assert!(first.poll_ready(&mut Context::from_waker(&waker)).is_pending());
            let other = builder(1, 1).execution(execution).build().expect("valid");
            let (draining, handle) =
                (tokio::spawn(other.layer(gate.service()).call(2)), other.handle());
            settle().await;
            let mut drain = Box::pin(handle.drain(Duration::from_secs(1)));
            assert!(poll_once(&mut drain).is_pending());
            // Tokio wakes them in one batch, and the last need not be the last.
            let others = [(); 3].map(|()| tokio::spawn(sleep(Duration::from_secs(1))));
            sleep(Duration::from_secs(2)).await;
            for other in others {
                other.await.expect("no panic");
            }
            assert!(poll_once(&mut drain).is_ready());
            poll_fn(|cx| first.poll_ready(cx)).await.expect("alive");
            assert_eq!(reason(first.call(3).await), Reason::MaxWait);
            gate.finish_all();
            call.await.expect("no panic").expect("it was admitted");
            draining.await.expect("no panic").expect("it was admitted");
        });
    }
}

#[test]
fn a_waker_that_panics_after_a_long_loop_ends_no_runtime() {
    ends(|| async {
        let layer = builder(1, 1).build().expect("valid");
        let mut service = layer.layer(Gate::open().service());
        let task = tokio::spawn(async move {
            // Calls that are ready at once come to be answered at once.
            for id in 0..200 {
                service.call(id).await.expect("it was admitted");
            }
            // Until the budget of the task is used up.
            for id in 201..1000 {
                let mut call = pin!(service.call(id));
                let waker = panics_when_woken();
                if call.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                    return call.await.expect("it was admitted");
                }
            }
            panic!("the task never had to rest");
        });
        assert!(task.await.expect("no panic") > 200);
        assert_at_rest(&layer.handle());
    });
}

#[test]
fn many_removed_in_one_turn_hurt_nobody_if_their_wakers_panic() {
    const MANY: u32 = 50;
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum By {
        Eviction,
        Lateness,
        Removal,
    }
    for execution in EXECUTIONS {
        for by in [By::Eviction, By::Lateness, By::Removal] {
            ends(move || async move {
                let gate = Gate::new();
                let builder = builder(MANY as usize, 1).execution(execution);
                let builder = builder.overflow(Overflow::EvictOldest);
                let layer = builder.max_wait(Duration::from_secs(1)).build().expect("valid");
                let mut service = layer.layer(gate.service());
                let call = tokio::spawn(service.call(0));
                settle().await;
                let mut queued: Vec<_> = (1..=MANY).map(|id| service.call(id)).collect();
                for call in &mut queued {
                    assert!(poll_once(call).is_pending());
                }
                let newcomers = if by == By::Eviction { MANY } else { 0 };
                let newcomers: Vec<_> =
                    (0..newcomers).map(|id| tokio::spawn(service.call(MANY + id))).collect();
                let expected = match by {
                    By::Eviction => Reason::Evicted,
                    By::Lateness => {
                        advance(Duration::from_secs(1)).await;
                        Reason::MaxWait
                    }
                    By::Removal => {
                        assert_eq!(layer.handle().abort_queued(), MANY as usize);
                        Reason::Closed
                    }
                };
                settle().await;
                for call in queued {
                    assert_eq!(reason(call.await), expected);
                }
                gate.finish_all();
                call.await.expect("no panic").expect("it ran");
                for newcomer in newcomers {
                    newcomer.await.expect("no panic").expect("it was admitted");
                }
                settle().await;
                assert_at_rest(&layer.handle());
            });
        }
    }
}

#[test]
fn the_drop_of_a_former_waker_hurts_nobody() {
    for execution in EXECUTIONS {
        ends(move || async move {
            let (gate, layer) = (Gate::new(), waiting_layer(execution));
            let service = layer.layer(gate.service());
            let call = tokio::spawn(service.clone().oneshot(1));
            settle().await;
            let mut waiting = service.clone();
            assert!(poll_twice(|cx| waiting.poll_ready(cx)).is_pending());
            let handle = layer.handle();
            let (mut idle, mut changed) = (pin!(handle.idle()), pin!(handle.changed()));
            assert!(poll_twice(|cx| idle.as_mut().poll(cx)).is_pending());
            assert!(poll_twice(|cx| changed.as_mut().poll(cx)).is_pending());
            // The first of the list is woken, and the second takes the place.
            let mut second = service.clone();
            assert!(poll_twice(|cx| second.poll_ready(cx)).is_pending());
            let waker = Waker::from(Arc::new(PanicsWhenDropped));
            assert!(second.poll_ready(&mut Context::from_waker(&waker)).is_pending());
            drop(waker);
            gate.finish_all();
            call.await.expect("no panic").expect("it was admitted");
            let polled = second.poll_ready(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(polled, Poll::Ready(Ok(()))), "{polled:?}");
            drop((second, waiting));
            idle.await;
            changed.await;
            settle().await;
            assert_at_rest(&handle);
        });
    }
}

#[test]
fn the_drop_of_the_waker_of_a_call_hurts_nobody() {
    for execution in EXECUTIONS {
        ends(move || async move {
            let gate = Gate::new();
            let layer = builder(4, 1).execution(execution).build().expect("valid");
            let mut service = layer.layer(gate.service());
            let first = tokio::spawn(service.call(1));
            settle().await;
            let mut queued = Box::pin(service.call(2));
            assert!(poll_twice(|cx| queued.as_mut().poll(cx)).is_pending());
            let mut dropped = Box::pin(service.call(3));
            let waker = Waker::from(Arc::new(PanicsWhenDropped));
            assert!(dropped.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            drop(waker);
            drop(dropped);
            gate.finish_all();
            first.await.expect("no panic").expect("it ran");
            queued.await.expect("it runs");
            settle().await;
            assert_eq!(layer.handle().stats().cancelled, 1);
            assert_at_rest(&layer.handle());
        });
    }
}

#[cfg(feature = "retry")]
#[test]
fn a_waker_that_panics_at_the_end_of_a_delay_ends_no_runtime() {
    use tower::retry::Policy;
    use tower_load_leveling::{error::Rejected, retry::RetryPolicy};

    ends(|| async {
        let mut policy = RetryPolicy::new();
        let mut result: Result<(), tower::BoxError> = Err(Rejected::new(Reason::Full).into());
        let delay = Policy::<u32, (), tower::BoxError>::retry(&mut policy, &mut 1, &mut result);
        let mut delay = Box::pin(delay.expect("a retry"));
        assert!(poll_once(&mut delay).is_pending());
        sleep(Duration::from_secs(600)).await;
        assert!(poll_once(&mut delay).is_ready());
    });
}

/// The runtime keeps the wakers of tasks that have used up their budget, and wakes all in a row.
#[test]
fn a_panic_after_the_budget_was_used_up_ends_no_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let layer = builder(10, 1).execution(Execution::Caller).build().expect("valid");
        let mut service = layer.layer(tower::service_fn(async |id: u32| Ok::<_, BoxError>(id)));
        let (first, mut second) = (service.call(1), Box::pin(service.call(2)));
        drop(first);
        settle().await;
        let polls = tokio::spawn(async move {
            let mut nobody = Context::from_waker(Waker::noop());
            while pin!(tokio::task::consume_budget()).poll(&mut nobody).is_ready() {}
            assert!(poll_once(&mut second).is_pending());
        });
        polls.await.expect("no panic");
        settle().await;
        assert_at_rest(&layer.handle());
    });
}
