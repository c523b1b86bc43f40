//! Whether a million waiting requests cost more, each, than a thousand; and how much memory they take.
//!
//! ```sh
//! cargo bench --bench scale              # under a minute
//! cargo bench --bench scale -- --test    # a smoke test
//! ```
//!
//! On a paused leveler, so that nothing but the operation itself goes on. Times are medians of rounds that
//! take turns between few and many; the results are their ratios.

use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tower::{BoxError, Layer, Service};
use tower_load_leveling::LoadLevelLayer;

const FEW: usize = 1_000;
const MANY: usize = 1_000_000;
const ROUNDS: usize = 7;
/// At most so many times the cost at `FEW`.
const BAR: f64 = 2.0;
const CONTROL: &str = "… two boxes";
/// At most so many bytes beyond the request itself.
const BYTES: u64 = 400;

fn main() {
    let test = std::env::args().any(|arg| arg == "--test");
    let (many, rounds) = if test { (10_000, 1) } else { (MANY, ROUNDS) };
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    times(&runtime, many, rounds);
    runtime.block_on(async {
        memory::<u64>("a u64", many).await;
        memory::<[u64; 128]>("1024 bytes", many / 10).await;
        call_and_drop(many).await;
    });
}

/// Nanoseconds of one operation, while `waiting` others wait.
#[derive(Clone, Copy)]
struct Cost {
    admission: f64,
    cancellation: f64,
    scattered: f64,
    boxes: f64,
    dispatch: f64,
}

fn times(runtime: &Runtime, many: usize, rounds: usize) {
    let mut costs = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (costs, waiting) in costs.iter_mut().zip([FEW, many]) {
            costs.push(runtime.block_on(cost(waiting)));
        }
    }
    println!("{:<14}{FEW:>12} waiting{many:>12} waiting   ratio (at most {BAR})", "ns of one");
    type Part = fn(&Cost) -> f64;
    let parts: [(&str, Part); 5] = [
        ("admission", |cost| cost.admission),
        ("cancellation", |cost| cost.cancellation),
        ("… scattered", |cost| cost.scattered),
        (CONTROL, |cost| cost.boxes),
        ("dispatch", |cost| cost.dispatch),
    ];
    for (name, part) in parts {
        let of = |costs: &[Cost]| median(costs.iter().map(part).collect());
        let (few, many) = (of(&costs[0]), of(&costs[1]));
        let verdict = match many / few {
            _ if name == CONTROL => "memory alone, no bar",
            ratio if ratio <= BAR => "met",
            _ => "missed",
        };
        println!("{name:<14}{few:>20.0}{many:>20.0}{:>8.2} {verdict}", many / few);
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Operations timed at each size: as many as the smaller has waiting.
const OPERATIONS: usize = FEW;

async fn cost(waiting: usize) -> Cost {
    let layer = LoadLevelLayer::new(2 * MANY, 16);
    let mut service =
        layer.layer(tower::service_fn(|id: u64| std::future::ready(Ok::<_, BoxError>(id))));
    layer.handle().pause();
    let mut calls: Vec<_> = (0..waiting as u64).map(|id| service.call(id)).collect();
    // Lets the drain task take them in.
    tokio::task::yield_now().await;
    let mut more = Vec::with_capacity(OPERATIONS);
    let admission =
        per(OPERATIONS, || (0..OPERATIONS as u64).for_each(|id| more.push(service.call(id))));
    tokio::task::yield_now().await;
    more.truncate(OPERATIONS / 4);
    // One after the other out of the middle, as when a client with many requests goes away.
    let middle = calls.len() / 2;
    let row: Vec<_> = calls.drain(middle..middle + OPERATIONS / 4).collect();
    let cancellation = per(row.len(), || drop(row));
    // From everywhere: each is somewhere else in memory, so that is what this measures most.
    let stride = calls.len() / (OPERATIONS / 4);
    let scattered: Vec<_> =
        (0..OPERATIONS / 4).rev().map(|nth| calls.swap_remove(nth * stride)).collect();
    let scattered = per(scattered.len(), || drop(scattered));
    let left = calls.len() + more.len();
    let start = Instant::now();
    layer.handle().resume();
    layer.handle().idle().await;
    let dispatch = start.elapsed().as_nanos() as f64 / left as f64;
    assert_eq!(layer.handle().stats().succeeded, left as u64);
    drop(more);
    Cost { admission, cancellation, scattered, boxes: scattered_boxes(waiting), dispatch }
}

/// What memory alone makes of it: two boxes instead of each request and its answer, dropped in the same
/// scattered order.
fn scattered_boxes(waiting: usize) -> f64 {
    type Boxes = (Box<[u64; 24]>, Box<[u64; 12]>);
    let boxes = |nth: usize| -> Boxes { (Box::new([nth as u64; 24]), Box::new([nth as u64; 12])) };
    let mut all: Vec<_> = (0..waiting).map(boxes).collect();
    let stride = all.len() / (OPERATIONS / 4);
    let scattered: Vec<_> =
        (0..OPERATIONS / 4).rev().map(|nth| all.swap_remove(nth * stride)).collect();
    per(scattered.len(), || drop(scattered))
}

fn per(operations: usize, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / operations as f64
}

async fn memory<Req: ZeroFilled>(what: &str, count: usize) {
    let layer = LoadLevelLayer::new(2 * MANY, 16);
    let mut service =
        layer.layer(tower::service_fn(|_: Req| std::future::ready(Ok::<(), BoxError>(()))));
    layer.handle().pause();
    let mut calls = Vec::with_capacity(count);
    let mut bytes = 0;
    for _ in 0..count.div_ceil(1000) {
        let info = allocation_counter::measure(|| {
            (0..1000).for_each(|_| calls.push(service.call(Req::ZERO)));
        });
        bytes += info.bytes_current;
    }
    // The line itself, which the drain task grows: a request is in the channel or in the line.
    let info = allocation_counter::measure(|| drop(layer.handle().stats()));
    bytes += info.bytes_current;
    let each = bytes as u64 / calls.len() as u64;
    let beyond = each.saturating_sub(size_of::<Req>() as u64);
    let verdict = if beyond <= BYTES { "met" } else { "missed" };
    println!(
        "memory of a waiting request of {what:<12}{each:>6} bytes, {beyond} beyond it (at most \
         {BYTES}) {verdict}"
    );
}

trait ZeroFilled: Send + 'static {
    const ZERO: Self;
}

impl ZeroFilled for u64 {
    const ZERO: Self = 0;
}

impl ZeroFilled for [u64; 128] {
    const ZERO: Self = [0; 128];
}

async fn call_and_drop(count: usize) {
    let layer = LoadLevelLayer::new(2 * MANY, 16);
    let mut service =
        layer.layer(tower::service_fn(|id: u64| std::future::ready(Ok::<_, BoxError>(id))));
    layer.handle().pause();
    let start = Instant::now();
    let info = allocation_counter::measure(|| {
        (0..count as u64).for_each(|id| drop(service.call(id)));
    });
    let took = start.elapsed();
    let stats = layer.handle().stats();
    let free = stats.queued == 0 && stats.cancelled == count as u64;
    let verdict = if free && info.bytes_max <= 2 << 20 { "met" } else { "missed" };
    println!(
        "{count} × call and drop without a yield: at most {} KiB alive (at most 2048), places free: \
         {free}, {:.0} ns each; {verdict}",
        info.bytes_max >> 10,
        took.as_nanos() as f64 / count as f64,
    );
    assert!(took < Duration::from_secs(60));
}
