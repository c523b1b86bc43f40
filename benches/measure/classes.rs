//! What it costs a call to have a class: a priority, a flow and a deadline.
//!
//! ```sh
//! cargo bench -p measure --bench classes             # half a minute
//! cargo bench -p measure --bench classes -- --test   # a smoke test
//! ```
//!
//! The same layer with and without a classifier, in turns, in many short rounds; printed is the
//! median of the differences within a round. `queued` is the worst case: every call goes through
//! the queue, among 64 flows.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use futures::future::join_all;
use tokio::{runtime::Builder, time};
use tower::{BoxError, Layer, Service, service_fn};
use tower_load_leveling::{Class, ClassifyRequest, Execution, LoadLevelLayer, Order, Priority};

const CALLERS: u32 = 64;
const CALLS: u32 = 20_000;
const ROUNDS: usize = 41;

/// What a call may cost more for having a class, in nanoseconds.
const BAR: f64 = 150.0;

#[derive(Clone, Copy, Debug)]
enum Way {
    /// A slot is free for each.
    Direct,
    /// A slot for one in four.
    Queued,
}

fn main() {
    let test = std::env::args().any(|arg| arg == "--test");
    let (calls, rounds) = if test { (640, 1) } else { (CALLS, ROUNDS) };
    println!(
        "time of a call, {CALLERS} callers on one thread, inner yields once; \
         median of {rounds} rounds"
    );
    println!("{:<10}{:<10}{:>14}{:>14}{:>14}", "", "", "no class", "class", "adds");
    for way in [Way::Direct, Way::Queued] {
        for execution in [Execution::Spawn, Execution::Caller] {
            let rounds =
                (0..rounds).map(|_| [plain(way, execution, calls), classed(way, execution, calls)]);
            let rounds: Vec<_> = rounds.collect();
            let of = |which: usize| median(rounds.iter().map(|times| times[which]).collect());
            let adds = median(rounds.iter().map(|times| times[1] - times[0]).collect());
            let verdict = if adds <= BAR { "met" } else { "missed" };
            print!("{:<10}{:<10}", format!("{way:?}"), format!("{execution:?}"));
            println!(
                "{:>11.0} ns{:>11.0} ns{adds:>11.0} ns  at most {BAR} {verdict}",
                of(0),
                of(1)
            );
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn plain(way: Way, execution: Execution, calls: u32) -> f64 {
    timed(way, execution, calls, |_: &u32| Class::new())
}

fn classed(way: Way, execution: Execution, calls: u32) -> f64 {
    // Not read anew for each: what a clock costs is not ours.
    let deadline = time::Instant::now() + Duration::from_secs(3600);
    timed(way, execution, calls, move |caller: &u32| {
        Class::new().priority(Priority::High).flow(caller).deadline(deadline)
    })
}

/// Nanoseconds for each call.
fn timed<C>(way: Way, execution: Execution, calls: u32, classify: C) -> f64
where
    C: Fn(&u32) -> Class + ClassifyRequest<u32> + Send + Sync + 'static,
{
    let limit = match way {
        Way::Direct => CALLERS,
        Way::Queued => CALLERS / 4,
    };
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let layer = LoadLevelLayer::builder()
            .capacity(1024)
            .concurrency(limit as usize)
            .order(Order::AdaptiveLifo)
            .execution(execution)
            .classify_request(classify)
            .build()
            .expect("valid settings");
        let service = layer.layer(service_fn(|caller: u32| async move {
            tokio::task::yield_now().await;
            Ok::<_, BoxError>(black_box(caller))
        }));
        let each = calls / CALLERS;
        let callers = (0..CALLERS).map(|caller| {
            let mut service = service.clone();
            tokio::spawn(async move {
                for _ in 0..each {
                    service.call(caller).await.expect("served");
                }
            })
        });
        let begin = Instant::now();
        join_all(callers).await;
        begin.elapsed().as_nanos() as f64 / f64::from(each * CALLERS)
    })
}
