//! The task that takes samples.
//!
//! [`ensure`] spawns it on the runtime of its caller. It holds the dashboard weakly: when the last
//! clone is gone, the task is aborted. If its runtime ends, or is not driven any more, the next
//! call spawns another. A call also looks itself, so that a program without such a task has samples
//! as often as somebody asks.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{runtime, task::JoinHandle, time::Instant};

use crate::{shared::Shared, timer::timer};

/// How soon a closed or paused leveler is noticed. It bounds what an open page adds to a shutdown,
/// and costs a load of two atomics for each leveler.
const NOTICE: Duration = Duration::from_millis(200);

/// How late a sample has to be for another task to take over. A busy runtime is late by less.
const LATE: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(crate) struct Sampler {
    task: Mutex<Option<JoinHandle<()>>>,
    /// Set by a task on a runtime without timers. Others would end there as well.
    lacks_timers: AtomicBool,
}

impl Drop for Sampler {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task {
            task.abort();
        }
    }
}

/// Spawns the task if there is none that works, and if the caller is on a runtime.
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
