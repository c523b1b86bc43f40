//! What a caller is told, and by which way.

use std::{
    sync::Arc,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use tokio::sync::oneshot;
use tower::BoxError;

use crate::leveler::{contain, in_flight::Running, inner::Failure};
use crate::{
    error::{Reason, Rejected},
    retry_after::RetryAfter,
};

/// What the drain task, or the task of a call, sends to the caller.
pub(crate) enum Reply<F: Future, A> {
    Done(A),
    /// `Execution::Caller`: the inner has been called; run it. In a box, as there is room for a reply in every request
    /// that waits, and in what is left of those that have gone.
    Run(Box<Running<F, A>>),
    Failed(Failure),
}

impl<F: Future, A> Reply<F, A> {
    pub(crate) fn error(error: impl Into<BoxError>) -> Self {
        Self::Failed(Failure::Error(error.into()))
    }

    /// When whoever had the request is gone without a word. That is for a bug of ours, or a panic in a subscriber of
    /// `tracing`: better than a hang.
    pub(crate) fn lost() -> Self {
        let (reason, waited) = (Reason::Closed, Duration::ZERO);
        let over_share = false;
        let retry_after = RetryAfter::NEVER;
        Self::error(Rejected { reason, retry_after, waited, queued: 0, limit: 0, over_share })
    }

    /// From what a call came to; `Err` is a panic.
    pub(crate) fn from_result(result: thread::Result<A>) -> Self {
        match result {
            Ok(output) => Self::Done(output),
            Err(panic) => Self::Failed(Failure::Panicked(panic)),
        }
    }
}

/// A request that was queued, as its caller sees it, and the task that it becomes.
pub(crate) trait ReplyChannel<F: Future, A>: Send + Sync {
    /// For the caller: the reply, once.
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Reply<F, A>>;
    /// The caller has gone, and the request with it if it gives that up.
    fn close(&self, gives_up: bool);
    fn send(&self, reply: Reply<F, A>);
    /// Whether the caller has gone.
    fn is_closed(&self) -> bool;
    /// For the task: resolves when the caller has gone.
    fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()>;
}

/// Where the task of a call sends its reply.
pub(crate) enum ReplyTo<F: Future, A> {
    /// It was made in `call`.
    Oneshot(oneshot::Sender<Reply<F, A>>),
    /// It was queued.
    Queued(Arc<dyn ReplyChannel<F, A>>),
}

impl<F: Future, A> ReplyTo<F, A> {
    /// Whether nobody waits for it.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Oneshot(sender) => sender.is_closed(),
            Self::Queued(channel) => channel.is_closed(),
        }
    }

    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Oneshot(sender) => sender.poll_closed(cx),
            Self::Queued(channel) => channel.poll_closed(cx),
        }
    }

    /// The caller may have gone just now; then nobody wants the reply, and its drop is contained.
    pub(crate) fn send(self, reply: Reply<F, A>) {
        contain(|| match self {
            Self::Oneshot(sender) => drop(sender.send(reply)),
            Self::Queued(channel) => channel.send(reply),
        });
    }
}
