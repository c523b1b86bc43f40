//! Calls made by the task of the call that has just ended, under `Execution::Spawn`.

mod support;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    thread::JoinHandle,
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use support::{builder, reason, settle};
use tokio::{
    runtime::{self, Handle, Runtime},
    time::{Instant, sleep},
};
use tower::{BoxError, Layer, Service, service_fn};
use tower_load_leveling::{Abandon, Class, Priority, error::Reason};

/// A runtime on this thread, driven while it is entered by `block_on` only. Its clock goes on when
/// nothing else can.
fn runtime() -> Runtime {
    let mut builder = runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(true).build().expect("a runtime")
}

fn id() -> String {
    Handle::current().id().to_string()
}

#[test]
fn calls_follow_each_other_although_the_drain_task_is_not_driven() {
    let layer = builder(100, 1).build().expect("valid");
    let mut service = layer.layer(service_fn(|id: u64| async move {
        tokio::task::yield_now().await;
        Ok::<_, BoxError>(id)
    }));
    let idle = runtime();
    idle.block_on(service.call(0)).expect("served");
    runtime().block_on(async {
        let began = Instant::now();
        let calls: Vec<_> = (1..20).map(|id| tokio::spawn(service.call(id))).collect();
        for call in calls {
            call.await.expect("no panic").expect("served");
        }
        assert_eq!(began.elapsed(), Duration::ZERO, "nobody has to find out that it sleeps");
    });
}

#[test]
fn priorities_and_flows_are_kept_although_the_drain_task_is_not_driven() {
    let classify = |id: &u64| {
        let priority = if id % 2 == 0 { Priority::High } else { Priority::Normal };
        Class::new().priority(priority).flow(id / 2 % 2)
    };
    let layer = builder(100, 1).classify_request(classify).build().expect("valid");
    let called = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&called);
    let mut service = layer.layer(service_fn(move |id: u64| {
        list.lock().expect("no panic").push(id);
        async {
            tokio::task::yield_now().await;
            Ok::<_, BoxError>(())
        }
    }));
    let idle = runtime();
    idle.block_on(service.call(100)).expect("served");
    runtime().block_on(async {
        let began = Instant::now();
        // The first takes the slot. Of the rest the odd ones come first, each flow in one go.
        let ids = [101, 1, 5, 3, 7, 0, 4, 2, 6];
        let calls: Vec<_> = ids.into_iter().map(|id| tokio::spawn(service.call(id))).collect();
        for call in calls {
            call.await.expect("no panic").expect("served");
        }
        assert_eq!(began.elapsed(), Duration::ZERO, "nobody has to find out that it sleeps");
    });
    let called = called.lock().expect("no panic").clone();
    assert_eq!(called, [100, 101, 0, 2, 4, 6, 1, 3, 5, 7], "by priority, and flows in turn");
}

#[test]
fn each_call_is_made_and_runs_on_the_runtime_of_its_caller() {
    let layer = builder(1000, 2).build().expect("valid");
    let service = layer.layer(service_fn(|home: String| {
        assert_eq!(id(), home, "the call");
        async move {
            tokio::task::yield_now().await;
            assert_eq!(id(), home, "its future");
            Ok::<_, BoxError>(())
        }
    }));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let service = service.clone();
            std::thread::spawn(move || {
                let runtime = runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.expect("a runtime");
                runtime.block_on(async {
                    for _ in 0..50 {
                        let mut service = service.clone();
                        let calls: Vec<_> =
                            (0..8).map(|_| tokio::spawn(service.call(id()))).collect();
                        for call in calls {
                            call.await.expect("no panic").expect("served");
                        }
                    }
                });
                runtime
            })
        })
        .collect();
    // All runtimes live until then: one that dies with the drain task closes what waits (law 1).
    let join = |thread: JoinHandle<Runtime>| thread.join().expect("no law is broken");
    let _runtimes: Vec<_> = threads.into_iter().map(join).collect();
}

#[tokio::test(start_paused = true)]
async fn after_a_burst_no_task_is_left_but_the_drain_task() {
    let layer = builder(10_000, 8).build().expect("valid");
    let mut service = layer.layer(service_fn(|(): ()| async {
        tokio::task::yield_now().await;
        Ok::<_, BoxError>(())
    }));
    let calls: Vec<_> = (0..5000).map(|_| service.call(())).collect();
    for call in calls {
        call.await.expect("served");
    }
    settle().await;
    assert!(Handle::current().metrics().num_alive_tasks() <= 1);
}

#[test]
fn every_caller_is_answered_when_the_runtime_dies_while_calls_are_handed_on() {
    for polls in 0..40 {
        let layer = builder(100, 2).build().expect("valid");
        let service = layer.layer(service_fn(|(): ()| async {
            tokio::task::yield_now().await;
            Ok::<_, BoxError>(())
        }));
        let dying = runtime();
        let calls: Vec<_> = {
            let mut service = service.clone();
            let _entered = dying.enter();
            (0..20).map(|_| service.call(())).collect()
        };
        dying.block_on(async {
            for _ in 0..polls {
                tokio::task::yield_now().await;
            }
        });
        drop(dying);
        let answered = runtime().block_on(async {
            let mut answered = 0;
            for call in calls {
                // A response, or an error. Either will do.
                let _ = tokio::time::timeout(Duration::from_secs(1), call).await.expect("answered");
                answered += 1;
            }
            answered
        });
        assert_eq!(answered, 20);
        assert_eq!(layer.handle().room(), 102, "after {polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_limit_holds_for_requests_while_others_are_handed_on() {
    let layer = builder(100, 1).max_wait(Duration::from_millis(55)).build().expect("valid");
    let called = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&called);
    let mut service = layer.layer(service_fn(move |(): ()| {
        counted.fetch_add(1, SeqCst);
        async {
            sleep(Duration::from_millis(10)).await;
            Ok::<_, BoxError>(())
        }
    }));
    let calls: Vec<_> = (0..20).map(|_| tokio::spawn(service.call(()))).collect();
    let mut served = 0;
    for call in calls {
        served += usize::from(call.await.expect("no panic").is_ok());
    }
    assert_eq!((served, called.load(SeqCst)), (6, 6));
}

/// What a call, or a task beside the calls, did.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Did {
    /// The first poll of a call.
    Began,
    /// The last poll of a call.
    Ended,
    /// A poll of the task beside.
    Beside,
}

/// Makes many calls, one at a time, with `first` as the first poll. Returns what happened in the
/// order of events, on a single thread.
async fn played(polls: usize, first: fn()) -> Vec<Did> {
    let log = Arc::new(Mutex::new(Vec::new()));
    let tell = |log: &Mutex<Vec<Did>>, did| log.lock().expect("no panic").push(did);
    let layer = builder(100, 1).build().expect("valid");
    let told = Arc::clone(&log);
    let mut service = layer.layer(service_fn(move |(): ()| {
        let log = Arc::clone(&told);
        async move {
            first();
            tell(&log, Did::Began);
            for _ in 1..polls {
                tokio::task::yield_now().await;
            }
            tell(&log, Did::Ended);
            Ok::<_, BoxError>(())
        }
    }));
    let calls: Vec<_> = (0..60).map(|_| service.call(())).collect();
    let told = Arc::clone(&log);
    // Runs whenever others have had a turn.
    let beside = tokio::spawn(poll_fn(move |cx| {
        tell(&told, Did::Beside);
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    }));
    for call in calls {
        call.await.expect("served");
    }
    beside.abort();
    let log = log.lock().expect("no panic");
    log.clone()
}

/// Returns how often a call began right after the end of another.
fn at_once(log: &[Did]) -> usize {
    log.windows(2).filter(|two| *two == [Did::Ended, Did::Began]).count()
}

#[tokio::test(start_paused = true)]
async fn the_first_poll_of_a_call_handed_on_is_made_at_once_if_such_polls_are_short() {
    let log = played(2, || {}).await;
    // A task takes 32 calls in a row, and leaves the next to the drain task.
    assert!(at_once(&log) >= 50, "{log:?}");
}

#[tokio::test]
async fn other_tasks_get_a_turn_between_calls_whose_first_polls_are_long() {
    let log = played(2, || {
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_micros(500) {
            std::hint::spin_loop();
        }
    });
    let log = log.await;
    // That they are long is known after some.
    assert!(at_once(&log) <= 4, "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn other_tasks_get_a_turn_however_short_the_calls_handed_on() {
    let log = played(1, || {}).await;
    let longest = log.split(|did| *did == Did::Beside).map(<[_]>::len).max();
    assert!(longest <= Some(2 * 10), "{log:?}");
}

/// A waker that takes its time: the clock goes on when woken.
struct Slow(Duration);

impl Wake for Slow {
    fn wake(self: Arc<Self>) {
        let mut advance = pin!(tokio::time::advance(self.0));
        let _ = advance.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_late_after_a_slow_waker_is_not_handed_on() {
    let ms = Duration::from_millis(1);
    let layer = builder(10, 1).max_wait(20 * ms).build().expect("valid");
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let receiver = Mutex::new(Some(receiver));
    let mut service = layer.layer(service_fn(move |_: u32| {
        let receiver = receiver.lock().expect("whole").take();
        async move {
            if let Some(receiver) = receiver {
                let _ = receiver.await;
            }
            Ok::<_, BoxError>(())
        }
    }));
    let waker = Waker::from(Arc::new(Slow(60 * ms)));
    let mut first = pin!(service.call(1));
    assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    settle().await;
    let second = service.call(2);
    settle().await;
    sender.send(()).expect("the call runs");
    assert_eq!(reason(second.await), Reason::MaxWait);
}

/// Makes three calls, one at a time. The caller of the second goes while its call is made, so the
/// task has the work in hand before the first poll. Returns the calls that were polled.
async fn polled_if_the_caller_goes(abandon: Abandon) -> Vec<u32> {
    let layer = builder(10, 1).abandon(abandon).build().expect("valid");
    let polled = Arc::new(Mutex::new(Vec::new()));
    let waiting: Arc<Mutex<Option<BoxFuture<'static, _>>>> = Arc::default();
    let (list, caller) = (Arc::clone(&polled), Arc::clone(&waiting));
    let mut service = layer.layer(service_fn(move |id: u32| {
        if id == 2 {
            drop(caller.lock().expect("no panic").take());
        }
        let list = Arc::clone(&list);
        async move {
            list.lock().expect("no panic").push(id);
            tokio::task::yield_now().await;
            Ok::<_, BoxError>(())
        }
    }));
    let first = service.call(1);
    *waiting.lock().expect("no panic") = Some(service.call(2).boxed());
    let third = service.call(3);
    first.await.expect("served");
    third.await.expect("served");
    let stats = layer.handle().stats();
    assert_eq!((stats.in_flight, stats.queued), (0, 0), "{stats}");
    assert_eq!(stats.succeeded + stats.cancelled, 3, "{stats}");
    let polled = polled.lock().expect("no panic");
    polled.clone()
}

#[tokio::test(start_paused = true)]
async fn a_call_handed_on_whose_caller_has_gone_is_not_polled() {
    assert_eq!(polled_if_the_caller_goes(Abandon::Cancel).await, [1, 3]);
    assert_eq!(polled_if_the_caller_goes(Abandon::Finish).await, [1, 2, 3]);
}
