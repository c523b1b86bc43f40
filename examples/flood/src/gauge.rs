//! Measures the database alone, by a writer in a loop without HTTP; and the free cores of the
//! machine.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{Result, store::Store};

/// The time of an order, in seconds. At 10 ms the database does 100 orders a second, and ten times
/// as many are 1000 requests: little work for client and server, beside the database on the same
/// machine.
const ORDER: f64 = 0.010;

/// A measurement of the machine.
#[derive(Clone, Copy)]
pub(crate) struct Look {
    /// The orders stored by the database in a second.
    pub(crate) orders: f64,
    /// The number of free cores.
    pub(crate) cores: f64,
}

impl Look {
    /// Measures the database and the cores. Blocks for `time`.
    pub(crate) fn at(lines: u64, time: Duration) -> Result<Self> {
        Ok(Self { orders: rate(lines, time * 3 / 4)?, cores: free_cores(time / 4) })
    }
}

/// Returns the lines that make an order take `ORDER` on this machine. A fast disk needs more.
pub(crate) fn lines(time: Duration) -> Result<u64> {
    const LOOKS: u32 = 5;
    let mut lines = 500.0;
    for _ in 0..LOOKS {
        let took = 1.0 / rate(lines as u64, time / LOOKS)?;
        lines = (lines * (ORDER / took).clamp(0.1, 4.0)).clamp(1.0, 50_000.0);
    }
    Ok(lines as u64)
}

/// Returns the orders of `lines` lines stored by the database in a second.
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

/// Returns the number of cores of the machine.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Returns the number of free cores. As many threads as cores ask for a core each. A busy program
/// gets a fair share of the cores, and the threads get the rest.
fn free_cores(time: Duration) -> f64 {
    let probes: Vec<_> = (0..cores()).map(|_| thread::spawn(move || share_of_core(time))).collect();
    probes.into_iter().map(|probe| probe.join().unwrap_or(0.0)).sum()
}

/// Returns the share of `time` in which this thread ran. The thread reads the clock without a
/// pause. When the clock has leapt, the thread did not run.
fn share_of_core(time: Duration) -> f64 {
    /// Longer than an interrupt, and shorter than the turn of another program.
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
