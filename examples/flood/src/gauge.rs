//! What the database can do by itself: one writer in a loop, without HTTP.

use std::time::{Duration, Instant};

use crate::{Result, store::Store};

/// The time that one order shall take. It makes 100 orders a second, so that ten times as many are
/// 1000 requests: little work for the client and the server, which share the machine with the
/// database.
const ORDER: f64 = 0.010;

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

/// Returns how many orders of so many lines the database stores in a second. Blocks for `time`.
pub(crate) fn rate(lines: u64, time: Duration) -> Result<f64> {
    let store = Store::create("gauge", lines)?;
    let start = Instant::now();
    let mut stored = 0;
    while start.elapsed() < time {
        store.place(stored)?;
        stored += 1;
    }
    Ok(stored as f64 / start.elapsed().as_secs_f64())
}
