//! The work of the [`Sampler`].
//!
//! [`ensure`] spawns the task on the runtime of the caller. If the runtime of the task ends, or is
//! not driven any more, the next call spawns another task. A call also takes a due sample, so that
//! a program without a task has samples too.

use std::{
    sync::{Arc, PoisonError, Weak, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{runtime, time::Instant};

use crate::{sampler::Sampler, shared::Shared, timer::timer};

/// The time after which a close or a pause is noticed at the latest: 200 ms. An open page adds as
/// much to a shutdown. A look costs a load of two atomics for each leveler.
const NOTICE: Duration = Duration::from_millis(200);

/// The lateness of a sample at which another task takes over: 2 s. A busy runtime is late by less.
const LATE: Duration = Duration::from_secs(2);

/// Spawns the task if no task works, and if the caller is on a runtime.
pub(crate) fn ensure(shared: &Arc<Shared>) {
    let Ok(runtime) = runtime::Handle::try_current() else { return };
    let is_late = Instant::now() > shared.due() + LATE;
    let Sampler { task, lacks_timers } = &shared.sampler;
    let mut task = task.lock().unwrap_or_else(PoisonError::into_inner);
    let works = task.as_ref().is_some_and(|task| !task.is_finished() && !is_late);
    if works || lacks_timers.load(Relaxed) {
        return;
    }
    let spawned = runtime.spawn(run(Arc::downgrade(shared)));
    if let Some(earlier) = task.replace(spawned) {
        earlier.abort();
    }
}

async fn run(shared: Weak<Shared>) {
    let mut next = Instant::now() + NOTICE;
    loop {
        let timer = timer(next);
        let has_timers = timer.is_some();
        if let Some(timer) = timer {
            timer.await;
        }
        let Some(shared) = shared.upgrade() else { return };
        if !has_timers {
            shared.sampler.lacks_timers.store(true, Relaxed);
            return;
        }
        shared.look();
        next = shared.due().min(Instant::now() + NOTICE);
    }
}
