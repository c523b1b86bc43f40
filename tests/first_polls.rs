//! Under `Execution::Spawn` calls that are ready at their first poll, soon, get no task: they are polled in `call`.

mod support;

use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::FutureExt;
use support::{builder, settle};
use tokio::{
    runtime,
    task::{Id, id},
    time::Instant,
};
use tokio_test::{assert_pending, task};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_load_leveling::{LoadLevel, LoadLevelLayer};
use tracing::Instrument;

/// More calls than it takes to find out what they are like.
const MANY: usize = 100;

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

fn layer() -> LoadLevelLayer {
    builder(10, 10).build().expect("valid")
}

#[tokio::test]
async fn calls_that_are_ready_at_once_are_polled_where_they_are_made() {
    let _t = support::trace_init();
    let polled = in_place(layer().layer(service_fn(whose))).await;
    assert!((MANY / 2..MANY).contains(&polled), "{polled}, and at first not");
}

#[tokio::test]
async fn calls_that_take_long_get_tasks() {
    let _t = support::trace_init();
    let inner = service_fn(async |()| {
        let start = Instant::now();
        while start.elapsed() < Duration::from_micros(200) {
            std::hint::spin_loop();
        }
        whose(()).await
    });
    assert_eq!(in_place(layer().layer(inner)).await, 0);
}

#[tokio::test]
async fn calls_that_wait_get_tasks() {
    let _t = support::trace_init();
    let inner = service_fn(async |()| {
        tokio::task::yield_now().await;
        whose(()).await
    });
    assert_eq!(in_place(layer().layer(inner)).await, 0);
}

#[tokio::test]
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

#[tokio::test]
async fn one_that_is_not_ready_after_all_goes_on_as_a_task() {
    let _t = support::trace_init();
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
}

#[tokio::test]
async fn its_panic_reaches_the_future_and_nobody_else() {
    let _t = support::trace_init();
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
}

#[tokio::test]
async fn it_sees_the_span_of_its_caller() {
    let _t = tracing::subscriber::set_default(tracing_subscriber::registry());
    let mut service = layer().layer(service_fn(async |()| {
        Ok::<_, Infallible>(tracing::Span::current().metadata().map(|span| span.name()))
    }));
    let calls = async move {
        for _ in 0..MANY {
            assert_eq!(service.call(()).await.expect("answered"), Some("caller"));
        }
    };
    calls.instrument(tracing::info_span!("caller")).await;
}
