//! What becomes of it when several threads do the same at one leveler, beside what an atomic and a lock on one
//! word are on this machine.

use std::{
    hint::black_box,
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
    let runtime = Threads::Current.runtime();
    let _entered = runtime.enter();

    let (full, _running) = full_leveler();
    row("refusal", scale, || {
        let mut full = full.clone();
        move || refusal(&mut full)
    });

    let service = leveler(LIMIT, Execution::Caller).layer(inner(false, ready));
    // Outside of the runtime there is no drain task to be started; this starts it.
    admission(&mut service.clone());
    row("direct call, Caller", scale, || {
        let mut service = service.clone();
        move || admission(&mut service)
    });

    let word = AtomicU64::new(0);
    row("AtomicU64::fetch_add", scale, || {
        || {
            black_box(word.fetch_add(1, Relaxed));
        }
    });

    let word = Mutex::new(0_u64);
    row("Mutex, lock and add", scale, || {
        || {
            *black_box(word.lock().expect("no panic")) += 1;
        }
    });
}

fn admission<S: Service<(), Response = (), Error = BoxError>>(service: &mut S) {
    let answer = service.call(()).now_or_never();
    answer.expect("at once").expect("answered");
}

fn row<W: FnMut() + Send>(what: &str, scale: Scale, work: impl Fn() -> W) {
    let times = scale.calls * 5;
    let rounds =
        Rounds::take(scale.rounds, THREADS.len(), |nth| hammer(THREADS[nth], times, &work));
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
