//! The task of a call under `Execution::Spawn`, and of the calls handed on to the task.

use std::{
    any::Any,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::time::Instant;

use super::hand_on::{Hand, Handed};
use crate::leveler::{
    core::Core,
    link::task_call::{Progress, TaskCall, ToRun},
    panics::contain,
};

/// Runs a call, and then the calls that it makes itself, until none is left.
///
/// Spawning a task costs a call more than everything else. An idle task ends, and none is kept for
/// later. A kept task might be given a call while busy, or on a runtime that is not driven, and
/// would take memory after a burst.
struct Runner {
    /// `None` after the end.
    call: Option<Arc<dyn TaskCall>>,
    progress: Progress,
    hand: Hand,
}

/// Runs a direct call, on the given runtime or on the runtime of the calling thread.
#[inline]
pub(crate) fn spawn_direct(core: &Core, call: Arc<dyn TaskCall>, progress: Progress) {
    core.runtime.spawn(Runner { call: Some(call), progress, hand: Hand::default() });
}

/// Runs a call made by the drain task, on the runtime of the caller, if any.
pub(super) fn spawn_queued(to_run: ToRun) {
    let ToRun { call, runtime } = to_run;
    let progress = Progress::default();
    let runner = Runner { call: Some(call), progress, hand: Hand::default() };
    contain(|| spawn_on(runtime, runner));
}

#[cfg(not(shuttle))]
fn spawn_on(runtime: Option<tokio::runtime::Handle>, runner: Runner) {
    drop(match runtime {
        Some(runtime) => runtime.spawn(runner),
        None => tokio::spawn(runner),
    });
}

#[cfg(shuttle)]
fn spawn_on(_: Option<tokio::runtime::Handle>, runner: Runner) {
    drop(shuttle::future::spawn(runner));
}

impl Future for Runner {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { call, progress, hand } = self.get_mut();
        hand.begin_poll();
        loop {
            let Some(current) = call else { return Poll::Ready(()) };
            let mut next = None;
            let mut after_end = |core: &dyn Any, at: Option<Instant>| {
                next = core.downcast_ref().and_then(|core: &Core| hand.next(core, at));
            };
            ready!(current.poll(cx, progress, &mut after_end));
            let Some(Handed { call: next, is_measured, is_at_once }) = next else {
                let ended = call.take();
                contain(|| drop(ended));
                return Poll::Ready(());
            };
            let ended = call.replace(next);
            contain(|| drop(ended));
            progress.begin_next(is_measured);
            if !is_at_once {
                // Other tasks on the thread get a turn, and the call gets a fresh budget.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // Dropped before the end: the runtime is going down.
        if let Some(call) = self.call.take() {
            call.on_runtime_lost();
        }
    }
}
