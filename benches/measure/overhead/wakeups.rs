//! How often tasks are polled for a call: those of the callers, the one in the middle, and that of
//! the call itself.

use std::{
    cell::RefCell,
    future::poll_fn,
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    task::Poll,
};

use tokio::{
    runtime::{Builder, Runtime},
    task::{Id, id},
};
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt, buffer::Buffer, limit::ConcurrencyLimit,
    service_fn,
};
use tower_load_leveling::Execution::{Caller, Spawn};
use tracing::{Metadata, Subscriber, span, subscriber::DefaultGuard};

use crate::{
    bars::Bars,
    contenders::leveler,
    load::{CAPACITY, LIMIT},
    rounds::Scale,
    work::{Work, come_back, ready},
};

/// Polls since the last look: of callers, of the worker or the drain task, and of tasks of calls. A
/// request says whose it is, so that it is seen whether its future is polled by another.
static POLLS: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];
const CALLERS: usize = 0;
const MIDDLE: usize = 1;
const TASKS: usize = 2;

pub(crate) fn print(scale: Scale, _bars: &mut Bars) {
    println!("polls of tasks for one call, 2 workers, limit {LIMIT}; all, and by whom");
    println!(
        "{:<14}{:<7}{:>8}{:>8}{:>9}{:>21}{:>18}",
        "", "inner", "callers", "all", "callers", "worker or drain task", "tasks of calls"
    );
    for work in [Work::Ready, Work::Yield] {
        for callers in [1, 64, 512] {
            for contender in ["Buffer + CL", "Caller", "Spawn"] {
                let runtime = runtime();
                let calls = scale.calls / callers * callers;
                runtime.block_on(run(contender, work, callers, calls));
                let each =
                    POLLS.each_ref().map(|polls| polls.swap(0, Relaxed) as f64 / calls as f64);
                let all = each.iter().sum::<f64>();
                println!(
                    "{contender:<14}{:<7}{callers:>8}{all:>8.2}{:>9.2}{:>21.2}{:>18.2}",
                    format!("{work:?}"),
                    each[CALLERS],
                    each[MIDDLE],
                    each[TASKS]
                );
            }
        }
    }
}

async fn run(contender: &str, work: Work, callers: usize, calls: usize) {
    let inner = service_fn(move |caller: Id| {
        let mut call = Box::pin(async move {
            match work {
                Work::Yield => come_back().await,
                _ => ready().await,
            }
        });
        poll_fn(move |cx| {
            if id() != caller {
                POLLS[TASKS].fetch_add(1, Relaxed);
            }
            call.as_mut().poll(cx)
        })
    });
    match contender {
        "Caller" => drive(leveler(LIMIT, Caller).layer(inner), callers, calls).await,
        "Spawn" => drive(leveler(LIMIT, Spawn).layer(inner), callers, calls).await,
        _ => {
            let limited = ServiceBuilder::new().service(ConcurrencyLimit::new(inner, LIMIT));
            let (buffer, worker) = Buffer::pair(limited, CAPACITY);
            tokio::spawn(counted(MIDDLE, worker));
            drive(buffer, callers, calls).await;
        }
    }
}

async fn drive<S>(service: S, callers: usize, calls: usize)
where
    S: Service<Id, Response = (), Error = BoxError> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let mut service = service.clone();
            tokio::spawn(counted(CALLERS, async move {
                for _ in 0..calls / callers {
                    service.ready().await.expect("ready").call(id()).await.expect("answered");
                }
            }))
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
}

async fn counted<F: Future>(whose: usize, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        POLLS[whose].fetch_add(1, Relaxed);
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(output),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

thread_local! {
    static LISTENS: RefCell<Option<DefaultGuard>> = const { RefCell::new(None) };
}

/// One whose threads count how often the drain task enters its span, which is once for each poll.
fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .on_thread_start(|| LISTENS.set(Some(tracing::subscriber::set_default(Steps))))
        .on_thread_stop(|| drop(LISTENS.take()))
        .build()
        .expect("a runtime")
}

struct Steps;

impl Subscriber for Steps {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.name() == "load_level"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn enter(&self, _: &span::Id) {
        POLLS[MIDDLE].fetch_add(1, Relaxed);
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn exit(&self, _: &span::Id) {}
}
