//! Runs models: a few threads on the crate's own code, under many schedules.

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
};

use shuttle::{
    Config, FailurePersistence, Runner,
    scheduler::{PctScheduler, RandomScheduler},
};

use super::fault::{Fault, plant};

/// The number of schedules without `MODEL_SCHEDULES`. Enough to find each planted fault.
const SCHEDULES: usize = 10_000;

/// Each schedule follows from the seed and its number, so a failure comes again. `MODEL_SEED`
/// changes it.
const SEED: u64 = 15;

/// The most changes of priority in a schedule by priorities (Burckhardt et al., probabilistic
/// concurrency testing). Few bugs need more.
const DEPTH: usize = 3;

/// The stack of a thread, in bytes. The drain task overflows the 32 KiB of the default.
const STACK: usize = 256 * 1024;

/// Runs a model, which panics where its law is broken, under many schedules. A thread that waits
/// for ever is a failure, too.
pub(crate) fn holds(model: fn()) {
    run(model, from_env("MODEL_SCHEDULES").unwrap_or(SCHEDULES), FailurePersistence::Print);
}

/// Plants a fault, and expects the model to fail.
pub(crate) fn finds(fault: Fault, model: fn()) {
    plant(Some(fault));
    let run = || run(model, 10 * SCHEDULES, FailurePersistence::None);
    let found = catch_unwind(AssertUnwindSafe(run));
    plant(None);
    assert!(found.is_err(), "{fault:?} went unnoticed");
}

/// One half of the schedules draws each step, the other draws priorities of threads.
fn run(model: fn(), schedules: usize, failures: FailurePersistence) {
    let seed = from_env("MODEL_SEED").unwrap_or(SEED);
    let half = schedules.div_ceil(2);
    let mut config = Config::new();
    config.stack_size = STACK;
    config.silence_warnings = true;
    config.failure_persistence = failures;
    config.ungraceful_shutdown_config.immediately_return_on_panic = true;
    Runner::new(RandomScheduler::new_from_seed(seed, half), config.clone()).run(model);
    Runner::new(PctScheduler::new_from_seed(seed, DEPTH, half), config).run(model);
}

fn from_env<T: std::str::FromStr>(name: &str) -> Option<T> {
    env::var(name).ok()?.parse().ok()
}
