//! From ten that wait to a million.
//!
//! On a paused leveler, so that nothing but the operation itself goes on.

use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tower::{BoxError, Layer, Service};
use tower_load_leveling::LoadLevelLayer;

use crate::{Scale, rounds::Rounds};

/// What others are compared with. In a few dozen operations a look at the clock and a wake-up show.
pub(crate) const FEW: usize = 1_000;
/// At most so many times the cost at [`FEW`].
const BAR: f64 = 2.0;
const CONTROL: &str = "… two boxes";
const CAPACITY: usize = 2_000_000;

/// Nanoseconds of one operation, while others wait.
#[derive(Clone, Copy, Default)]
struct Cost {
    admission: f64,
    cancellation: f64,
    scattered: f64,
    boxes: f64,
    dispatch: f64,
}

type Part = fn(&Cost) -> f64;

const PARTS: [(&str, Part); 5] = [
    ("admission", |cost| cost.admission),
    ("cancellation", |cost| cost.cancellation),
    ("… scattered", |cost| cost.scattered),
    (CONTROL, |cost| cost.boxes),
    ("dispatch", |cost| cost.dispatch),
];

pub(crate) fn print(scale: Scale) {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let Scale { sizes, waiting_rounds, .. } = scale;
    let rounds =
        Rounds::take(waiting_rounds, sizes.len(), |nth| runtime.block_on(costs(sizes[nth])));
    let few = sizes.iter().position(|size| *size == FEW).expect("one of them");
    let others: Vec<_> = (0..sizes.len()).filter(|nth| *nth != few).collect();
    println!("ns of one, while so many wait; then ÷ the same at {FEW}, at most {BAR} for more");
    print!("{:<14}", "");
    sizes.iter().for_each(|size| print!("{size:>10}"));
    others.iter().for_each(|nth| print!("{:>12}{:<7}", sizes[*nth], ""));
    println!();
    for (name, part) in PARTS {
        print!("{name:<14}");
        (0..sizes.len()).for_each(|nth| print!("{:>10.0}", rounds.median(nth, part)));
        for nth in &others {
            let ratio = rounds.ratio(*nth, few, part);
            let verdict = match ratio {
                _ if sizes[*nth] < FEW || name == CONTROL => "",
                ratio if ratio <= BAR => " met",
                _ => " missed",
            };
            print!("{ratio:>12.2}{verdict:<7}");
        }
        println!("{}", if name == CONTROL { "memory alone, no bar" } else { "" });
    }
    call_and_drop(&runtime, sizes[sizes.len() - 1]);
}

/// The mean of as many operations at every size: the same over and over where few wait.
async fn costs(waiting: usize) -> Cost {
    let cycles = FEW.div_ceil(waiting);
    let mut sum = Cost::default();
    let layer = LoadLevelLayer::new(CAPACITY, 16);
    for _ in 0..cycles {
        let cost = cost(&layer, waiting).await;
        sum.admission += cost.admission;
        sum.cancellation += cost.cancellation;
        sum.scattered += cost.scattered;
        sum.boxes += cost.boxes;
        sum.dispatch += cost.dispatch;
    }
    let mean = |sum| sum / cycles as f64;
    Cost {
        admission: mean(sum.admission),
        cancellation: mean(sum.cancellation),
        scattered: mean(sum.scattered),
        boxes: mean(sum.boxes),
        dispatch: mean(sum.dispatch),
    }
}

async fn cost(layer: &LoadLevelLayer, waiting: usize) -> Cost {
    let operations = waiting.min(FEW);
    // All of ten, or there would be nothing to divide by.
    let removed = (operations / 4).max(5);
    let inner = tower::service_fn(|id: u64| std::future::ready(Ok::<_, BoxError>(id)));
    let mut service = layer.layer(inner);
    let before = layer.handle().stats().succeeded;
    layer.handle().pause();
    let mut calls: Vec<_> = (0..waiting as u64).map(|id| service.call(id)).collect();
    // Lets the drain task take them in.
    tokio::task::yield_now().await;
    let mut more = Vec::with_capacity(operations);
    let admission =
        per(operations, || (0..operations as u64).for_each(|id| more.push(service.call(id))));
    tokio::task::yield_now().await;
    more.truncate(removed);
    // One after the other out of the middle, as when a client with many requests goes away.
    let middle = (calls.len() / 2).min(calls.len() - removed);
    let row: Vec<_> = calls.drain(middle..middle + removed).collect();
    let cancellation = per(row.len(), || drop(row));
    // From everywhere: each is somewhere else in memory, so that is what this measures most.
    let scattered = scattered(&mut calls, removed);
    let scattered = per(scattered.len(), || drop(scattered));
    let left = calls.len() + more.len();
    let start = Instant::now();
    layer.handle().resume();
    layer.handle().idle().await;
    let dispatch = start.elapsed().as_nanos() as f64 / left as f64;
    assert_eq!(layer.handle().stats().succeeded - before, left as u64);
    Cost { admission, cancellation, scattered, boxes: scattered_boxes(waiting, removed), dispatch }
}

/// What memory alone makes of it: two boxes instead of each request and its answer, dropped in the
/// same scattered order.
fn scattered_boxes(waiting: usize, removed: usize) -> f64 {
    type Boxes = (Box<[u64; 24]>, Box<[u64; 12]>);
    let boxes = |nth: usize| -> Boxes { (Box::new([nth as u64; 24]), Box::new([nth as u64; 12])) };
    let mut all: Vec<_> = (0..waiting).map(boxes).collect();
    let scattered = scattered(&mut all, removed);
    per(scattered.len(), || drop(scattered))
}

fn scattered<T>(all: &mut Vec<T>, count: usize) -> Vec<T> {
    let stride = all.len() / count;
    (0..count).rev().map(|nth| all.swap_remove(nth * stride)).collect()
}

fn per(operations: usize, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / operations as f64
}

fn call_and_drop(runtime: &Runtime, count: usize) {
    let _entered = runtime.enter();
    let layer = LoadLevelLayer::new(CAPACITY, 16);
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
        "{count} × call and drop without a yield: at most {} KiB alive (at most 2048), places \
         free: {free}, {:.0} ns each; {verdict}",
        info.bytes_max >> 10,
        took.as_nanos() as f64 / count as f64,
    );
    assert!(took < Duration::from_secs(60));
}
