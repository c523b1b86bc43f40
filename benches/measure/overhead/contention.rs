//! What becomes of it when several threads do the same at one leveler, beside what an atomic and a
//! lock on one word are on this machine, and whether it has the cores: each on its own word is what
//! nothing shared would be.

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
/// The row of the reference.
const OWN_WORD: usize = 2;

/// What is done over and over; given for how many threads, as an index. All take turns with all, so
/// that what the reference says of the cores is true of the others.
type Row<'a> = (&'static str, &'a dyn Fn(usize) -> f64);

pub(crate) fn print(scale: Scale, _bars: &mut Bars) {
    // Its workers have nothing to do, unless a call is queued.
    let runtime = Threads::Two.runtime();
    let _entered = runtime.enter();
    // Long enough that the threads are spread over the cores, and a little fewer of them.
    let scale = Scale { calls: scale.calls * 25, rounds: scale.rounds.div_ceil(4), ..scale };
    // What takes so much less.
    let short = Scale { calls: scale.calls * 10, ..scale };
    let (full, _running) = full_leveler(&runtime);
    let service = leveler(LIMIT, Execution::Caller).layer(inner(false, ready));
    // The first call tells the leveler its runtime; the threads below have none.
    assert!(admission(&mut service.clone()), "nothing is in its way");
    let queued = THREADS.map(|_| AtomicU64::new(0));
    let word = AtomicU64::new(0);
    let locked = Mutex::new(0_u64);
    let add = |word: &AtomicU64| {
        black_box(word.fetch_add(1, Relaxed));
    };
    let rows: [Row<'_>; 5] = [
        ("refusal", &|nth| {
            hammer(nth, scale, || {
                let mut full = full.clone();
                move || refusal(&mut full)
            })
        }),
        ("direct call, Caller", &|nth| {
            hammer(nth, scale, || {
                let (mut service, queued) = (service.clone(), &queued[nth]);
                move || {
                    if !admission(&mut service) {
                        queued.fetch_add(1, Relaxed);
                    }
                }
            })
        }),
        ("fetch_add, each on its own word", &|nth| {
            hammer(nth, short, || {
                let word = AtomicU64::new(0);
                move || add(&word)
            })
        }),
        ("fetch_add, all on one word", &|nth| hammer(nth, short, || || add(&word))),
        ("Mutex around one word", &|nth| {
            hammer(nth, short, || || *black_box(locked.lock().expect("no panic")) += 1)
        }),
    ];
    compare(scale, rows);
    print_queued(scale, queued);
}

fn compare(scale: Scale, rows: [Row<'_>; 5]) {
    let rounds = Rounds::take(scale.rounds, rows.len() * THREADS.len(), |turn| {
        rows[turn / THREADS.len()].1(turn % THREADS.len())
    });
    let cores = thread::available_parallelism().map_or(0, usize::from);
    println!(
        "threads at one leveler, {cores} cores: ns of a call as each sees it (× throughput of one)"
    );
    print!("{:<34}", "threads");
    THREADS.iter().for_each(|threads| print!("{threads:>18}"));
    println!();
    for (row, (what, _)) in rows.into_iter().enumerate() {
        print!("{what:<34}");
        let first = row * THREADS.len();
        for (nth, threads) in THREADS.into_iter().enumerate() {
            // Of one thread, and there are more of them.
            let throughput = threads as f64 / rounds.ratio(first + nth, first);
            print!("{:>18}", format!("{:.1} ({throughput:.2})", rounds.time(first + nth)));
        }
        println!();
    }
    // Two threads take as long as one, where each has a core.
    let reference = OWN_WORD * THREADS.len();
    if cores > 1 && rounds.ratio(reference + 1, reference) > 1.25 {
        println!("others use the cores: these say little of contention");
    }
}

/// There are slots for all, but whoever finds the inner in use by a thread that was just suspended
/// is queued.
fn print_queued(scale: Scale, queued: [AtomicU64; THREADS.len()]) {
    print!("{:<34}", "direct calls queued after all");
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

/// Nanoseconds that pass while each thread does it so often, from the first start to the last end,
/// for one time.
fn hammer<W: FnMut() + Send>(nth: usize, scale: Scale, work: impl Fn() -> W) -> f64 {
    let (threads, times) = (THREADS[nth], scale.calls);
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
