//! The task of a call under `Execution::Spawn`, and of the calls handed on to the task.

use std::{
    any::Any,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::hand_on::{Hand, Handed};
use crate::leveler::{
    core::Core,
    link::task_call::{AtEnd, Progress, TaskCall},
    panics::contain,
};

/// Runs a call, and then the calls that it makes itself, until none is left. After a direct call
/// the task may look once more, at its next turn, for a call given by the next caller.
///
/// Spawning a task costs a call more than everything else. No task sleeps, to be kept for later: a
/// sleeping task would take memory after a burst, and somebody would have to end it.
struct Runner {
    /// `None` after the end.
    call: Option<Arc<dyn TaskCall>>,
    progress: Progress,
    hand: Hand,
}

impl Runner {
    fn new(call: Arc<dyn TaskCall>) -> Self {
        Self { call: Some(call), progress: Progress::default(), hand: Hand::default() }
    }
}

/// Runs a direct call, on the given runtime or on the runtime of the calling thread.
#[inline]
pub(crate) fn spawn_direct(core: &Core, call: Arc<dyn TaskCall>) {
    core.runtime.spawn(Runner::new(call));
}

/// Runs a call made by the drain task, on `runtime`, or else on the runtime of the calling thread.
pub(super) fn spawn_queued(call: Arc<dyn TaskCall>, runtime: Option<tokio::runtime::Handle>) {
    contain(|| spawn_on(runtime, Runner::new(call)));
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
            let (mut has_ended, mut next) = (false, None);
            let mut after_end = |core: &dyn Any, end: &mut AtEnd| {
                has_ended = true;
                next = core.downcast_ref().and_then(|core: &Core| hand.next(core, end));
            };
            ready!(current.poll(cx, progress, &mut after_end));
            let Some(Handed { call: next, unpolled, is_measured }) = next else {
                // Everything of the ended call has been left: from now on the task may be given
                // the next.
                if has_ended && current.become_idle() {
                    *hand = Hand::default();
                    progress.begin_next(false, None);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                let ended = call.take();
                contain(|| drop(ended));
                return Poll::Ready(());
            };
            let ended = call.replace(next);
            contain(|| drop(ended));
            let is_at_once = unpolled.is_some();
            progress.begin_next(is_measured, unpolled);
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
