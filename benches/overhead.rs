//! What one call costs: through this layer, and through what one would use instead.
//!
//! ```sh
//! cargo bench --bench overhead              # all, about two minutes
//! cargo bench --bench overhead -- ratios    # only the table of ratios
//! cargo bench --bench overhead -- refusal   # only what criterion measures, by name
//! cargo bench --bench overhead -- --test    # a smoke test, a few seconds
//! ```
//!
//! The results are the **ratios**: the contenders take turns in many short rounds, and each ratio is the
//! median of those within a round. The times beside them depend on the machine and its mood.

use std::{
    hint::black_box,
    task::{Context, Waker},
    time::{Duration, Instant},
};

use criterion::Criterion;
use futures::FutureExt;
use tokio::runtime::{Builder, Runtime};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimit};
use tower_load_leveling::{Execution, LoadLevelLayer};

const LIMIT: usize = 64;
const CAPACITY: usize = 1024;
/// Calls in one timing: enough to outlast a hiccup, few enough to take turns often.
const CALLS: usize = 20_000;
const ROUNDS: usize = 15;

/// What the inner service does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Work {
    Ready,
    Yield,
    Cpu,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Threads {
    Current,
    Two,
}

/// A service to measure against the others.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Contender {
    Bare,
    Limit,
    BufferAndLimit,
    Spawn,
    Caller,
}

const CONTENDERS: [Contender; 5] = [
    Contender::Bare,
    Contender::Limit,
    Contender::BufferAndLimit,
    Contender::Spawn,
    Contender::Caller,
];

fn main() {
    let args: Vec<_> = std::env::args().collect();
    let test = args.iter().any(|arg| arg == "--test");
    let filter = args.iter().skip(1).find(|arg| !arg.starts_with("--"));
    if filter.is_none_or(|filter| filter == "ratios") {
        let (calls, rounds) = if test { (200, 1) } else { (CALLS, ROUNDS) };
        let bars = ratios(calls, rounds);
        allocations();
        bars.print();
    }
    if filter.is_none_or(|filter| filter != "ratios") {
        let mut criterion = Criterion::default()
            .sample_size(60)
            .measurement_time(Duration::from_secs(3))
            .configure_from_args();
        refusals(&mut criterion);
        sequential(&mut criterion);
        criterion.final_summary();
    }
}

// ---- The table of ratios ----

#[derive(Default)]
struct Bars(Vec<(String, f64, f64)>);

impl Bars {
    fn add(&mut self, what: &str, ratio: f64, bar: f64) {
        self.0.push((what.to_owned(), ratio, bar));
    }

    fn print(&self) {
        println!("\nbars (2 workers, 64 callers)");
        for (what, ratio, bar) in &self.0 {
            let verdict = if ratio <= bar { "met" } else { "missed" };
            println!("  {what:<52} {ratio:>6.2}  at most {bar:<5} {verdict}");
        }
    }
}

fn ratios(calls: usize, rounds: usize) -> Bars {
    let mut bars = Bars::default();
    println!("time of a call ÷ that through Buffer + ConcurrencyLimit({LIMIT}); in brackets ns");
    print!("{:<10}{:<9}{:>8}", "threads", "inner", "callers");
    CONTENDERS.iter().for_each(|contender| print!("{:>22}", format!("{contender:?}")));
    println!();
    for threads in [Threads::Current, Threads::Two] {
        for work in [Work::Ready, Work::Yield, Work::Cpu] {
            for callers in [1, 64, 512] {
                // One caller alone, or much work per call, takes longer for as many calls.
                let calls = if work == Work::Cpu { calls / 4 } else { calls };
                let row = row(threads, work, callers, calls, rounds);
                print!("{:<10}{:<9}{:>8}", format!("{threads:?}"), format!("{work:?}"), callers);
                for (ratio, nanos) in row {
                    print!("{:>22}", format!("{ratio:.2} ({nanos:.0})"));
                }
                println!();
                if threads == Threads::Two && callers == 64 {
                    note_bars(&mut bars, work, &row);
                }
            }
        }
    }
    bars
}

fn note_bars(bars: &mut Bars, work: Work, row: &[(f64, f64); CONTENDERS.len()]) {
    let [_, limit, _, spawn, caller] = row.map(|cell| cell.0);
    match work {
        Work::Ready => {
            bars.add("Spawn ÷ Buffer + ConcurrencyLimit, no-op inner", spawn, 1.6);
            bars.add("Caller ÷ Buffer + ConcurrencyLimit, no-op inner", caller, 1.1);
            bars.add("Caller ÷ ConcurrencyLimit, no-op inner", caller / limit, 2.5);
        }
        Work::Cpu => bars.add("Spawn ÷ Buffer + ConcurrencyLimit, 5 µs of CPU", spawn, 1.05),
        Work::Yield => {}
    }
}

/// For each contender the median ratio, and the median nanoseconds of a call.
fn row(
    threads: Threads,
    work: Work,
    callers: usize,
    calls: usize,
    rounds: usize,
) -> [(f64, f64); CONTENDERS.len()] {
    let runtime = runtime(threads);
    let mut times = [const { Vec::new() }; CONTENDERS.len()];
    let mut ratios = [const { Vec::new() }; CONTENDERS.len()];
    for _ in 0..rounds {
        let round = CONTENDERS.map(|contender| {
            let took = time(&runtime, contender, work, callers, calls);
            took.as_nanos() as f64 / calls as f64
        });
        let base = round[2];
        for (nth, nanos) in round.into_iter().enumerate() {
            times[nth].push(nanos);
            ratios[nth].push(nanos / base);
        }
    }
    std::array::from_fn(|nth| (median(&mut ratios[nth]), median(&mut times[nth])))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn runtime(threads: Threads) -> Runtime {
    let mut builder = match threads {
        Threads::Current => Builder::new_current_thread(),
        Threads::Two => Builder::new_multi_thread(),
    };
    builder.worker_threads(2).build().expect("a runtime")
}

fn time(
    runtime: &Runtime,
    contender: Contender,
    work: Work,
    callers: usize,
    calls: usize,
) -> Duration {
    runtime.block_on(async {
        match work {
            Work::Ready => {
                contend(contender, callers, calls, inner(|| std::future::ready(Ok(())))).await
            }
            Work::Yield => {
                let call = || async {
                    tokio::task::yield_now().await;
                    Ok(())
                };
                contend(contender, callers, calls, inner(call)).await
            }
            Work::Cpu => {
                let call = || async {
                    spin();
                    Ok(())
                };
                contend(contender, callers, calls, inner(call)).await
            }
        }
    })
}

fn inner<F, Fut>(call: F) -> impl Service<(), Response = (), Error = BoxError, Future = Fut> + Clone
where
    F: Fn() -> Fut + Clone,
    Fut: Future<Output = Result<(), BoxError>>,
{
    tower::service_fn(move |()| call())
}

/// About 5 µs of work that is the same every time.
fn spin() {
    let start = Instant::now();
    while start.elapsed() < Duration::from_micros(5) {
        std::hint::spin_loop();
    }
}

async fn contend<S>(contender: Contender, callers: usize, calls: usize, inner: S) -> Duration
where
    S: Service<(), Response = (), Error = BoxError> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    match contender {
        Contender::Bare => drive(inner, callers, calls).await,
        Contender::Limit => drive(ConcurrencyLimit::new(inner, LIMIT), callers, calls).await,
        Contender::BufferAndLimit => {
            let stack = ServiceBuilder::new().buffer(CAPACITY).concurrency_limit(LIMIT);
            drive(stack.service(inner), callers, calls).await
        }
        Contender::Spawn => drive(layer(Execution::Spawn).layer(inner), callers, calls).await,
        Contender::Caller => drive(layer(Execution::Caller).layer(inner), callers, calls).await,
    }
}

fn layer(execution: Execution) -> LoadLevelLayer {
    LoadLevelLayer::builder()
        .capacity(CAPACITY)
        .concurrency(LIMIT)
        .execution(execution)
        .build()
        .expect("valid")
}

/// Shares the calls out to the callers, each a task that makes one after the other.
async fn drive<S>(service: S, callers: usize, calls: usize) -> Duration
where
    S: Service<(), Response = (), Error = BoxError> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let start = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let mut service = service.clone();
            tokio::spawn(async move {
                for _ in 0..calls.div_ceil(callers) {
                    let ready = service.ready().await.expect("ready");
                    ready.call(()).await.expect("answered");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    start.elapsed()
}

// ---- Allocations ----

fn allocations() {
    println!("\nallocations of one call (count, bytes)");
    let runtime = runtime(Threads::Current);
    for execution in [Execution::Spawn, Execution::Caller] {
        for queued in [false, true] {
            let info = allocations_of(&runtime, execution, queued);
            let path = if queued { "queued" } else { "direct" };
            let what = format!("{execution:?}, {path}");
            println!("  {what:<20} {:>4} {:>6}", info.count_total, info.bytes_total);
        }
    }
    runtime.block_on(async {
        let (mut service, _full) = full_leveler();
        let info = allocation_counter::measure(|| refusal(&mut service));
        println!("  {:<20} {:>4} {:>6}", "refusal", info.count_total, info.bytes_total);
        let layer = layer(Execution::Spawn);
        let inner = inner(|| std::future::ready(Ok(())));
        let info = allocation_counter::measure(|| drop(black_box(layer.layer(inner.clone()))));
        println!("  {:<20} {:>4} {:>6}", "`layer()`", info.count_total, info.bytes_total);
    });
}

/// Of a call in the steady state: the drain task runs, its buffers have grown. Counted per thread, and this
/// runtime has one, so what the drain task and the task of the call allocate is in it.
fn allocations_of(
    runtime: &Runtime,
    execution: Execution,
    queued: bool,
) -> allocation_counter::AllocationInfo {
    const CALLS: u64 = 100;
    let layer = layer(execution);
    let handle = layer.handle();
    let mut service = layer.layer(inner(|| std::future::ready(Ok(()))));
    let mut calls = || {
        runtime.block_on(async {
            for _ in 0..CALLS {
                if queued {
                    handle.pause();
                }
                let call = service.call(());
                handle.resume();
                call.await.expect("answered");
            }
        });
    };
    calls();
    let mut info = allocation_counter::measure(calls);
    info.count_total /= CALLS;
    info.bytes_total /= CALLS;
    info
}

// ---- Refusals and sequential calls, by criterion ----

/// A service whose only slot is taken, and the call that has taken it.
fn full_leveler() -> (impl Service<(), Error = BoxError>, impl Sized) {
    let layer = LoadLevelLayer::new(0, 1);
    let mut service =
        layer.layer(tower::service_fn(|()| std::future::pending::<Result<(), BoxError>>()));
    let running = service.call(());
    (service, running)
}

fn refusal<S: Service<(), Error = BoxError>>(service: &mut S) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let answer = service.call(()).now_or_never();
    drop(black_box(answer.expect("at once").err().expect("refused")));
}

fn refusals(criterion: &mut Criterion) {
    let runtime = runtime(Threads::Current);
    let _entered = runtime.enter();
    let mut group = criterion.benchmark_group("refusal");
    let (mut ours, _running) = full_leveler();
    group.bench_function("LoadLevel", |bencher| bencher.iter(|| refusal(&mut ours)));
    let inner = tower::service_fn(|()| std::future::pending::<Result<(), BoxError>>());
    let limited = ConcurrencyLimit::new(inner, 1);
    let mut shed = ServiceBuilder::new().load_shed().service(limited);
    let mut cx = Context::from_waker(Waker::noop());
    let mut other = shed.clone();
    assert!(other.poll_ready(&mut cx).is_ready());
    let _running = other.call(());
    group.bench_function("LoadShed(ConcurrencyLimit)", |bencher| {
        // Outside of a task there is no budget that runs out.
        bencher.iter(|| refusal(&mut shed));
    });
    group.finish();
}

fn sequential(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sequential");
    for contender in CONTENDERS {
        let runtime = runtime(Threads::Current);
        group.bench_function(format!("{contender:?}"), |bencher| {
            bencher.iter_custom(|calls| time(&runtime, contender, Work::Ready, 1, calls as usize));
        });
    }
    group.finish();
}
