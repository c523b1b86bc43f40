//! From one caller to thousands, each a task that makes one call after the other.

use std::{fmt, future::Ready, time::Instant};

use tokio::runtime::{Builder, Runtime};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_load_leveling::{Execution, LoadLevelLayer};

use crate::{Scale, rounds::Rounds};

const CALLERS: [usize; 5] = [1, 8, 64, 512, 4096];
const LIMIT: usize = 64;
/// More than there are callers, so that nothing is refused and nobody waits to be let in.
const CAPACITY: usize = 8192;

#[derive(Clone, Copy, Debug)]
enum Contender {
    BufferAndLimit,
    Spawn,
    Caller,
}

const CONTENDERS: [Contender; 3] = [Contender::BufferAndLimit, Contender::Spawn, Contender::Caller];

/// What the inner does.
#[derive(Clone, Copy)]
enum Work {
    Nothing,
    Yields,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "does nothing",
            Self::Yields => "yields once",
        })
    }
}

pub(crate) fn print(scale: Scale) {
    println!("time of a call, {LIMIT} slots; ÷ Buffer + ConcurrencyLimit in the same round");
    for workers in [1, 2] {
        let runtime = Builder::new_multi_thread().worker_threads(workers).build();
        let runtime = runtime.expect("a runtime");
        for work in [Work::Nothing, Work::Yields] {
            table(&runtime, work, &format!("workers: {workers}, inner {work}"), scale);
        }
    }
}

fn table(runtime: &Runtime, work: Work, title: &str, scale: Scale) {
    println!(
        "\n{title:<36}{:>9}{:>9}{:>9}{:>16}{:>8}",
        "B + CL", "Spawn", "Caller", "÷ Spawn", "Caller"
    );
    for callers in CALLERS {
        let rounds = Rounds::take(scale.rounds, CONTENDERS.len(), |contender| {
            nanos(runtime, CONTENDERS[contender], work, callers, scale.calls)
        });
        let time = |contender| format!("{:.0} ns", rounds.median(contender, |nanos| *nanos));
        let ratio = |contender| rounds.ratio(contender, 0, |nanos| *nanos);
        println!(
            "{:<36}{:>9}{:>9}{:>9}{:>16.2}{:>8.2}",
            format!("{callers:>8} callers"),
            time(0),
            time(1),
            time(2),
            ratio(1),
            ratio(2),
        );
    }
}

fn nanos(runtime: &Runtime, contender: Contender, work: Work, callers: usize, calls: usize) -> f64 {
    runtime.block_on(async {
        match work {
            Work::Nothing => put_before(contender, service_fn(nothing), callers, calls).await,
            Work::Yields => put_before(contender, service_fn(come_back), callers, calls).await,
        }
    })
}

fn nothing(_: ()) -> Ready<Result<(), BoxError>> {
    std::future::ready(Ok(()))
}

async fn come_back(_: ()) -> Result<(), BoxError> {
    tokio::task::yield_now().await;
    Ok(())
}

async fn put_before<S>(contender: Contender, inner: S, callers: usize, calls: usize) -> f64
where
    S: Service<(), Response = (), Error = BoxError> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let leveler = |execution| {
        let builder = LoadLevelLayer::builder().capacity(CAPACITY).concurrency(LIMIT);
        builder.execution(execution).build().expect("valid")
    };
    match contender {
        Contender::BufferAndLimit => {
            let stack = ServiceBuilder::new().buffer(CAPACITY).concurrency_limit(LIMIT);
            drive(stack.service(inner), callers, calls).await
        }
        Contender::Spawn => drive(leveler(Execution::Spawn).layer(inner), callers, calls).await,
        Contender::Caller => drive(leveler(Execution::Caller).layer(inner), callers, calls).await,
    }
}

/// A few calls each before the clock starts, all callers at once, so that their tasks are there and
/// buffers have grown.
const WARM_UP: usize = 2;

/// Calls of each caller at least: to start its task is in the time, the same for all.
const LEAST: usize = 16;

/// Nanoseconds of one call.
async fn drive<S>(service: S, callers: usize, calls: usize) -> f64
where
    S: Service<(), Response = (), Error = BoxError, Future: Send> + Clone + Send + 'static,
{
    shared_out(&service, callers, WARM_UP).await;
    let each = calls.div_ceil(callers).max(LEAST);
    let start = Instant::now();
    shared_out(&service, callers, each).await;
    start.elapsed().as_nanos() as f64 / (callers * each) as f64
}

async fn shared_out<S>(service: &S, callers: usize, each: usize)
where
    S: Service<(), Response = (), Error = BoxError, Future: Send> + Clone + Send + 'static,
{
    let callers: Vec<_> = (0..callers)
        .map(|_| {
            let mut service = service.clone();
            tokio::spawn(async move {
                for _ in 0..each {
                    service.ready().await.expect("ready").call(()).await.expect("served");
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("no panic");
    }
}
