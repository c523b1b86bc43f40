use std::{
    sync::Arc,
    task::{Context, Poll},
    thread,
};

use tokio::sync::oneshot;
use tower::BoxError;

use super::{inner::Failure, running::Running};
use crate::{
    error::{Reason, Rejected},
    leveler::panics::contain,
};

/// The message to a caller from the drain task or the task of the call.
pub(crate) enum Reply<F: Future, A> {
    Done(A),
    /// The inner has been called, under `Execution::Caller`: run the future. Boxed, since every
    /// waiting request and every tombstone has room for a reply.
    Run(Box<Running<F, A>>),
    Failed(Failure),
}

impl<F: Future, A> Reply<F, A> {
    pub(crate) fn error(error: impl Into<BoxError>) -> Self {
        Self::Failed(Failure::Error(error.into()))
    }

    /// Returns the reply to a caller whose request was dropped unanswered. Only a bug here or a
    /// panicking `tracing` subscriber leads to this. An error is better than a hang.
    pub(crate) fn lost() -> Self {
        Self::error(Rejected::new(Reason::Closed))
    }

    /// Returns the reply for the result of a call; `Err` is a panic.
    pub(super) fn from_result(result: thread::Result<A>) -> Self {
        match result {
            Ok(output) => Self::Done(output),
            Err(panic) => Self::Failed(Failure::Panicked(panic)),
        }
    }
}

/// The reply channel of a queued request. The caller receives, and the task of the call sends.
pub(crate) trait ReplyChannel<F: Future, A>: Send + Sync {
    /// Polls for the reply, which comes once.
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Reply<F, A>>;
    /// Closes the receiving end, since the caller has gone. If `gives_up`, the request ends, too.
    fn close(&self, gives_up: bool);
    fn send(&self, reply: Reply<F, A>);
    /// Returns whether the receiving end is closed.
    fn is_closed(&self) -> bool;
    /// Resolves when the receiving end is closed.
    fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()>;
}

/// The destination of the reply from a call's task.
pub(crate) enum ReplyTo<F: Future, A> {
    /// A direct call.
    Oneshot(oneshot::Sender<Reply<F, A>>),
    /// A queued call.
    Queued(Arc<dyn ReplyChannel<F, A>>),
}

impl<F: Future, A> ReplyTo<F, A> {
    /// Returns whether nobody waits for the reply.
    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Oneshot(sender) => sender.is_closed(),
            Self::Queued(channel) => channel.is_closed(),
        }
    }

    pub(super) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Oneshot(sender) => sender.poll_closed(cx),
            Self::Queued(channel) => channel.poll_closed(cx),
        }
    }

    /// Sends the reply. If the caller has just gone, drops the reply, and contains a panic of the
    /// drop.
    pub(super) fn send(self, reply: Reply<F, A>) {
        contain(|| match self {
            Self::Oneshot(sender) => drop(sender.send(reply)),
            Self::Queued(channel) => channel.send(reply),
        });
    }
}
