//! What the database can do by itself: one writer in a loop, without HTTP. And how much of the
//! machine there is to be had.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{Result, store::Store};

/// The time that one order shall take. It makes 100 orders a second, so that ten times as many are
/// 1000 requests: little work for the client and the server, which share the machine with the
/// database.
const ORDER: f64 = 0.010;

/// What there is to be had of the machine.
#[derive(Clone, Copy)]
pub(crate) struct Look {
    /// How many orders the database stores in a second.
    pub(crate) orders: f64,
    /// How many cores are free.
    pub(crate) cores: f64,
}

impl Look {
    /// Looks at the database and at the cores. Blocks for `time`.
    pub(crate) fn at(lines: u64, time: Duration) -> Result<Self> {
        Ok(Self { orders: rate(lines, time * 3 / 4)?, cores: free_cores(time / 4) })
    }
}

/// Returns how many lines an order must have to take `ORDER` here: more on a fast disk.
pub(crate) fn lines(time: Duration) -> Result<u64> {
    const LOOKS: u32 = 5;
    let mut lines = 500.0;
    for _ in 0..LOOKS {
        let took = 1.0 / rate(lines as u64, time / LOOKS)?;
        lines = (lines * (ORDER / took).clamp(0.1, 4.0)).clamp(1.0, 50_000.0);
    }
    Ok(lines as u64)
}

/// How many orders of so many lines the database stores in a second.
fn rate(lines: u64, time: Duration) -> Result<f64> {
    let store = Store::create("gauge", lines)?;
    let start = Instant::now();
    let mut stored = 0;
    while start.elapsed() < time {
        store.place(stored)?;
        stored += 1;
    }
    Ok(stored as f64 / start.elapsed().as_secs_f64())
}

/// How many cores the machine has.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// How many cores are free, by as many threads as there are cores, each of which asks for one.
/// Something else that asks for a core gets its fair share of them, and the threads the rest.
fn free_cores(time: Duration) -> f64 {
    let probes: Vec<_> = (0..cores()).map(|_| thread::spawn(move || share_of_core(time))).collect();
    probes.into_iter().map(|probe| probe.join().unwrap_or(0.0)).sum()
}

/// The share of `time` in which this thread ran: it looks at the clock all the time, and where that
/// has leapt the thread did not run.
fn share_of_core(time: Duration) -> f64 {
    /// An interrupt is shorter, and the turn of another program is longer.
    const LEAP: Duration = Duration::from_micros(100);
    let start = Instant::now();
    let (mut last, mut missed) = (start, Duration::ZERO);
    while last - start < time {
        let now = Instant::now();
        if now - last > LEAP {
            missed += now - last;
        }
        last = now;
    }
    1.0 - missed.as_secs_f64() / (last - start).as_secs_f64()
}
