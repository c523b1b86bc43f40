use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    thread,
};

use tower::BoxError;

use super::{failure::Failure, running::Running};
use crate::error::{Reason, Rejected, ServiceError};

/// The message to a caller from the drain task or the task of the call.
pub(crate) enum Reply<F: Future, A> {
    Done(A),
    /// The inner has been called, under `Execution::Caller`: run the future.
    Run(Work<F, A>),
    Failed(Failure),
}

impl<F: Future, A> Reply<F, A> {
    pub(crate) fn error(error: impl Into<BoxError>) -> Self {
        Self::Failed(Failure::Error(error.into()))
    }

    /// Returns the reply to a caller whose request was dropped unanswered, and not dispatched. Only
    /// a bug here or a panicking `tracing` subscriber leads here. An error is better than a hang.
    pub(crate) fn lost() -> Self {
        Self::error(Rejected::new(Reason::Closed))
    }

    /// Returns the reply to a caller whose request was lost during dispatch, from the same causes.
    /// The inner may have been called, so the reply does not promise that nothing was started.
    pub(crate) fn broken_off() -> Self {
        Self::error(ServiceError::broken_off())
    }

    /// Returns the reply for the result of a call; `Err` is a panic.
    pub(super) fn from_result(result: thread::Result<A>) -> Self {
        match result {
            Ok(output) => Self::Done(output),
            Err(panic) => Self::Failed(Failure::Panicked(panic)),
        }
    }
}

/// The caller's end of a call that is queued, or runs as a task.
pub(crate) trait ReplyChannel<F: Future, A>: Send + Sync {
    /// Polls for the reply, which comes once.
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Reply<F, A>>;
    /// Takes the reply, if it has come and the caller is the last owner of the channel. Otherwise
    /// returns the channel.
    fn recv_as_last(self: Arc<Self>) -> Result<Reply<F, A>, Arc<dyn ReplyChannel<F, A>>>;
    /// Records that the caller has gone. If the caller `gives_up`, the call ends, on the spot
    /// unless in hand.
    fn close(&self, gives_up: bool);
    /// Leaves the channel for another call, after the reply.
    fn leave(self: Arc<Self>) {}
}

/// The other end of a [`ReplyChannel`], for the task of the call.
pub(crate) trait TaskChannel: Send + Sync {
    type Future: Future;
    type Answer: 'static;

    /// Takes the work out, to poll it. `None` if the caller has given up.
    fn take_work(&self) -> Option<Work<Self::Future, Self::Answer>>;
    /// Puts the work back, within reach of the caller. A `worker` is woken if the caller gives up.
    /// `Err` if the caller has given up meanwhile.
    fn put_work(
        &self,
        work: Work<Self::Future, Self::Answer>,
        worker: Option<Waker>,
    ) -> Result<(), Work<Self::Future, Self::Answer>>;
    /// Sends the reply. If the caller has just gone, drops the reply. Returns the `worker`, which
    /// nobody wakes any more.
    fn send(&self, reply: Reply<Self::Future, Self::Answer>) -> Option<Waker>;
    /// Returns whether nobody waits for the reply.
    fn is_closed(&self) -> bool;
    /// Returns whether the caller has given up, and the work is to be ended.
    fn is_given_up(&self) -> bool;
    /// Returns whether the next poll of the work is the first, and measured.
    fn begins_measured(&self) -> bool {
        false
    }
    /// Records that the task has ended the call, and will look for work once more. Returns false
    /// if the task has to end.
    fn become_idle(&self) -> bool {
        false
    }
    /// Returns whether the task was idle, and nobody can give it work any more.
    fn has_ended_idle(&self) -> bool {
        false
    }
}

/// The work of a call: the inner's future with its slot. Boxed, so that the task can leave the work
/// for the caller to find, and since every waiting request and every tombstone has room for work.
pub(crate) type Work<F, A> = Pin<Box<Running<F, A>>>;
