//! What becomes of it when several threads do the same at one leveler, beside what an atomic and a lock on one
//! word are on this machine, and whether it has the cores: each on its own word is what nothing shared would be.

use std::{
    hint::black_box,
    pin::pin,
    sync::{
        Barrier, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Instant,
};

use futures::FutureExt;
use tower::{BoxError, Layer, Service};
use tower_load_leveling::Execution;

use crate::{
    bars::Bars,
    contenders::leveler,
    load::{LIMIT, Threads},
    refusal::{full_leveler, refusal},
    rounds::{Rounds, Scale},
    work::{inner, ready},
};

const THREADS: [usize; 4] = [1, 2, 4, 8];

/// Takes turns between the numbers of threads; the throughput is that relative to one.
pub(crate) fn print(scale: Scale, _bars: &mut Bars) {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    println!(
        "threads at one leveler, {cores} cores: ns of a call as each sees it (× throughput of one)"
    );
    print!("{:<34}", "threads");
    THREADS.iter().for_each(|threads| print!("{threads:>18}"));
    println!();
    // Its workers have nothing to do, unless a call is queued.
    let runtime = Threads::Two.runtime();
    let _entered = runtime.enter();
    let scale = Scale { calls: scale.calls * 5, ..scale };

    let (full, _running) = full_leveler();
    row("refusal", scale, |_| {
        let mut full = full.clone();
        move || refusal(&mut full)
    });
    admissions(scale);
    row("fetch_add, each on its own word", scale, |_| {
        let word = AtomicU64::new(0);
        move || {
            black_box(word.fetch_add(1, Relaxed));
        }
    });
    let word = AtomicU64::new(0);
    row("fetch_add, all on one word", scale, |_| {
        || {
            black_box(word.fetch_add(1, Relaxed));
        }
    });
    let word = Mutex::new(0_u64);
    row("Mutex around one word", scale, |_| {
        || {
            *black_box(word.lock().expect("no panic")) += 1;
        }
    });
}

/// There are slots for all, but whoever finds the inner in use by a thread that was just suspended is queued.
fn admissions(scale: Scale) {
    let service = leveler(LIMIT, Execution::Caller).layer(inner(false, ready));
    // The first call tells the leveler its runtime; the threads below have none.
    assert!(admission(&mut service.clone()), "nothing is in its way");
    let queued = THREADS.map(|_| AtomicU64::new(0));
    row("direct call, Caller", scale, |nth| {
        let (mut service, queued) = (service.clone(), &queued[nth]);
        move || {
            if !admission(&mut service) {
                queued.fetch_add(1, Relaxed);
            }
        }
    });
    print!("{:<34}", "… of which were queued after all");
    for (threads, queued) in THREADS.into_iter().zip(queued) {
        let calls = scale.calls * scale.rounds * threads;
        let share = queued.into_inner() as f64 / calls as f64;
        print!("{:>18}", format!("{:.3} %", share * 100.0));
    }
    println!();
}

/// Whether it was answered at once; if not, waits for the answer.
fn admission<S: Service<(), Response = (), Error = BoxError>>(service: &mut S) -> bool {
    let mut call = pin!(service.call(()));
    match call.as_mut().now_or_never() {
        Some(answer) => {
            answer.expect("answered");
            true
        }
        None => {
            futures::executor::block_on(call).expect("answered");
            false
        }
    }
}

fn row<W: FnMut() + Send>(what: &str, scale: Scale, work: impl Fn(usize) -> W) {
    let rounds = Rounds::take(scale.rounds, THREADS.len(), |nth| {
        hammer(THREADS[nth], scale.calls, || work(nth))
    });
    print!("{what:<34}");
    for (nth, threads) in THREADS.into_iter().enumerate() {
        // Of one thread, and there are more of them.
        let throughput = threads as f64 / rounds.ratio(nth, 0);
        print!("{:>18}", format!("{:.1} ({throughput:.2})", rounds.time(nth)));
    }
    println!();
}

/// Nanoseconds that pass while each thread does it so often, from the first start to the last end, for one time.
fn hammer<W: FnMut() + Send>(threads: usize, times: usize, work: impl Fn() -> W) -> f64 {
    let barrier = Barrier::new(threads);
    let spans: Vec<_> = thread::scope(|scope| {
        let spawn = |_| {
            let (barrier, mut work) = (&barrier, work());
            scope.spawn(move || {
                barrier.wait();
                let start = Instant::now();
                (0..times).for_each(|_| work());
                (start, Instant::now())
            })
        };
        let threads: Vec<_> = (0..threads).map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let start = spans.iter().map(|span| span.0).min().expect("a thread");
    let end = spans.iter().map(|span| span.1).max().expect("a thread");
    (end - start).as_nanos() as f64 / times as f64
}
