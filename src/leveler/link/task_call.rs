//! A call for a task to run, with its types erased.

use std::{
    any::Any,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

use crate::queue::ChargeId;

/// A call for a task to run, with the types of future and answer erased.
pub(crate) trait TaskCall: Send + Sync {
    /// Polls the work, for the task of the call. At the end, answers the caller, and then calls
    /// `after_end` with the core, and with what the end has left: the slot is free, and the drain
    /// task was not told.
    fn poll(
        &self,
        cx: &mut Context<'_>,
        progress: &mut Progress,
        after_end: AfterEnd<'_>,
    ) -> Poll<()>;
    /// Records that the task has ended the call, and will be polled once more for the next. Returns
    /// false if the task has to end.
    fn become_idle(&self) -> bool;
    /// Ends a call whose task was dropped before the end.
    fn on_runtime_lost(&self);
}

/// The function to call after the end of a call. The argument is the core, as `Any`: this module
/// does not know its type.
pub(crate) type AfterEnd<'a> = &'a mut dyn FnMut(&dyn Any, &mut AtEnd);

/// The work of a call before its first poll, with its type erased. In the hand of the task that
/// polls it next: a caller that gives up leaves the end of the work to the task.
pub(crate) type UnpolledWork = Box<dyn Any + Send>;

/// What the end of a call leaves to the user of its slot.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AtEnd {
    /// The time of the end, if read.
    pub(crate) at: Option<Instant>,
    /// The charge of the call, to be corrected by the time for which the call had its slot. Left to
    /// the user, who locks the queue anyway.
    pub(crate) charge: Option<(ChargeId, Duration)>,
}

/// The progress of a call, for its task.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Set if the next poll is the first, and measured.
    pub(crate) is_measured: bool,
    /// The work, if the next poll is the first, and comes at once.
    pub(crate) unpolled: Option<UnpolledWork>,
    /// Set once the channel has the task's waker, which never changes.
    pub(crate) is_noted: bool,
    /// The task's waker, returned by the channel of the last call, for the channel of the next.
    pub(crate) spare: Option<Waker>,
}

impl Progress {
    /// Begins with the next call of the same task.
    pub(crate) fn begin_next(&mut self, is_measured: bool, unpolled: Option<UnpolledWork>) {
        *self = Self { is_measured, unpolled, is_noted: false, spare: self.spare.take() };
    }
}
