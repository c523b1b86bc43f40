//! Random everything, for as long as it takes: calls of all kinds on several runtimes, of which
//! some die or are not driven, while an operator turns every knob. At rest the laws hold, and
//! memory is where it was.
//!
//! ```text
//! cargo run --release -p soak -- --seconds 60
//! ```
//!
//! The seed and the round of a fault are printed. They draw the same plan and the same requests;
//! the order in which threads run is that of the moment.

mod args;
mod caller;
mod control;
mod inner;
mod plan;
mod report;
mod rest;
mod rng;
mod round;
mod subscriber;
mod world;

use std::{
    process::exit,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use self::{
    args::Args,
    plan::Plan,
    report::{CALLS, ROUNDS, faults, resident},
};

/// The growth of memory that is no fault, in KiB: what allocators keep of the largest rounds.
const GROWTH: u64 = 64 * 1024;

fn main() {
    let args = Args::read();
    println!("soak: seed {}, {} threads", args.seed, args.threads);
    let (began, next) = (Instant::now(), AtomicU64::new(0));
    let is_over = || {
        let has_enough = CALLS.load(SeqCst) >= args.calls;
        began.elapsed() >= args.time || has_enough || faults() > 0
    };
    let mut memory = Vec::new();
    thread::scope(|scope| {
        // A round keeps three threads or so busy.
        for _ in 0..args.threads.div_ceil(3) {
            scope.spawn(|| {
                while !is_over() {
                    let round = args.round.unwrap_or_else(|| next.fetch_add(1, SeqCst));
                    let plan = Plan::draw(args.seed, round).having(&args.wanted);
                    round::play(&plan, args.plant);
                }
            });
        }
        let mut report = Instant::now();
        while !is_over() {
            thread::sleep(Duration::from_millis(100));
            memory.extend(resident());
            if report.elapsed() >= Duration::from_secs(10) {
                report = Instant::now();
                tell(began, &memory);
            }
        }
        if faults() > 0 {
            // Something may hang.
            tell(began, &memory);
            exit(1);
        }
    });
    tell(began, &memory);
    if let Some((before, after)) = growth(&memory) {
        if after > before + GROWTH {
            eprintln!(
                "FAULT memory grows: {before} KiB in the second quarter, {after} in the last"
            );
            exit(1);
        }
    }
    if args.plant.is_some() {
        eprintln!("FAULT what was planted was not found");
        exit(3);
    }
}

fn tell(began: Instant, memory: &[u64]) {
    let (calls, rounds) = (CALLS.load(SeqCst), ROUNDS.load(SeqCst));
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{seconds:6.1} s  {rounds} rounds  {calls} calls  {:.0} a second  {} MiB  {} faults",
        calls as f64 / seconds,
        memory.last().unwrap_or(&0) / 1024,
        faults()
    );
}

/// The most memory in the second quarter of the time, and in the last.
fn growth(memory: &[u64]) -> Option<(u64, u64)> {
    let quarter = memory.len() / 4;
    let most = |from: usize| memory.get(from..from + quarter)?.iter().max().copied();
    Some((most(quarter)?, most(3 * quarter)?))
}
