//! How many allocations a call makes, and what each of them is.
//!
//! Counted per thread, on a runtime with one, so that what the drain task and the task of a call
//! allocate is in it; in the steady state, when buffers have grown. An allocation has no name, so
//! each is told by where it is made, within `call` or later, and by its size: a path has the parts
//! named here as long as it makes as many in each of the two places.
//!
//! A program of its own: the counting takes time, and would make every call of `overhead` slower.

#![allow(dead_code, reason = "the parts of `overhead` do more there")]

#[path = "../overhead/bars.rs"]
mod bars;
#[path = "../overhead/contenders.rs"]
mod contenders;
#[path = "../overhead/drive.rs"]
mod drive;
#[path = "../overhead/floor.rs"]
mod floor;
#[path = "../overhead/load.rs"]
mod load;
#[path = "../overhead/refusal.rs"]
mod refusal;
#[path = "../overhead/rounds.rs"]
mod rounds;
#[path = "../overhead/work.rs"]
mod work;

use std::{hint::black_box, sync::Arc};

use allocation_counter::{AllocationInfo, measure};
use tokio::{runtime::Runtime, sync::oneshot};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};
use tower_load_leveling::Execution::{self, Caller, Spawn};

use crate::{
    bars::Bars,
    contenders::leveler,
    load::{CAPACITY, LIMIT, Threads},
    refusal::{full_leveler, refusal},
    work::{Work, come_back, inner, ready},
};

const CALLS: u32 = 1000;

/// The mean of many.
#[derive(Clone, Copy, Default)]
struct Count {
    times: f64,
    bytes: f64,
}

impl Count {
    fn mean(info: AllocationInfo, of: u32) -> Self {
        let mean = |count: u64| count as f64 / f64::from(of);
        Self { times: mean(info.count_total), bytes: mean(info.bytes_total) }
    }

    fn of_one(work: impl FnMut()) -> Self {
        Self::mean(measure(work), 1)
    }

    /// Those beyond a whole number are of buffers that many calls share.
    fn whole(self) -> usize {
        self.times.round() as usize
    }
}

/// Where a call allocates.
struct Tally {
    in_call: Count,
    later: Count,
}

impl Tally {
    fn all(&self) -> Count {
        let Self { in_call, later } = self;
        Count { times: in_call.times + later.times, bytes: in_call.bytes + later.bytes }
    }

    fn print(&self, what: &str, parts: [&[&str]; 2]) {
        let (all, Self { in_call, later }) = (self.all(), self);
        let as_known = [in_call, later].map(|count| count.whole()) == parts.map(<[_]>::len);
        let parts = match parts {
            _ if !as_known => "?".to_owned(),
            [[], []] => "nothing".to_owned(),
            [parts, []] => parts.join(", "),
            [parts, later] => format!("{}; later {}", parts.join(", "), later.join(", ")),
        };
        let cell = |count: &Count| format!("{:.2} / {:.0}", count.times, count.bytes);
        let (all, in_call, later) = (cell(&all), cell(in_call), cell(later));
        println!("  {what:<28}{all:>14}{in_call:>14}{later:>14}  {parts}");
    }
}

fn main() {
    let bars = &mut Bars::default();
    let runtime = Threads::Current.runtime();
    println!("{:<30}{:>14}{:>14}{:>14}", "allocations / bytes", "all", "in `call`", "later");
    for work in [Work::Ready, Work::Yield] {
        for execution in [Caller, Spawn] {
            for queued in [false, true] {
                let tally = ours(&runtime, execution, queued, work);
                let path = if queued { "queued" } else { "direct" };
                let what = format!("{execution:?}, {path}, {work:?}");
                tally.print(&what, known(execution, queued));
                bars.add(format!("allocations: {what}"), tally.all().times, bar(execution, queued));
            }
        }
        let tally = buffer_and_limit(&runtime, work);
        tally.print(&format!("Buffer + CL, {work:?}"), [&["oneshot"], &[]]);
    }
    once(&runtime, bars);
    alone(&runtime);
    println!();
    bars.print();
}

/// What is known to be allocated within `call`, and later.
fn known(execution: Execution, queued: bool) -> [&'static [&'static str]; 2] {
    match (execution, queued) {
        // Polled in `call`, or by the task of the call before.
        (Spawn, false) => [&["box"], &[]],
        (Spawn, true) => [&["job"], &["box of the running call", "task"]],
        (_, true) => [&["job"], &["box of the running call"]],
        (_, false) => [&[], &[]],
    }
}

/// With a little room for what many calls share.
fn bar(execution: Execution, queued: bool) -> f64 {
    match (execution, queued) {
        (Spawn, _) => 3.05,
        (_, true) => 2.05,
        (_, false) => 0.05,
    }
}

fn ours(runtime: &Runtime, execution: Execution, queued: bool, work: Work) -> Tally {
    let layer = leveler(LIMIT, execution);
    let handle = layer.handle();
    let steered = handle.clone();
    let before = move || {
        if queued {
            steered.pause()
        }
    };
    let after = move || handle.resume();
    match work {
        Work::Ready => tally(runtime, layer.layer(inner(false, ready)), before, after),
        _ => tally(runtime, layer.layer(inner(false, come_back)), before, after),
    }
}

fn buffer_and_limit(runtime: &Runtime, work: Work) -> Tally {
    let _entered = runtime.enter();
    let stack = ServiceBuilder::new().buffer(CAPACITY).concurrency_limit(LIMIT);
    match work {
        Work::Ready => tally(runtime, stack.service(inner(false, ready)), || (), || ()),
        _ => tally(runtime, stack.service(inner(false, come_back)), || (), || ()),
    }
}

/// In a task, since outside of one nothing is polled in `call`.
fn tally<S, B, A>(runtime: &Runtime, service: S, before: B, after: A) -> Tally
where
    S: Service<(), Response = (), Error = BoxError, Future: Send> + Clone + Send + 'static,
    B: Fn() + Clone + Send + 'static,
    A: Fn() + Clone + Send + 'static,
{
    let calls = || {
        let (mut service, before, after) = (service.clone(), before.clone(), after.clone());
        let calls = async move {
            let mut in_call = AllocationInfo::default();
            for _ in 0..CALLS {
                let ready = service.ready().await.expect("ready");
                before();
                let mut call = None;
                in_call += measure(|| call = Some(ready.call(())));
                after();
                call.expect("called").await.expect("answered");
            }
            in_call
        };
        runtime.block_on(runtime.spawn(calls)).expect("no panic")
    };
    // The first time for buffers to grow.
    let mut in_call = calls();
    let all = Count::mean(measure(|| in_call = calls()), CALLS);
    let in_call = Count::mean(in_call, CALLS);
    let later = Count { times: all.times - in_call.times, bytes: all.bytes - in_call.bytes };
    Tally { in_call, later }
}

/// A refusal and `layer()`: one step each.
fn once(runtime: &Runtime, bars: &mut Bars) {
    let _entered = runtime.enter();
    let (mut full, _running) = full_leveler(runtime);
    refusal(&mut full);
    let layer = leveler(LIMIT, Spawn);
    let inner = inner(false, ready);
    for (what, part, count) in [
        ("refusal", "boxed error", Count::of_one(|| refusal(&mut full))),
        (
            "`layer()`",
            "what its clones share",
            Count::of_one(|| drop(black_box(layer.layer(inner.clone())))),
        ),
    ] {
        Tally { in_call: count, later: Count::default() }.print(what, [&[part], &[]]);
        bars.add(format!("allocations: {what}"), count.times, 1.0);
    }
}

/// The parts by themselves, each one allocation, to be recognised by their sizes.
fn alone(runtime: &Runtime) {
    println!("\n{:<30}{:>14}", "alone", "");
    let _entered = runtime.enter();
    // The first task makes the runtime grow its buffers.
    drop(tokio::spawn(async {}));
    for (what, count) in [
        ("oneshot of ()", Count::of_one(|| drop(black_box(oneshot::channel::<()>())))),
        ("oneshot of 64 bytes", Count::of_one(|| drop(black_box(oneshot::channel::<[u64; 8]>())))),
        ("task of an empty future", Count::of_one(|| drop(tokio::spawn(async {})))),
        ("task of 64 bytes", Count::of_one(|| drop(tokio::spawn(hold([0_u64; 8]))))),
        ("Arc of 64 bytes", Count::of_one(|| drop(black_box(Arc::new([0_u64; 8]))))),
        ("Box of 64 bytes", Count::of_one(|| drop(black_box(Box::new([0_u64; 8]))))),
    ] {
        println!("  {what:<28}{:>14}", format!("{:.2} / {:.0}", count.times, count.bytes));
    }
}

async fn hold(bytes: [u64; 8]) {
    black_box(bytes);
}
