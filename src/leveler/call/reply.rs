use std::{
    sync::Arc,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use tokio::sync::oneshot;
use tower::BoxError;

use super::{inner::Failure, running::Running};
use crate::{
    error::{Reason, Rejected},
    leveler::contain::contain,
    retry_after::RetryAfter,
};

/// What the drain task, or the task of a call, sends to the caller.
pub(crate) enum Reply<F: Future, A> {
    Done(A),
    /// The inner has been called, under `Execution::Caller`: run its future. Boxed, since there is
    /// room for a reply in every request that waits, and in every tombstone.
    Run(Box<Running<F, A>>),
    Failed(Failure),
}

impl<F: Future, A> Reply<F, A> {
    pub(crate) fn error(error: impl Into<BoxError>) -> Self {
        Self::Failed(Failure::Error(error.into()))
    }

    /// Returns the reply to a caller whose request was dropped unanswered. Only a bug here or a
    /// panicking `tracing` subscriber leads to it; an error is better than a hang.
    pub(crate) fn lost() -> Self {
        let (reason, waited) = (Reason::Closed, Duration::ZERO);
        let over_share = false;
        let retry_after = RetryAfter::NEVER;
        Self::error(Rejected { reason, retry_after, waited, queued: 0, limit: 0, over_share })
    }

    /// Returns the reply for the result of a call; `Err` is a panic.
    pub(super) fn from_result(result: thread::Result<A>) -> Self {
        match result {
            Ok(output) => Self::Done(output),
            Err(panic) => Self::Failed(Failure::Panicked(panic)),
        }
    }
}

/// The reply channel of a queued request: its caller receives, the task that the request becomes
/// sends.
pub(crate) trait ReplyChannel<F: Future, A>: Send + Sync {
    /// Polls for the reply, which comes once.
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Reply<F, A>>;
    /// Closes the receiving end: the caller has gone, and the request with it if it `gives_up`.
    fn close(&self, gives_up: bool);
    fn send(&self, reply: Reply<F, A>);
    /// Returns whether the receiving end is closed.
    fn is_closed(&self) -> bool;
    /// Resolves when the receiving end is closed.
    fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()>;
}

/// Where the task of a call sends its reply.
pub(crate) enum ReplyTo<F: Future, A> {
    /// To a call that was made directly.
    Oneshot(oneshot::Sender<Reply<F, A>>),
    /// To a call that was queued.
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

    /// Sends the reply. If the caller has gone just now, nobody wants it, and its drop is
    /// contained.
    pub(super) fn send(self, reply: Reply<F, A>) {
        contain(|| match self {
            Self::Oneshot(sender) => drop(sender.send(reply)),
            Self::Queued(channel) => channel.send(reply),
        });
    }
}
