//! What the servers do for a request.

use std::{
    hint::black_box,
    sync::OnceLock,
    time::{Duration, Instant},
};

use axum::{Json, Router, routing::get};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler {
    /// A small answer, at once.
    Trivial,
    /// 50 µs of work, something to wait for, and 50 µs again.
    Busy,
}

impl Handler {
    pub const ALL: [Self; 2] = [Self::Trivial, Self::Busy];

    pub fn name(self) -> &'static str {
        match self {
            Self::Trivial => "a small JSON answer",
            Self::Busy => "100 µs of work and one await",
        }
    }

    pub fn router(self) -> Router {
        let handler = match self {
            Self::Trivial => get(async || Json([1, 2, 3])),
            Self::Busy => get(busy),
        };
        Router::new().route("/", handler)
    }
}

async fn busy() -> Json<[u8; 3]> {
    work();
    // Pending until another task has run, as when a connection of a pool has an answer.
    tokio::spawn(async {}).await.expect("no panic");
    work();
    Json([1, 2, 3])
}

/// 50 µs when nothing else runs. Not until a clock has come so far: there are more threads than
/// processors, and time in which another runs would count as work done.
fn work() {
    static STEPS: OnceLock<u64> = OnceLock::new();
    black_box(step(*STEPS.get_or_init(calibrate)));
}

const WORK: Duration = Duration::from_micros(50);

/// How many steps take so long, in the fastest of many tries.
fn calibrate() -> u64 {
    const STEPS: u64 = 20_000;
    let time = || {
        let start = Instant::now();
        black_box(step(black_box(STEPS)));
        start.elapsed()
    };
    let fastest = (0..200).map(|_| time()).min().expect("some");
    (STEPS as f64 * WORK.as_secs_f64() / fastest.as_secs_f64()) as u64
}

/// Each step waits for the one before.
fn step(steps: u64) -> u64 {
    (0..steps).fold(1, |bits: u64, step| (bits ^ step).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
