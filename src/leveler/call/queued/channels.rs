//! The channels of a queued call: to its caller, and to its task.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::{
    super::{
        exchange::Left,
        reply::{Reply, ReplyChannel, TaskChannel, Work},
        task::give_up,
    },
    QueuedCall, cancel,
};
use crate::traits::InnerService;

impl<S, Req, R, A> ReplyChannel<S::Future, A> for QueuedCall<S, Req, R, A>
where
    S: InnerService<Req>,
    Req: Send + 'static,
    R: Send + Sync + 'static,
    A: Send + 'static,
{
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Reply<S::Future, A>> {
        self.exchange.poll_answer(cx)
    }

    fn recv_as_last(
        self: Arc<Self>,
    ) -> Result<Reply<S::Future, A>, Arc<dyn ReplyChannel<S::Future, A>>> {
        // Mostly the drain task has let go of the call by now.
        if !self.exchange.is_answered() {
            return Err(self);
        }
        match Arc::try_unwrap(self) {
            Ok(call) => Ok(call.exchange.into_answer().unwrap_or_else(Reply::broken_off)),
            Err(call) => Err(call),
        }
    }

    fn close(&self, gives_up: bool) {
        match self.exchange.abandon(gives_up) {
            Left::Request(parts) => cancel(parts, &self.terms),
            Left::Work(work, task) => give_up(&self.exchange, work, task),
            Left::Nothing => {}
        }
    }
}

impl<S, Req, R, A> TaskChannel for QueuedCall<S, Req, R, A>
where
    S: InnerService<Req>,
    Req: Send,
    R: Send + Sync,
    A: Send + 'static,
{
    type Future = S::Future;
    type Answer = A;

    fn take_work(&self) -> Option<Work<S::Future, A>> {
        self.exchange.take_work()
    }

    fn put_work(
        &self,
        work: Work<S::Future, A>,
        worker: Option<Waker>,
    ) -> Result<(), Work<S::Future, A>> {
        self.exchange.put_work(work, worker)
    }

    #[inline(always)]
    fn send(&self, reply: Reply<S::Future, A>) -> Option<Waker> {
        self.exchange.answer(reply).ok()?
    }

    fn is_closed(&self) -> bool {
        self.exchange.is_abandoned()
    }

    fn is_given_up(&self) -> bool {
        self.exchange.is_given_up()
    }
}
