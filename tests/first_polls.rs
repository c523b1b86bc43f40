//! Under `Execution::Spawn` calls that are ready at their first poll, soon, get no task: they are
//! polled in `call`. Where the clock is paused, every poll is short, however busy the machine.

mod support;

use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use futures::FutureExt;
use support::{builder, settle};
use tokio::{
    runtime,
    task::{Id, id},
};
use tokio_test::{assert_pending, task};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_load_leveling::{Class, LoadLevel, LoadLevelLayer};
use tracing::Instrument;

/// More calls than it takes to find out what they are like.
const MANY: usize = 100;

/// Runs a test in a task: outside of one nothing is polled in `call`.
async fn in_a_task(test: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(test).await.expect("no panic");
}

/// Answers with the task that polled it.
async fn whose(_: ()) -> Result<Id, Infallible> {
    Ok(id())
}

/// How many of many calls, one after the other, were polled by their caller's task.
async fn in_place<S, Q, R, H>(service: LoadLevel<S, Q, R, H>) -> usize
where
    LoadLevel<S, Q, R, H>: Service<(), Response = Id, Error = BoxError, Future: Send>,
    LoadLevel<S, Q, R, H>: Send + 'static,
{
    let mut service = service;
    let calls = async move {
        let mut in_place = 0;
        for _ in 0..MANY {
            in_place += usize::from(service.call(()).await.expect("answered") == id());
        }
        in_place
    };
    tokio::spawn(calls).await.expect("no panic")
}

/// Twenty times as long as is short; by a clock that goes on.
fn spin() {
    let start = Instant::now();
    while start.elapsed() < Duration::from_micros(200) {
        std::hint::spin_loop();
    }
}

fn layer() -> LoadLevelLayer {
    builder(10, 10).build().expect("valid")
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_ready_at_once_are_polled_where_they_are_made() {
    let _t = support::trace_init();
    let polled = in_place(layer().layer(service_fn(whose))).await;
    assert!((MANY / 2..MANY).contains(&polled), "{polled}, and at first not");
}

#[tokio::test]
async fn calls_that_take_long_get_tasks() {
    let _t = support::trace_init();
    let inner = service_fn(async |()| {
        spin();
        whose(()).await
    });
    assert_eq!(in_place(layer().layer(inner)).await, 0);
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_get_tasks() {
    let _t = support::trace_init();
    let inner = service_fn(async |()| {
        tokio::task::yield_now().await;
        whose(()).await
    });
    assert_eq!(in_place(layer().layer(inner)).await, 0);
}

#[tokio::test(start_paused = true)]
async fn calls_with_a_runtime_of_their_own_run_there() {
    let _t = support::trace_init();
    let layer = builder(10, 10).runtime(runtime::Handle::current()).build().expect("valid");
    assert_eq!(in_place(layer.layer(service_fn(whose))).await, 0);
}

/// Answers at once until it is told to wait, and counts those of its futures that are alive.
#[derive(Clone, Default)]
struct Inner {
    waits: Arc<AtomicBool>,
    alive: Arc<AtomicUsize>,
    polls: Arc<AtomicUsize>,
}

struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Inner {
    fn service(
        &self,
    ) -> impl Service<(), Response = (), Error = Infallible, Future: Send> + Send + 'static {
        let inner = self.clone();
        service_fn(move |()| {
            let Self { waits, alive, polls } = inner.clone();
            alive.fetch_add(1, SeqCst);
            let alive = Alive(alive);
            async move {
                let _alive = alive;
                std::future::poll_fn(|_| {
                    polls.fetch_add(1, SeqCst);
                    if waits.load(SeqCst) {
                        std::task::Poll::Pending
                    } else {
                        std::task::Poll::Ready(())
                    }
                })
                .await;
                Ok(())
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_not_ready_after_all_goes_on_as_a_task() {
    let _t = support::trace_init();
    in_a_task(async {
        let inner = Inner::default();
        let layer = layer();
        let mut service = layer.layer(inner.service());
        for _ in 0..MANY {
            service.call(()).await.expect("answered");
        }
        inner.waits.store(true, SeqCst);
        let before = inner.polls.load(SeqCst);
        let mut call = task::spawn(service.call(()));
        assert_eq!(inner.polls.load(SeqCst), before + 1, "polled in `call`");
        assert_pending!(call.poll());
        settle().await;
        assert_eq!(
            inner.polls.load(SeqCst),
            before + 2,
            "and by its task, though its caller does nothing"
        );
        assert_eq!(layer.handle().stats().in_flight, 1);
        drop(call);
        settle().await;
        assert_eq!(inner.alive.load(SeqCst), 0, "law 6: it is dropped with its caller");
        let stats = layer.handle().stats();
        assert_eq!((stats.in_flight, stats.cancelled), (0, 1));
        assert_eq!(stats.succeeded, MANY as u64);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn its_panic_reaches_the_future_and_nobody_else() {
    let _t = support::trace_init();
    in_a_task(async {
        let layer = layer();
        let mut service = layer.layer(service_fn(async |panics: bool| {
            assert!(!panics, "as told");
            Ok::<_, Infallible>(())
        }));
        for _ in 0..MANY {
            service.call(false).await.expect("answered");
        }
        let call = service.call(true);
        let panic = catch_unwind(AssertUnwindSafe(|| call.now_or_never()));
        assert!(panic.is_err());
        service.ready().await.expect("ready").call(false).await.expect("answered");
        let stats = layer.handle().stats();
        assert_eq!((stats.panicked, stats.in_flight), (1, 0));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn it_sees_the_span_of_its_caller() {
    let _t = support::scoped::subscriber(tracing_subscriber::registry());
    let mut service = layer().layer(service_fn(async |()| {
        Ok::<_, Infallible>(tracing::Span::current().metadata().map(|span| span.name()))
    }));
    let calls = async move {
        for _ in 0..MANY {
            assert_eq!(service.call(()).await.expect("answered"), Some("caller"));
        }
    };
    in_a_task(calls.instrument(tracing::info_span!("caller"))).await;
}

#[tokio::test]
async fn calls_that_turn_out_long_get_tasks_again() {
    let _t = support::trace_init();
    let long = Arc::new(AtomicBool::new(false));
    let is_long = Arc::clone(&long);
    let mut service = layer().layer(service_fn(move |()| {
        let is_long = is_long.load(SeqCst);
        async move {
            if is_long {
                spin();
            }
            whose(()).await
        }
    }));
    in_a_task(async move {
        // By the real clock: on a busy machine a short poll may take long, so it may take a while.
        let mut calls = 0..100_000;
        while service.call(()).await.expect("answered") != id() {
            calls.next().expect("they are short");
        }
        long.store(true, SeqCst);
        for _ in 0..MANY {
            service.call(()).await.expect("answered");
        }
        assert_ne!(service.call(()).await.expect("answered"), id());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_inner_is_in_a_task_though_its_caller_is_not() {
    let _t = support::trace_init();
    // `id` panics outside of a task.
    let mut service = layer().layer(service_fn(whose));
    for _ in 0..MANY {
        service.call(()).await.expect("answered");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_past_the_queue_get_tasks() {
    let _t = support::trace_init();
    let layer = builder(10, 10)
        .request_classifier(|past: &bool| if *past { Class::bypass() } else { Class::new() })
        .build()
        .expect("valid");
    let mut service = layer.layer(service_fn(async |_: bool| whose(()).await));
    in_a_task(async move {
        for _ in 0..MANY {
            service.call(false).await.expect("answered");
        }
        assert_eq!(service.call(false).await.expect("answered"), id());
        assert_ne!(service.call(true).await.expect("answered"), id());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_loop_of_them_lets_others_on_its_thread_run() {
    let _t = support::trace_init();
    let mut service = layer().layer(service_fn(whose));
    let stop = Arc::new(AtomicBool::new(false));
    let stops = Arc::clone(&stop);
    let others = async move {
        for _ in 0..MANY {
            tokio::task::yield_now().await;
        }
        stops.store(true, SeqCst);
    };
    let loops = tokio::spawn(async move {
        for calls in 0.. {
            if stop.load(SeqCst) {
                return;
            }
            assert!(calls < 1_000_000, "nobody else has run");
            service.call(()).await.expect("answered");
        }
    });
    tokio::spawn(others);
    loops.await.expect("others have run");
}

type Again = Arc<Mutex<Option<BoxCloneSyncService<u32, u32, BoxError>>>>;

/// Calls itself so often, through the whole stack, and looks around each time when it has made the
/// call.
fn nested(
    again: &Again,
    look: impl Fn() + Clone + Send + 'static,
) -> impl Service<u32, Response = u32, Error = BoxError, Future: Send> + Clone + Send + 'static {
    let again = Arc::clone(again);
    service_fn(move |depth: u32| {
        let (next, look) = (again.lock().expect("no panic").clone(), look.clone());
        async move {
            match next {
                Some(mut next) if depth > 0 => {
                    let call = next.call(depth - 1);
                    look();
                    Ok::<_, BoxError>(call.await? + 1)
                }
                _ => Ok(0),
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn calls_within_calls_need_no_more_stack() {
    let _t = support::trace_init();
    let again = Again::default();
    let mut service = builder(10, 10_000).build().expect("valid").layer(nested(&again, || ()));
    *again.lock().expect("no panic") = Some(BoxCloneSyncService::new(service.clone()));
    in_a_task(async move {
        for _ in 0..MANY {
            service.call(0).await.expect("answered");
        }
        assert_eq!(service.call(5000).await.expect("answered"), 5000);
    })
    .await;
    again.lock().expect("no panic").take();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_polled_under_the_lock_of_a_leveler_outside() {
    let _t = support::trace_init();
    let again = Again::default();
    let outer = layer();
    let (handle, waiting) = (outer.handle(), Arc::new(AtomicUsize::new(0)));
    let most = Arc::clone(&waiting);
    let look = move || {
        most.fetch_max(handle.stats().queued, SeqCst);
    };
    let stack = outer.layer(layer().layer(nested(&again, look)));
    let mut service = BoxCloneSyncService::new(stack);
    *again.lock().expect("no panic") = Some(service.clone());
    in_a_task(async move {
        for _ in 0..MANY {
            service.call(0).await.expect("answered");
        }
        service.call(1).await.expect("answered");
    })
    .await;
    again.lock().expect("no panic").take();
    assert_eq!(waiting.load(SeqCst), 0, "a slot was free, and the inner was not locked");
}
