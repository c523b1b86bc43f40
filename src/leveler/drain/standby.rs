//! Standbys of the drain task: on each other runtime with waiting requests, a task watches whether
//! the drain task's runtime is driven. If the runtime is not driven, the standby takes over.

use std::{sync::Arc, thread, time::Duration};

use tokio::{runtime::Handle, sync::Notify, task::yield_now, time::Instant};

use super::{expire::expire, run::run};
use crate::{
    leveler::{core::Core, link::seat::Generation, panics::contain, runtime::RuntimeId},
    sync::{
        fault::{Fault, is_planted},
        tasks,
    },
};

/// The time for the drain task to run after a wake-up. Long beside a scheduling delay of a busy
/// machine, so the task seldom moves between two driven runtimes. Short beside a caller's patience.
/// Each standby wakes the task once in this time.
const PATIENCE: Duration = Duration::from_millis(50);

/// The lateness at its own timer above which a standby does not take over: the machine is busy.
const MAX_LATENESS: Duration = Duration::from_millis(25);

/// The least time between two looks of a standby.
const LEAST: Duration = Duration::from_millis(1);

/// Ensures a standby on the runtime of the calling thread, unless the drain task is there. The
/// standby looks for late requests at `by`, or sooner.
///
/// Call after the change that makes a standby necessary. A sender first counts its request, and
/// then reads the place of the drain task. The task moves first, and its former generation then
/// reads whether requests wait. One of the two therefore starts the standby.
#[cold]
pub(crate) fn ensure_standby(core: &Arc<Core>, by: Option<Instant>) {
    if core.runtime.is_given() {
        return;
    }
    let Ok(runtime) = Handle::try_current() else { return };
    let id = RuntimeId::of(&runtime);
    if !is_needed(core, id) {
        return;
    }
    let Some(bell) = core.link.standbys.join(id, by) else { return };
    let standby = Standby { core: Arc::clone(core), runtime: runtime.clone(), id };
    tasks::spawn(&runtime, standby.stand(bell));
}

/// Spawns a generation of the drain task. If another generation takes the seat, a standby is left.
pub(super) fn spawn(core: &Arc<Core>, runtime: &Handle, generation: Generation) {
    let drain = run(Arc::clone(core), generation);
    contain(|| tracing::debug!(name = %core.settings.name, "drain task started"));
    // A runtime after shutdown drops the task at once, which ends the generation.
    tasks::spawn(runtime, async move {
        if let Some(core) = drain.await {
            // This runtime was not driven, and is driven again. Its requests may be waiting.
            ensure_standby(&core, None);
        }
    });
}

/// Returns whether a runtime needs a standby.
fn is_needed(core: &Core, runtime: RuntimeId) -> bool {
    if core.link.seat.is_at(runtime) {
        return false;
    }
    core.counts().waiting() > 0
        || !core.admission.listeners.waitlist.is_empty()
        || core.limiter.is_adaptive() && core.counts().in_flight() > 0
}

/// The standby of a runtime. Leaves the list in `Drop`.
struct Standby {
    core: Arc<Core>,
    runtime: Handle,
    id: RuntimeId,
}

impl Standby {
    async fn stand(self, bell: Arc<Notify>) {
        let mut bell = bell;
        loop {
            while is_needed(&self.core, self.id) {
                self.watch(&bell).await;
            }
            let standbys = &self.core.link.standbys;
            standbys.leave(self.id);
            // A sender may have found this standby in the list just before.
            if !is_needed(&self.core, self.id) || is_planted(Fault::StandbyLooksOnce) {
                return;
            }
            match standbys.join(self.id, None) {
                Some(again) => bell = again,
                None => return,
            }
        }
    }

    /// Wakes the drain task, and waits for it to run. If the task did not run, takes over.
    async fn watch(&self, bell: &Notify) {
        let Self { core, runtime, id } = self;
        let seat = &core.link.seat;
        let polls = seat.polls();
        core.wake();
        let mut now = Instant::now();
        let judges_at = now + PATIENCE;
        while now < judges_at {
            // Recorded before the look: either the standby sees the request of a sender, or the
            // sender rings the bell.
            core.link.standbys.looks_at(*id, judges_at);
            let late = self.next_late();
            // Less than `LEAST` may be left until the end.
            let until = late.map_or(judges_at, |late| late.max(now + LEAST).min(judges_at));
            core.link.standbys.looks_at(*id, until);
            now = tasks::rest(until, bell).await;
            while late.is_some() && expire(core, &mut now) {
                yield_now().await;
            }
        }
        if now > judges_at + MAX_LATENESS {
            return;
        }
        if let Some(generation) = seat.move_to(runtime, polls) {
            let name = &*core.settings.name;
            // A panic here would leave the seat to a generation that was never spawned.
            contain(|| tracing::info!(%name, "drain task moves, its runtime is not driven"));
            spawn(core, runtime, generation);
        }
    }

    /// Returns the instant at which the next request is late.
    fn next_late(&self) -> Option<Instant> {
        self.core.link.backlog().queue.next_late()
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        // On a runtime without timers the standby panics. The standby stays in the list, so that no
        // other standby follows.
        if !thread::panicking() {
            self.core.link.standbys.leave(self.id);
        }
    }
}

#[cfg(all(test, shuttle))]
mod models;
